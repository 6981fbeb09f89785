//! `secret.proto`'s service.

use super::input;
use crate::{hub::Hub, state::Reply};
use proto::hub::v1::{Command, PutSecret, SecretPut, command, secrets_server::Secrets};
use std::sync::Arc;
use tonic::{Request, Response, Status};

/// The longest name, in bytes, and the largest secret: a private key and a chain of certificates are a tenth of it.
const NAME_MAX: usize = 256;
const SEALED_MAX: usize = 64 << 10;

/// The longest time that one is kept for, if it has an end: a year.
const VALID_MAX_MS: u64 = 366 * 24 * 3600 * 1000;

/// The service.
#[derive(Debug, Clone)]
pub(crate) struct SecretService(pub(crate) Arc<Hub>);

fn check(put: &PutSecret) -> Result<(), Status> {
    if put.name.is_empty() {
        return Err(Status::invalid_argument("name is empty: expected 1 to 256 bytes"));
    }
    input::text("name", &put.name, NAME_MAX)?;
    if put.sealed.len() > SEALED_MAX {
        let text = format!("sealed has {} bytes: expected at most {SEALED_MAX}", put.sealed.len());
        return Err(Status::invalid_argument(text));
    }
    if put.valid_ms > VALID_MAX_MS {
        let text = format!("valid_ms is {}: expected at most {VALID_MAX_MS}", put.valid_ms);
        return Err(Status::invalid_argument(text));
    }
    Ok(())
}

#[tonic::async_trait]
impl Secrets for SecretService {
    async fn put(&self, request: Request<PutSecret>) -> Result<Response<SecretPut>, Status> {
        let put = request.into_inner();
        check(&put)?;
        let bytes = 128 + put.name.len() + put.sealed.len();
        let command = Command { command: Some(command::Command::PutSecret(put)) };
        match self.0.propose(vec![command], bytes).await?.pop() {
            Some(Reply::SecretPut(put)) => Ok(Response::new(put)),
            _ => Err(Status::internal("the hub's state answered another question")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_refused_by_field() {
        let refused = |put: PutSecret| check(&put).unwrap_err().message().to_owned();
        let good = PutSecret { name: "a".into(), sealed: vec![0; SEALED_MAX].into(), ..PutSecret::default() };
        assert!(check(&good).is_ok());
        assert!(refused(PutSecret { name: String::new(), ..good.clone() }).contains("name is empty"));
        assert!(refused(PutSecret { name: "x".repeat(257), ..good.clone() }).contains("name has 257"));
        assert!(refused(PutSecret { valid_ms: u64::MAX, ..good.clone() }).contains("valid_ms is 18446"));
        let large = PutSecret { sealed: vec![0; SEALED_MAX + 1].into(), ..good };
        assert!(refused(large).contains("sealed has 65537 bytes"));
    }
}
