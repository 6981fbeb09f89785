//! A browser's session: a signed cookie that every server of the cluster accepts, as its key comes from the cluster's. It names a user
//! and a time; what the user may do is in the file, as ever. Forms carry a token that is bound to it.

use crate::{Inner, gate, refusal::Refusal};
use base64ct::{Base64UrlUnpadded, Encoding};
use common::config::{AdminUser, Config, Secret};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use sha2::Sha256;

/// The cookie.
const COOKIE: &str = "copal-admin";

/// A session ends when its browser has loaded nothing for so long, and after so long in any case, in seconds.
const IDLE_S: u64 = 30 * 60;
const MAX_S: u64 = 12 * 3600;

/// How far other servers' clocks may be ahead, in seconds.
const AHEAD_S: u64 = 120;

/// A session that is used is told so as often, in seconds.
const RENEW_S: u64 = 60;

/// Longer cookies are none of ours.
const COOKIE_MAX: usize = 1024;

/// What derives keys from the cluster's.
const PURPOSE: &[u8] = b"copal administration: browser sessions, 1";

/// How the client reached the web-tier, by the web-tier's word.
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Who looks at a page.
#[derive(Debug)]
pub(crate) struct Visitor {
    pub(crate) user: AdminUser,
    /// What forms have to bring; `None` for who signs in with each request: such a one sends no forms.
    pub(crate) token: Option<String>,
    /// What an action that was done a moment ago has to say.
    pub(crate) done: String,
}

/// A session, as its cookie has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) user: String,
    begun_s: u64,
    seen_s: u64,
    /// Tells two sessions of one user apart.
    nonce: u128,
}

/// What signs sessions.
#[derive(Debug)]
pub(crate) struct Keys<'a> {
    config: &'a Config,
    /// For a cluster without a key, whose servers are all on this machine: this process's own.
    own: &'a [u8; 32],
}

impl<'a> Keys<'a> {
    pub(crate) fn new(config: &'a Config, own: &'a [u8; 32]) -> Self {
        Self { config, own }
    }

    fn current(&self) -> Hmac<Sha256> {
        let key = &self.config.cluster_key;
        if key.bytes().is_empty() { mac(self.own) } else { derived(key) }
    }

    /// While the cluster's key is changed, those who signed in by the other one stay.
    fn all(&self) -> impl Iterator<Item = Hmac<Sha256>> {
        let also = &self.config.cluster_key_also;
        [self.current()].into_iter().chain((!also.bytes().is_empty()).then(|| derived(also)))
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

fn derived(key: &Secret) -> Hmac<Sha256> {
    mac(&mac(key.bytes()).chain_update(PURPOSE).finalize().into_bytes())
}

impl Session {
    /// One that begins.
    pub(crate) fn begin(user: &AdminUser, now_s: u64) -> Self {
        Self { user: user.name.clone(), begun_s: now_s, seen_s: now_s, nonce: rand::random() }
    }

    /// The same, used now; `None`: it was told so a moment ago.
    fn renewed(&self, now_s: u64) -> Option<Self> {
        (now_s > self.seen_s + RENEW_S).then(|| Self { seen_s: now_s, ..self.clone() })
    }

    fn text(&self) -> String {
        format!("{}|{}|{}|{:032x}", self.user, self.begun_s, self.seen_s, self.nonce)
    }

    /// Over the user's password's hash as well: another password ends all sessions.
    fn signed(&self, mac: Hmac<Sha256>, user: &AdminUser) -> Hmac<Sha256> {
        let (text, hash) = (self.text(), user.password.to_string());
        mac.chain_update(b"session")
            .chain_update((text.len() as u64).to_le_bytes())
            .chain_update(text)
            .chain_update(hash)
    }

    /// What the browser keeps.
    fn cookie(&self, keys: &Keys<'_>, user: &AdminUser) -> String {
        let code = self.signed(keys.current(), user).finalize().into_bytes();
        let encode = |bytes: &[u8]| Base64UrlUnpadded::encode_string(bytes);
        format!("{}.{}", encode(self.text().as_bytes()), encode(&code))
    }

    /// Reads a cookie; `None`: it is none of ours, or the session has ended.
    fn read<'a>(
        value: &str,
        keys: &Keys<'_>,
        users: &'a [AdminUser],
        now_s: u64,
    ) -> Option<(Self, &'a AdminUser)> {
        let (text, code) = value.split_once('.').filter(|_| value.len() <= COOKIE_MAX)?;
        let code = Base64UrlUnpadded::decode_vec(code).ok()?;
        let text = String::from_utf8(Base64UrlUnpadded::decode_vec(text).ok()?).ok()?;
        let mut parts = text.rsplitn(4, '|');
        let nonce = u128::from_str_radix(parts.next()?, 16).ok()?;
        let (seen_s, begun_s) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let session = Self { user: parts.next()?.to_owned(), begun_s, seen_s, nonce };
        let session = Some(session).filter(|it| it.text() == text)?;
        let user = users.iter().find(|it| it.name == session.user)?;
        let ours = keys.all().any(|key| session.signed(key, user).verify_slice(&code).is_ok());
        (ours && session.lasts(now_s)).then_some((session, user))
    }

    fn lasts(&self, now_s: u64) -> bool {
        let (age, idle) = (now_s.saturating_sub(self.begun_s), now_s.saturating_sub(self.seen_s));
        let ahead = self.seen_s.max(self.begun_s).saturating_sub(now_s);
        age < MAX_S && idle < IDLE_S && ahead < AHEAD_S
    }

    /// What its forms bring.
    fn form_token(&self, mac: Hmac<Sha256>) -> Hmac<Sha256> {
        mac.chain_update(b"form").chain_update(self.nonce.to_le_bytes()).chain_update(&self.user)
    }

    /// The same as text.
    pub(crate) fn token(&self, keys: &Keys<'_>) -> String {
        Base64UrlUnpadded::encode_string(&self.form_token(keys.current()).finalize().into_bytes())
    }

    /// Whether a form was made for this session.
    pub(crate) fn made(&self, token: &str, keys: &Keys<'_>) -> bool {
        let Ok(token) = Base64UrlUnpadded::decode_vec(token) else { return false };
        keys.all().any(|key| self.form_token(key).verify_slice(&token).is_ok())
    }
}

impl Inner {
    /// The session that a request belongs to, with its user.
    pub(crate) fn session<'a>(
        &self,
        config: &'a Config,
        headers: &HeaderMap,
    ) -> Option<(Session, &'a AdminUser)> {
        let (keys, now_s) = (Keys::new(config, &self.browser_key), self.clock.unix_ms() / 1000);
        cookies(headers).find_map(|value| Session::read(value, &keys, &config.admin_users, now_s))
    }

    /// What makes a browser keep a session; `None` if it need not be told anew.
    pub(crate) fn renewal(&self, config: &Config, prefix: &str, headers: &HeaderMap) -> Option<HeaderValue> {
        let (session, user) = self.session(config, headers)?;
        let renewed = session.renewed(self.clock.unix_ms() / 1000)?;
        Some(self.set_cookie(config, prefix, headers, Some((&renewed, user))))
    }

    /// Makes a browser keep a session, or forget it.
    pub(crate) fn set_cookie(
        &self,
        config: &Config,
        prefix: &str,
        headers: &HeaderMap,
        session: Option<(&Session, &AdminUser)>,
    ) -> HeaderValue {
        let keys = Keys::new(config, &self.browser_key);
        let (value, age) = match session {
            Some((session, user)) => (session.cookie(&keys, user), MAX_S),
            None => (String::new(), 0),
        };
        let path = if prefix.is_empty() { "/" } else { prefix };
        let is_secure =
            headers.get(X_FORWARDED_PROTO).is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"https"));
        let secure = if is_secure { "; Secure" } else { "" };
        let cookie =
            format!("{COOKIE}={value}; Path={path}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::try_from(cookie).unwrap_or_else(|_| HeaderValue::from_static("copal-admin=; Max-Age=0"))
    }

    /// Who looks at a page: by a session, or by what tools sign in with.
    ///
    /// # Errors
    /// See [`Inner::sign_in`].
    pub(crate) async fn visitor(&self, config: &Config, headers: &HeaderMap) -> Result<Visitor, Refusal> {
        let keys = Keys::new(config, &self.browser_key);
        if let Some((session, user)) = self.session(config, headers) {
            return Ok(Visitor {
                user: user.clone(),
                token: Some(session.token(&keys)),
                done: String::new(),
            });
        }
        let user = self.sign_in(config, headers).await?.user;
        Ok(Visitor { user, token: None, done: String::new() })
    }

    /// Signs a user of a form in, by the same gate as all others.
    ///
    /// # Errors
    /// The password is wrong, or too many come at once.
    pub(crate) async fn sign_in_by_form(
        &self,
        config: &Config,
        headers: &HeaderMap,
        (user, password): (&str, &str),
    ) -> Result<Session, Refusal> {
        let mut asked = HeaderMap::new();
        for address in headers.get_all(gate::X_FORWARDED_FOR) {
            asked.append(gate::X_FORWARDED_FOR, address.clone());
        }
        let basic = base64ct::Base64::encode_string(format!("{user}:{password}").as_bytes());
        let basic = HeaderValue::try_from(format!("Basic {basic}")).map_err(|_| Refusal::Wrong)?;
        asked.insert(header::AUTHORIZATION, basic);
        let user = self.gate.admit(&config.admin_users, &asked).await?;
        tracing::info!(user = user.name, "signed in to the status page");
        Ok(Session::begin(user, self.clock.unix_ms() / 1000))
    }
}

/// The values of our cookie.
fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let fields = headers.get_all(header::COOKIE).iter().filter_map(|it| it.to_str().ok());
    let pairs = fields.flat_map(|field| field.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::planted;
    use proptest::prelude::*;

    const NOW: u64 = 1_800_000_000;

    fn read(value: &str, config: &Config, now_s: u64) -> Option<Session> {
        Session::read(value, &Keys::new(config, &[7; 32]), &config.admin_users, now_s).map(|it| it.0)
    }

    #[test]
    fn a_session_is_its_users_until_it_ends() {
        let config = planted::config();
        let (user, keys) = (&config.admin_users[0], Keys::new(&config, &[7; 32]));
        let session = Session::begin(user, NOW);
        let cookie = session.cookie(&keys, user);
        assert_eq!(read(&cookie, &config, NOW), Some(session.clone()));
        assert_eq!(read(&cookie, &config, NOW + IDLE_S - 1), Some(session.clone()));
        assert_eq!(read(&cookie, &config, NOW + IDLE_S), None, "idle");
        assert_eq!(read(&cookie, &config, NOW - AHEAD_S), None, "of the future");
        let mut used = session.clone();
        for step in 1..=(MAX_S / 600) {
            used = used.renewed(NOW + step * 600).unwrap();
        }
        assert_eq!(read(&used.cookie(&keys, user), &config, NOW + MAX_S - 1), Some(used.clone()));
        assert_eq!(
            read(&used.cookie(&keys, user), &config, NOW + MAX_S),
            None,
            "too old, though it was used"
        );
        assert_eq!(session.renewed(NOW + RENEW_S), None);
    }

    #[test]
    fn another_password_key_or_user_ends_it() {
        let config = planted::config();
        let cookie = |config: &Config| {
            let user = &config.admin_users[0];
            Session::begin(user, NOW).cookie(&Keys::new(config, &[7; 32]), user)
        };
        let ours = cookie(&config);
        let mut other = config.clone();
        other.admin_users[0].password = common::password::PasswordHash::new(b"another", [1; 16]);
        assert_eq!(read(&ours, &other, NOW), None);
        let mut other = config.clone();
        other.cluster_key = Secret::from(&b"another key of the cluster"[..]);
        assert_eq!(read(&ours, &other, NOW), None);
        other.cluster_key_also = config.cluster_key.clone();
        assert!(read(&ours, &other, NOW).is_some(), "while the key is changed");
        let mut other = config;
        other.admin_users[0].name = "eve".into();
        assert_eq!(read(&ours, &other, NOW), None);
    }

    #[test]
    fn a_forms_token_is_its_sessions_alone() {
        let config = planted::config();
        let keys = Keys::new(&config, &[7; 32]);
        let (one, two) =
            (Session::begin(&config.admin_users[0], NOW), Session::begin(&config.admin_users[0], NOW));
        assert!(one.made(&one.token(&keys), &keys) && !one.made(&two.token(&keys), &keys));
        assert!(!one.made("", &keys) && !one.made("x", &keys));
    }

    #[test]
    fn a_cookie_is_written_in_one_way() {
        let config = planted::config();
        let (user, keys) = (&config.admin_users[0], Keys::new(&config, &[7; 32]));
        let session = Session { nonce: 0xa, ..Session::begin(user, NOW) };
        let cookie = session.cookie(&keys, user);
        let (_, code) = cookie.split_once('.').unwrap();
        for same in [session.text().replace("0a", "0A"), session.text().replace("00a", "+0a")] {
            let other = format!("{}.{code}", Base64UrlUnpadded::encode_string(same.as_bytes()));
            assert_eq!(read(&other, &config, NOW), None, "{same}");
        }
        assert_eq!(read(&cookie, &config, NOW), Some(session));
    }

    proptest! {
        #[test]
        fn whatever_a_cookie_says_is_none_of_ours(value in ".{0,200}", at in 0_usize..200, byte in any::<u8>()) {
            let config = planted::config();
            prop_assert_eq!(read(&value, &config, NOW), None);
            let user = &config.admin_users[0];
            let mut cookie = Session::begin(user, NOW).cookie(&Keys::new(&config, &[7; 32]), user).into_bytes();
            let at = at % cookie.len();
            if cookie[at] != byte {
                cookie[at] = byte;
                prop_assert_eq!(read(&String::from_utf8_lossy(&cookie), &config, NOW), None);
            }
        }
    }
}
