//! What requests may hold. A refusal names the field, its value and what was expected.

use crate::serve::Caller;
use common::service_name::ServiceName;
use prost::Message;
use proto::hub::v1::{LeaseKey, RenameSession, SessionKey, SessionWrite, session_write::Write};
use tonic::Status;

const ID_MAX: usize = 128;
const APP_MAX: usize = 256;
const SERVER_MAX: usize = 255;
const WRITES_MAX: usize = 4096;
const WRITES_BYTES: usize = 4 << 20;
const SESSION_BYTES: usize = 48 << 20;
/// A year's worth of milliseconds times a thousand: beyond it a time-out is a mistake.
const TIMEOUT_MAX_MS: u64 = 1000 * 366 * 24 * 3600 * 1000;

fn shown(value: &str) -> String {
    let shown: String = value.chars().take(40).collect();
    if shown.len() < value.len() {
        format!("{shown:?}… ({} bytes)", value.len())
    } else {
        format!("{value:?}")
    }
}

fn name(field: &str, value: &str, max: usize) -> Result<(), Status> {
    if value.is_empty() || value.len() > max || value.contains('\0') {
        let found = shown(value);
        return Err(Status::invalid_argument(format!(
            "{field} is {found}: expected 1 to {max} bytes without NUL"
        )));
    }
    Ok(())
}

/// A server's id.
pub(super) fn server(field: &str, value: &str) -> Result<(), Status> {
    name(field, value, SERVER_MAX)
}

/// A server speaks of itself alone: the name in a request is the one that its connection has proved.
pub(super) fn own(field: &str, value: &str, caller: Option<&Caller>) -> Result<(), Status> {
    if caller.is_some_and(|Caller(caller)| caller.as_str() == value) {
        return Ok(());
    }
    let caller = caller.map_or("nobody", |Caller(caller)| caller.as_str());
    let found = shown(value);
    Err(Status::permission_denied(format!("{field} is {found}: expected the caller's own id, {caller}")))
}

/// An app's tag: stage/webapp/host/name[-version], each part such that it may stand in a reference's name and in a path.
pub(super) fn tag(field: &str, value: &str) -> Result<(), Status> {
    if common::app_tag::AppTag::parse(value).is_ok() {
        return Ok(());
    }
    let found = shown(value);
    Err(Status::invalid_argument(format!(
        "{field} is {found}: expected stage/webapp/host/name or …/name-version"
    )))
}

/// An object's id; `or_empty`: or none.
pub(super) fn object(field: &str, value: &[u8], or_empty: bool) -> Result<(), Status> {
    if value.len() == 20 || (or_empty && value.is_empty()) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field} has {} bytes: expected 20", value.len())))
}

/// A SHA-256.
pub(super) fn hash(field: &str, value: &[u8]) -> Result<(), Status> {
    if value.len() == 32 {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field} has {} bytes: expected 32", value.len())))
}

/// A text for people.
pub(super) fn text(field: &str, value: &str, max: usize) -> Result<(), Status> {
    if value.len() <= max {
        return Ok(());
    }
    Err(Status::invalid_argument(format!("{field} has {} bytes: expected at most {max}", value.len())))
}

/// A session's key.
pub(super) fn key(field: &str, key: Option<&SessionKey>) -> Result<(), Status> {
    let key = key.ok_or_else(|| Status::invalid_argument(format!("{field} is missing")))?;
    name(&format!("{field}.app"), &key.app, APP_MAX)?;
    name(&format!("{field}.id"), &key.id, ID_MAX)
}

/// A lease's key.
pub(super) fn lease(field: &str, key: Option<&LeaseKey>) -> Result<(), Status> {
    let key = key.ok_or_else(|| Status::invalid_argument(format!("{field} is missing")))?;
    if !key.app.is_empty() {
        name(&format!("{field}.app"), &key.app, APP_MAX)?;
    }
    service_name(&format!("{field}.name"), &key.name)
}

/// A name of what apps share.
pub(super) fn service_name(field: &str, name: &str) -> Result<(), Status> {
    if ServiceName::new(name).is_ok() {
        return Ok(());
    }
    let (found, expected) = (shown(name), ServiceName::EXPECTED);
    Err(Status::invalid_argument(format!("{field} is {found}: expected {expected}")))
}

/// A session's id.
pub(super) fn session_id(field: &str, value: &str) -> Result<(), Status> {
    name(field, value, ID_MAX)
}

/// The name of an app on the hub.
pub(super) fn app(field: &str, value: &str) -> Result<(), Status> {
    name(field, value, APP_MAX)
}

/// A call's writes; their size in bytes.
pub(super) fn writes(writes: &[SessionWrite]) -> Result<usize, Status> {
    if writes.len() > WRITES_MAX {
        let count = writes.len();
        return Err(Status::invalid_argument(format!(
            "writes has {count} entries: expected at most {WRITES_MAX}"
        )));
    }
    let mut bytes = 0;
    for (place, it) in writes.iter().enumerate() {
        let size = it.encoded_len();
        if size > SESSION_BYTES {
            let text = format!("writes[{place}] has {size} bytes: expected at most {SESSION_BYTES}");
            return Err(Status::invalid_argument(text));
        }
        bytes += size;
        write(place, it)?;
    }
    if bytes > WRITES_BYTES && writes.len() > 1 {
        let text = format!("writes have {bytes} bytes: expected at most {WRITES_BYTES}, or a single one");
        return Err(Status::invalid_argument(text));
    }
    Ok(bytes)
}

fn write(place: usize, write: &SessionWrite) -> Result<(), Status> {
    let field = |name: &str| format!("writes[{place}].{name}");
    match &write.write {
        Some(Write::Save(save)) => {
            key(&field("save.key"), save.key.as_ref())?;
            server(&field("save.owner"), &save.owner)?;
            timeout(&field("save.timeout_ms"), save.timeout_ms)
        }
        Some(Write::Touch(touch)) => key(&field("touch.key"), touch.key.as_ref()),
        Some(Write::Remove(remove)) => key(&field("remove.key"), remove.key.as_ref()),
        Some(Write::Claim(claim)) => {
            key(&field("claim.key"), claim.key.as_ref())?;
            server(&field("claim.owner"), &claim.owner)
        }
        Some(Write::Rename(it)) => rename(&field("rename"), it),
        None => Err(Status::invalid_argument(format!(
            "{}: expected save, touch, remove, claim or rename",
            field("write")
        ))),
    }
}

fn rename(field: &str, rename: &RenameSession) -> Result<(), Status> {
    key(&format!("{field}.key"), rename.key.as_ref())?;
    name(&format!("{field}.to"), &rename.to, ID_MAX)?;
    if rename.key.as_ref().is_some_and(|key| key.id == rename.to) {
        let found = shown(&rename.to);
        return Err(Status::invalid_argument(format!(
            "{field}.to is {found}: expected another id than key.id"
        )));
    }
    server(&format!("{field}.owner"), &rename.owner)?;
    timeout(&format!("{field}.timeout_ms"), rename.timeout_ms)
}

fn timeout(field: &str, found: u64) -> Result<(), Status> {
    if found > TIMEOUT_MAX_MS {
        return Err(Status::invalid_argument(format!(
            "{field} is {found}: expected at most {TIMEOUT_MAX_MS}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::hub::v1::{SaveSession, TouchSession};

    fn touch(app: &str, id: &str) -> SessionWrite {
        let key = Some(SessionKey { app: app.into(), id: id.into() });
        SessionWrite { write: Some(Write::Touch(TouchSession { key })) }
    }

    fn refused(writes_: &[SessionWrite]) -> String {
        writes(writes_).unwrap_err().message().to_owned()
    }

    #[test]
    fn good_writes_are_weighed() {
        assert!(writes(&[touch("shop", "abc")]).unwrap() > 7);
        assert_eq!(writes(&[]).unwrap(), 0);
    }

    #[test]
    fn bad_writes_are_refused_by_field_and_value() {
        assert_eq!(
            refused(&[touch("shop", "a"), touch("shop", "")]),
            "writes[1].touch.key.id is \"\": expected 1 to 128 bytes without NUL"
        );
        assert!(refused(&[touch(&"x".repeat(257), "a")]).contains("writes[0].touch.key.app is \"xxx"));
        assert!(refused(&[touch("a\0b", "a")]).contains("without NUL"));
        assert!(refused(&[SessionWrite { write: None }]).contains("writes[0].write: expected save"));
        let keyless = SessionWrite { write: Some(Write::Save(SaveSession::default())) };
        assert!(refused(&[keyless]).contains("writes[0].save.key is missing"));
        assert!(refused(&vec![touch("shop", "a"); 4097]).contains("4097"));
        let rename = |to: &str, timeout_ms| {
            let key = Some(SessionKey { app: "shop".into(), id: "a".into() });
            let rename = RenameSession {
                key,
                to: to.into(),
                owner: "b".into(),
                timeout_ms,
                ..RenameSession::default()
            };
            [SessionWrite { write: Some(Write::Rename(rename)) }]
        };
        assert!(writes(&rename("b", 0)).is_ok());
        assert!(refused(&rename("", 0)).contains("writes[0].rename.to is \"\""));
        assert!(refused(&rename("a", 0)).contains("writes[0].rename.to is \"a\": expected another id"));
        assert!(
            refused(&rename("b", u64::MAX)).contains("writes[0].rename.timeout_ms is 18446744073709551615")
        );
    }

    #[test]
    fn one_session_may_be_large_but_not_many() {
        let save = |bytes: usize| {
            let save = SaveSession {
                key: Some(SessionKey { app: "shop".into(), id: "a".into() }),
                owner: "app-a".into(),
                set: [("x".to_owned(), vec![0; bytes].into())].into(),
                ..SaveSession::default()
            };
            SessionWrite { write: Some(Write::Save(save)) }
        };
        assert!(writes(&[save(5 << 20)]).is_ok());
        assert!(refused(&[save(3 << 20), save(3 << 20)]).contains("a single one"));
        assert!(refused(&[save(49 << 20)]).contains("writes[0] has"));
    }
}
