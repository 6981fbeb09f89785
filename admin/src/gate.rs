//! Who is it? A password is shown to the [`PasswordGate`], and so is what nobody knows: an address that has guessed too often at either
//! waits for both.

use crate::refusal::Refusal;
use common::{clock::Clock, config::AdminUser};
use http::{HeaderMap, HeaderName, header};
use password_gate::{Credentials, PasswordGate, Refused};
use proto::hub::v1::Token;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};
use tokio::sync::Semaphore;

/// Tokens that the hub is asked for at once.
const TOKENS: usize = 16;

/// The client's address, by the word of the web-tier.
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Where nobody knows the client.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Lets users in.
#[derive(Debug)]
pub(crate) struct Gate {
    passwords: PasswordGate,
    tokens: Semaphore,
}

impl Gate {
    /// With a random `key`.
    pub(crate) fn new(clock: Arc<dyn Clock>, key: [u8; 32]) -> Self {
        Self { passwords: PasswordGate::new(clock, key), tokens: Semaphore::new(TOKENS) }
    }

    /// How often a password or a token was wrong.
    pub(crate) fn failures(&self) -> u64 {
        self.passwords.failures()
    }

    /// The user that a request comes from.
    ///
    /// # Errors
    /// There are no users, the request names none, its password is wrong, or too many come at once.
    pub(crate) async fn admit<'a>(
        &self,
        users: &'a [AdminUser],
        headers: &HeaderMap,
    ) -> Result<&'a AdminUser, Refusal> {
        if users.is_empty() {
            return Err(Refusal::NoUsers);
        }
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Err(Refusal::SignIn("sign in with a user of `admin` in the configuration file"));
        };
        let credentials = Credentials::read(value.as_bytes()).map_err(Refusal::SignIn)?;
        let address = client(headers).unwrap_or(UNKNOWN);
        let admitted = self.passwords.admit(users, &credentials, address).await;
        if matches!(admitted, Err(Refused::Wrong)) {
            self.tell(&credentials.name, address);
        }
        Ok(admitted?)
    }

    /// The token that a request brings: the one that is `known` here, or else to the hub, which is then `asked`. Who brings one that
    /// nobody knows has guessed, as with a password.
    ///
    /// # Errors
    /// There is no such token, the hub does not answer, or too many come at once.
    pub(crate) async fn admit_token(
        &self,
        headers: &HeaderMap,
        known: Option<Token>,
        asked: impl Future<Output = Result<Option<Token>, Refusal>>,
    ) -> Result<Token, Refusal> {
        let address = client(headers).unwrap_or(UNKNOWN);
        self.passwords.may_try(address)?;
        if let Some(known) = known {
            return Ok(known);
        }
        let attempt = self.passwords.attempt(address)?;
        let found = match self.tokens.try_acquire() {
            Ok(_place) => asked.await,
            Err(_) => Err(Refusal::Crowded),
        };
        if let Ok(None) = found {
            attempt.failed();
            self.tell("a token", address);
            return Err(Refusal::WrongToken);
        }
        attempt.was_none();
        found.and_then(|it| it.ok_or(Refusal::WrongToken))
    }

    /// A failure, for the log.
    fn tell(&self, user: &str, address: IpAddr) {
        let (failures, slowed) = (self.passwords.failures(), self.passwords.slowed());
        tracing::warn!(?user, %address, failures, slowed, "a sign-in to the administration failed");
    }
}

/// The client as the web-tier has it: the last address that was added.
pub(crate) fn client(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all(X_FORWARDED_FOR).iter().next_back();
    let text = last.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let text = text.rsplit(',').next().unwrap_or_default().trim();
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64ct::{Base64, Encoding};
    use common::{clock::SystemClock, config::Role, password::PasswordHash};
    use http::HeaderValue;

    /// Of `password`, cheap.
    const HASH: &str = "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4";

    fn user(name: &str, hash: &str) -> AdminUser {
        let password = PasswordHash::parse(hash).unwrap();
        AdminUser { name: name.into(), password, roles: vec![Role::View] }
    }

    fn gate() -> Gate {
        Gate::new(Arc::new(SystemClock), [7; 32])
    }

    fn headers(name: &str, password: &str) -> HeaderMap {
        let value = format!("Basic {}", Base64::encode_string(format!("{name}:{password}").as_bytes()));
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[tokio::test]
    async fn the_right_password_is_let_in() {
        let bcrypt = "$2y$04$abcdefghijklmnopqrstuughE8Ev8uGFaUgY2cNEySvxngrb/Jzdm";
        let (gate, users) = (gate(), [user("ops", HASH), user("other", bcrypt)]);
        for name in ["ops", "other"] {
            assert_eq!(gate.admit(&users, &headers(name, "password")).await.unwrap().name, name);
        }
        assert_eq!(gate.failures(), 0);
    }

    fn from(address: &'static str, headers: HeaderMap) -> HeaderMap {
        let mut headers = headers;
        headers.insert(X_FORWARDED_FOR, HeaderValue::from_static(address));
        headers
    }

    /// Whether the guess is right or not, remembered or not: who has to wait gets the same word, and so learns nothing.
    #[tokio::test]
    async fn a_slowed_address_hears_the_same_of_right_and_wrong_passwords_and_others_are_let_in() {
        let (gate, users) = (gate(), [user("ops", HASH)]);
        gate.admit(&users, &from("192.0.2.1", headers("ops", "password"))).await.unwrap();
        let guess = |name: &str, password: &str| from("192.0.2.66", headers(name, password));
        for n in 0..6 {
            let refused =
                gate.admit(&users, &guess(if n % 2 == 0 { "ops" } else { "nobody" }, "guess")).await;
            assert!(matches!(refused, Err(Refusal::Wrong)), "{refused:?}");
        }
        for (name, password) in [("ops", "password"), ("ops", "guess"), ("nobody", "password")] {
            let refused = gate.admit(&users, &guess(name, password)).await;
            assert!(matches!(refused, Err(Refusal::Slowed(_))), "{name} {password}: {refused:?}");
        }
        assert_eq!((gate.failures(), gate.passwords.slowed()), (6, 3));
        gate.admit(&users, &from("192.0.2.1", headers("ops", "password"))).await.unwrap();
    }

    #[tokio::test]
    async fn tokens_that_nobody_knows_are_guesses_and_known_ones_are_not_looked_up() {
        let gate = gate();
        let headers = from("192.0.2.66", HeaderMap::new());
        let token = Token { name: "ci".into(), ..Token::default() };
        let unasked = async { panic!("nobody is asked") };
        assert_eq!(gate.admit_token(&headers, Some(token.clone()), unasked).await.unwrap().name, "ci");
        for _ in 0..9 {
            assert_eq!(
                gate.admit_token(&headers, None, async { Ok(Some(token.clone())) }).await.unwrap().name,
                "ci"
            );
            let away = gate.admit_token(&headers, None, async { Err(Refusal::Crowded) }).await;
            assert!(matches!(away, Err(Refusal::Crowded)), "a hub that is away makes nobody a guesser");
        }
        for _ in 0..6 {
            let refused = gate.admit_token(&headers, None, async { Ok(None) }).await;
            assert!(matches!(refused, Err(Refusal::WrongToken)), "{refused:?}");
        }
        let refused = gate.admit_token(&headers, Some(token), async { Ok(None) }).await;
        assert!(matches!(refused, Err(Refusal::Slowed(_))), "{refused:?}");
        assert_eq!(gate.failures(), 6);
    }

    #[tokio::test]
    async fn without_users_or_credentials_nobody_is_let_in() {
        let (gate, users) = (gate(), [user("ops", HASH)]);
        assert!(matches!(gate.admit(&[], &headers("ops", "password")).await, Err(Refusal::NoUsers)));
        assert!(matches!(gate.admit(&users, &HeaderMap::new()).await, Err(Refusal::SignIn(_))));
    }

    #[test]
    fn the_client_is_whom_the_web_tier_names() {
        let of = |values: &[&'static str]| {
            let fields = values.iter().map(|value| (X_FORWARDED_FOR, value.parse().unwrap()));
            client(&fields.collect::<HeaderMap>()).unwrap_or(UNKNOWN).to_string()
        };
        assert_eq!(of(&["192.0.2.1"]), "192.0.2.1");
        assert_eq!(of(&["6.6.6.6", "7.7.7.7, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(of(&["2001:db8::1"]), "2001:db8::1");
        assert_eq!(of(&["what?"]), "0.0.0.0");
        assert_eq!(of(&[]), "0.0.0.0");
    }
}
