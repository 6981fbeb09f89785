//! Who is it? An address that has guessed too often waits, whatever it brings. Passwords are verified on threads that may block,
//! few at once; the last that was right of each user is remembered, so that a page which asks every second does not cost 64 MiB
//! each time.

use crate::{basic, basic::Credentials, refusal::Refusal, throttle, throttle::Throttle};
use common::{clock::Clock, config::AdminUser, password::PasswordHash};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, header};
use proto::hub::v1::Token;
use sha2::Sha256;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;

/// Passwords that are verified at once.
const AT_ONCE: usize = 2;

/// Sign-ins of one user that are verified or wait for that; all names that are no user's count as one user. Whoever guesses at one
/// user from many addresses keeps no other one out.
const PLACES: usize = 8;

/// Tokens that the hub is asked for at once.
const TOKENS: usize = 16;

/// How long one waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// The client's address, by the word of the web-tier.
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Lets users in.
pub(crate) struct Gate {
    clock: Arc<dyn Clock>,
    /// Of this process alone: what is remembered is worth nothing elsewhere.
    key: [u8; 32],
    /// By user: the code of the last credentials that were right.
    remembered: Mutex<HashMap<String, [u8; 32]>>,
    throttle: Mutex<Throttle>,
    turns: Arc<Semaphore>,
    /// The places of each user; of all others under no name.
    places: Mutex<HashMap<Option<String>, Arc<Semaphore>>>,
    tokens: Semaphore,
    failures: AtomicU64,
    slowed: AtomicU64,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("failures", &self.failures).finish_non_exhaustive()
    }
}

impl Gate {
    /// With a random `key`.
    pub(crate) fn new(clock: Arc<dyn Clock>, key: [u8; 32]) -> Self {
        Self {
            clock,
            key,
            remembered: Mutex::default(),
            throttle: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            places: Mutex::default(),
            tokens: Semaphore::new(TOKENS),
            failures: AtomicU64::new(0),
            slowed: AtomicU64::new(0),
        }
    }

    /// How often a password or a token was wrong.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
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
        let credentials = basic::read(value).map_err(Refusal::SignIn)?;
        let address = client(headers).unwrap_or(throttle::UNKNOWN);
        // Before anything depends on the password: a slowed address must not learn which one would be right.
        self.let_try(|throttle, now| throttle.ask(address, now))?;
        let user = users.iter().find(|it| it.name == credentials.name);
        if let Some(user) = user
            && self.remembers(user, &credentials)
        {
            return Ok(user);
        }
        self.let_try(|throttle, now| throttle.begin(address, now))?;
        let right = match self.verify(users, user, &credentials).await {
            Ok(right) => right,
            Err(crowded) => {
                self.lock_throttle().succeeded(address);
                return Err(crowded);
            }
        };
        match user.filter(|_| right) {
            Some(user) => {
                self.lock_throttle().succeeded(address);
                self.lock_remembered().insert(user.name.clone(), self.code(user, &credentials).into());
                Ok(user)
            }
            None => {
                self.failed(&credentials.name, address);
                Err(Refusal::Wrong)
            }
        }
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
        let address = client(headers).unwrap_or(throttle::UNKNOWN);
        self.let_try(|throttle, now| throttle.ask(address, now))?;
        if let Some(known) = known {
            return Ok(known);
        }
        self.let_try(|throttle, now| throttle.begin(address, now))?;
        let found = match self.tokens.try_acquire() {
            Ok(_place) => asked.await,
            Err(_) => Err(Refusal::Crowded),
        };
        if let Ok(None) = found {
            self.failed("a token", address);
            return Err(Refusal::WrongToken);
        }
        self.lock_throttle().succeeded(address);
        found.and_then(|it| it.ok_or(Refusal::WrongToken))
    }

    fn failed(&self, user: &str, address: IpAddr) {
        let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
        let slowed = self.slowed.load(Ordering::Relaxed);
        tracing::warn!(?user, %address, failures, slowed, "a sign-in to the administration failed");
    }

    /// Asks the throttle, and counts those that have to wait.
    fn let_try(
        &self,
        ask: impl FnOnce(&mut Throttle, Instant) -> Result<(), Duration>,
    ) -> Result<(), Refusal> {
        ask(&mut self.lock_throttle(), self.clock.now()).map_err(|wait| {
            self.slowed.fetch_add(1, Ordering::Relaxed);
            Refusal::Slowed(wait)
        })
    }

    /// Whether the password is `user`'s. The time tells neither who there is nor whose hash costs what: for each cost that a hash of
    /// the file has, one is computed.
    async fn verify(
        &self,
        users: &[AdminUser],
        user: Option<&AdminUser>,
        credentials: &Credentials,
    ) -> Result<bool, Refusal> {
        let hashes = one_of_each_cost(users, user);
        let (own, password) = (user.map(|it| it.password.clone()), credentials.password.clone());
        let places = self.places_of(users, user.map(|it| it.name.as_str()));
        let work = move || {
            hashes
                .iter()
                .fold(false, |right, hash| right | (hash.verify(&password) & (Some(hash) == own.as_ref())))
        };
        self.in_turn(places, work).await
    }

    fn places_of(&self, users: &[AdminUser], name: Option<&str>) -> Arc<Semaphore> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        // Users come and go with the file.
        places.retain(|of, _| of.as_ref().is_none_or(|of| users.iter().any(|it| it.name == *of)));
        Arc::clone(places.entry(name.map(str::to_owned)).or_insert_with(|| Arc::new(Semaphore::new(PLACES))))
    }

    /// Runs `work` on a thread that may block, as one of [`AT_ONCE`] and of its user's [`PLACES`] until it has really ended: the
    /// permits go with the work, not with whoever waits for it. A client that goes away drops the future, and the hash and its
    /// memory live on.
    async fn in_turn(
        &self,
        places: Arc<Semaphore>,
        work: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<bool, Refusal> {
        let place = places.try_acquire_owned().map_err(|_| Refusal::Crowded)?;
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Refusal::Crowded) };
        let permits = (place, turn);
        let worked = tokio::task::spawn_blocking(move || {
            let _permits = permits;
            work()
        });
        Ok(worked.await.unwrap_or_default())
    }

    fn remembers(&self, user: &AdminUser, credentials: &Credentials) -> bool {
        let Some(known) = self.lock_remembered().get(&user.name).copied() else { return false };
        self.mac(user, credentials).verify_slice(&known).is_ok()
    }

    fn code(&self, user: &AdminUser, credentials: &Credentials) -> hmac::digest::Output<Hmac<Sha256>> {
        self.mac(user, credentials).finalize().into_bytes()
    }

    /// Over the hash as well: a user whose password changes in the file is another one.
    fn mac(&self, user: &AdminUser, credentials: &Credentials) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        let hash = user.password.to_string();
        for part in [user.name.as_bytes(), hash.as_bytes(), &credentials.password] {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }

    fn lock_remembered(&self) -> MutexGuard<'_, HashMap<String, [u8; 32]>> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A hash of each cost that there is among the users': `user`'s own for its cost.
fn one_of_each_cost(users: &[AdminUser], user: Option<&AdminUser>) -> Vec<PasswordHash> {
    let mut hashes: Vec<PasswordHash> = Vec::new();
    for user in user.into_iter().chain(users) {
        if hashes.iter().all(|it| it.cost() != user.password.cost()) {
            hashes.push(user.password.clone());
        }
    }
    hashes
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
    use common::{clock::SystemClock, config::Role};
    use futures_util::FutureExt;
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
    async fn the_right_password_is_let_in_and_remembered() {
        let (gate, users) = (gate(), [user("ops", HASH), user("other", HASH)]);
        for _ in 0..50 {
            assert_eq!(gate.admit(&users, &headers("ops", "password")).await.unwrap().name, "ops");
        }
        assert_eq!(gate.failures(), 0);
        let remembers = |user: usize, password: &str| {
            let name = users[user].name.clone();
            gate.remembers(&users[user], &Credentials { name, password: password.into() })
        };
        assert!(remembers(0, "password") && !remembers(0, "passwore") && !remembers(1, "password"));
    }

    #[tokio::test]
    async fn a_changed_hash_forgets_the_old_password() {
        let gate = gate();
        let (before, after) = ([user("ops", HASH)], [user("ops", &HASH.replace("nf65", "nf66"))]);
        gate.admit(&before, &headers("ops", "password")).await.unwrap();
        let refused = gate.admit(&after, &headers("ops", "password")).await;
        assert!(matches!(refused, Err(Refusal::Wrong)), "{refused:?}");
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
        assert_eq!((gate.failures(), gate.slowed.load(Ordering::Relaxed)), (6, 3));
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

    /// Two users whose hashes cost differently: whoever is named, each cost is paid once.
    #[test]
    fn the_same_work_is_done_for_every_name() {
        let users = [user("ops", HASH), user("dev", HASH), user("slow", &HASH.replace("t=2", "t=4"))];
        let costs = |name: &str| {
            let named = users.iter().find(|it| it.name == name);
            let mut hashes = one_of_each_cost(&users, named);
            assert!(named.is_none_or(|it| hashes.contains(&it.password)));
            hashes.sort_by_key(PasswordHash::cost);
            hashes.iter().map(PasswordHash::cost).collect::<Vec<_>>()
        };
        assert_eq!(costs("nobody").len(), 2);
        assert!(["ops", "dev", "slow"].iter().all(|name| costs(name) == costs("nobody")));
    }

    #[tokio::test]
    async fn a_password_of_another_user_is_wrong() {
        let gate = gate();
        let users = [user("ops", HASH), user("dev", &HASH.replace("nf65", "nf66").replace("t=2", "t=3"))];
        for name in ["dev", "nobody"] {
            let refused = gate.admit(&users, &headers(name, "password")).await;
            assert!(matches!(refused, Err(Refusal::Wrong)), "{name}: {refused:?}");
        }
        gate.admit(&users, &headers("ops", "password")).await.unwrap();
    }

    /// Guesses at one user, or at names that are none's, from as many addresses as one likes.
    #[tokio::test]
    async fn who_fills_the_queue_of_one_user_keeps_no_other_out() {
        let (gate, users) = (gate(), [user("ops", HASH), user("dev", HASH)]);
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let may_end = Arc::new(Mutex::new(may_end));
        let mut asked = Vec::new();
        for name in [Some("ops"), None] {
            for _ in 0..PLACES {
                let may_end = Arc::clone(&may_end);
                let work = move || may_end.lock().unwrap().recv().is_ok();
                asked.push(Box::pin(gate.in_turn(gate.places_of(&users, name), work)));
            }
        }
        assert!(asked.iter_mut().all(|it| it.as_mut().now_or_never().is_none()));
        for name in ["ops", "nobody"] {
            let refused = gate.admit(&users, &headers(name, "password")).await;
            assert!(matches!(refused, Err(Refusal::Crowded)), "{name}: {refused:?}");
        }
        let dev = headers("dev", "password");
        let mut dev = Box::pin(gate.admit(&users, &dev));
        assert!(dev.as_mut().now_or_never().is_none(), "it waits for its turn");
        for _ in 0..asked.len() {
            end.send(()).unwrap();
        }
        let (let_in, all) = tokio::join!(dev, futures_util::future::join_all(asked));
        assert_eq!(let_in.unwrap().name, "dev");
        assert!(all.iter().all(Result::is_ok));
    }

    #[tokio::test]
    async fn without_users_or_credentials_nobody_is_let_in() {
        let (gate, users) = (gate(), [user("ops", HASH)]);
        assert!(matches!(gate.admit(&[], &headers("ops", "password")).await, Err(Refusal::NoUsers)));
        assert!(matches!(gate.admit(&users, &HeaderMap::new()).await, Err(Refusal::SignIn(_))));
    }

    /// A client that goes away while its password is hashed does not make room for the next one.
    #[tokio::test]
    async fn the_turn_ends_with_the_hash_and_not_with_the_client() {
        let (gate, users) = (gate(), [user("ops", HASH)]);
        let (started, has_started) = std::sync::mpsc::channel();
        let (end, may_end) = std::sync::mpsc::channel::<()>();
        let may_end = Arc::new(Mutex::new(may_end));
        for n in 0..AT_ONCE {
            let (started, may_end) = (started.clone(), Arc::clone(&may_end));
            let places = gate.places_of(&users, Some("ops"));
            let mut asked = Box::pin(gate.in_turn(places, move || {
                started.send(()).unwrap();
                may_end.lock().unwrap().recv().is_ok()
            }));
            // Polled once, and so begun; then the client is gone.
            assert!(asked.as_mut().now_or_never().is_none());
            assert_eq!(gate.turns.available_permits(), AT_ONCE - n - 1);
            drop(asked);
            assert_eq!(gate.turns.available_permits(), AT_ONCE - n - 1);
            assert_eq!(gate.places_of(&users, Some("ops")).available_permits(), PLACES - n - 1);
        }
        for _ in 0..AT_ONCE {
            has_started.recv_timeout(Duration::from_secs(10)).unwrap();
            end.send(()).unwrap();
        }
        all_are_back(&gate, &users).await;
    }

    /// The same of a whole sign-in, whose hash can't even begin as long as the only thread for it is taken.
    #[test]
    fn a_sign_in_that_is_dropped_midway_keeps_its_turn() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.max_blocking_threads(1).enable_time().build().unwrap().block_on(async {
            let (end, may_end) = std::sync::mpsc::channel::<()>();
            let taken = tokio::task::spawn_blocking(move || may_end.recv());
            let (gate, users) = (gate(), [user("ops", HASH)]);
            let headers = headers("ops", "password");
            let mut asked = Box::pin(gate.admit(&users, &headers));
            assert!(asked.as_mut().now_or_never().is_none());
            drop(asked);
            assert_eq!(gate.turns.available_permits(), AT_ONCE - 1);
            end.send(()).unwrap();
            taken.await.unwrap().unwrap();
            all_are_back(&gate, &users).await;
        });
    }

    async fn all_are_back(gate: &Gate, users: &[AdminUser]) {
        let places = gate.places_of(users, Some("ops"));
        for (semaphore, all) in [(&gate.turns, AT_ONCE), (&places, PLACES)] {
            let permits = semaphore.acquire_many(u32::try_from(all).unwrap());
            let permits = tokio::time::timeout(Duration::from_secs(10), permits).await.unwrap().unwrap();
            assert_eq!(permits.num_permits(), all);
        }
    }

    #[test]
    fn the_client_is_whom_the_web_tier_names() {
        let of = |values: &[&'static str]| {
            let fields = values.iter().map(|value| (X_FORWARDED_FOR, value.parse().unwrap()));
            client(&fields.collect::<HeaderMap>()).unwrap_or(throttle::UNKNOWN).to_string()
        };
        assert_eq!(of(&["192.0.2.1"]), "192.0.2.1");
        assert_eq!(of(&["6.6.6.6", "7.7.7.7, 192.0.2.1"]), "192.0.2.1");
        assert_eq!(of(&["2001:db8::1"]), "2001:db8::1");
        assert_eq!(of(&["what?"]), "0.0.0.0");
        assert_eq!(of(&[]), "0.0.0.0");
    }
}
