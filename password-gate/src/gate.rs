//! Whose password is it? An address that has guessed too often waits, whatever it brings. Passwords are verified on threads that may
//! block, few at once; the last that was right of each user is remembered, so that a page which asks every second does not cost
//! 64 MiB each time.

#[cfg(test)]
mod tests;

use crate::{Credentials, throttle::Throttle};
use common::{
    clock::Clock,
    password::{PasswordHash, PasswordUser},
};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::{
    collections::{HashMap, HashSet},
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

/// How long one waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// Why nobody is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no such user, or the password is another one.
    #[error("wrong user or password")]
    Wrong,
    /// The address has guessed too often and has to wait for so long, whatever it brings.
    #[error("too many failed sign-ins from this address: try again in {} s", .0.as_millis().div_ceil(1000))]
    Slowed(Duration),
    /// Too many passwords are to be verified.
    #[error("too many sign-ins at once: try again")]
    Crowded,
}

/// Lets the users of one place in, for one list of users: names are what it tells them apart by.
pub struct PasswordGate {
    clock: Arc<dyn Clock>,
    /// Of this process alone: what is remembered is worth nothing elsewhere.
    key: [u8; 32],
    /// By user: the code of the last credentials that were right.
    remembered: Mutex<HashMap<String, [u8; 32]>>,
    throttle: Mutex<Throttle>,
    turns: Arc<Semaphore>,
    /// The places of each user, while one is taken; of all others under no name.
    places: Mutex<HashMap<Option<String>, Arc<Semaphore>>>,
    /// The codes of credentials that are verified, or wait for that.
    under_way: Mutex<HashMap<[u8; 32], Arc<Semaphore>>>,
    failures: AtomicU64,
    slowed: AtomicU64,
}

impl std::fmt::Debug for PasswordGate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordGate").field("failures", &self.failures).finish_non_exhaustive()
    }
}

impl PasswordGate {
    /// With a random `key`.
    pub fn new(clock: Arc<dyn Clock>, key: [u8; 32]) -> Self {
        Self {
            clock,
            key,
            remembered: Mutex::default(),
            throttle: Mutex::default(),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            places: Mutex::default(),
            under_way: Mutex::default(),
            failures: AtomicU64::new(0),
            slowed: AtomicU64::new(0),
        }
    }

    /// How often a guess was wrong.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// How often an address had to wait.
    pub fn slowed(&self) -> u64 {
        self.slowed.load(Ordering::Relaxed)
    }

    /// The user whose credentials these are, which `address` brings. Needs a Tokio runtime with its time enabled.
    ///
    /// # Errors
    /// See [`Refused`].
    pub async fn admit<'a, U: PasswordUser>(
        &self,
        users: &'a [U],
        credentials: &Credentials,
        address: IpAddr,
    ) -> Result<&'a U, Refused> {
        // Before anything depends on the password: a slowed address must not learn which one would be right.
        self.may_try(address)?;
        let user = users.iter().find(|it| it.name() == credentials.name);
        if let Some(user) = user
            && self.remembers(user, credentials)
        {
            return Ok(user);
        }
        // A page asks for much at once: the same credentials are verified one after the other, and the first that are right are
        // remembered for all. So too for names that are none's, as the time tells who there is.
        let under_way = UnderWay::of(self, credentials);
        let turn = tokio::time::timeout(TURN, under_way.turn.acquire()).await;
        let Ok(Ok(_turn)) = turn else { return Err(Refused::Crowded) };
        if let Some(user) = user
            && self.remembers(user, credentials)
        {
            return Ok(user);
        }
        let attempt = self.attempt(address)?;
        let right = match self.verify(users, user, credentials).await {
            Ok(right) => right,
            Err(crowded) => {
                attempt.was_none();
                return Err(crowded);
            }
        };
        let Some(user) = user.filter(|_| right) else {
            attempt.failed();
            return Err(Refused::Wrong);
        };
        attempt.was_none();
        self.remember(users, user, credentials);
        Ok(user)
    }

    /// Whether this address may guess now; begins nothing.
    ///
    /// # Errors
    /// [`Refused::Slowed`]
    pub fn may_try(&self, address: IpAddr) -> Result<(), Refused> {
        self.let_try(|throttle, now| throttle.ask(address, now))
    }

    /// Begins a guess at something that is verified elsewhere, such as a token.
    ///
    /// # Errors
    /// [`Refused::Slowed`]
    pub fn attempt(&self, address: IpAddr) -> Result<Attempt<'_>, Refused> {
        self.let_try(|throttle, now| throttle.begin(address, now))?;
        Ok(Attempt { gate: self, address })
    }

    /// Asks the throttle, and counts those that have to wait.
    fn let_try(
        &self,
        ask: impl FnOnce(&mut Throttle, Instant) -> Result<(), Duration>,
    ) -> Result<(), Refused> {
        ask(&mut lock(&self.throttle), self.clock.now()).map_err(|wait| {
            self.slowed.fetch_add(1, Ordering::Relaxed);
            Refused::Slowed(wait)
        })
    }

    /// Whether the password is `user`'s. The time tells neither who there is nor whose hash costs what: for each cost that a hash of
    /// the users has, one is computed.
    async fn verify<U: PasswordUser>(
        &self,
        users: &[U],
        user: Option<&U>,
        credentials: &Credentials,
    ) -> Result<bool, Refused> {
        let hashes = one_of_each_cost(users, user);
        let (own, password) = (user.map(|it| it.password().clone()), credentials.password.clone());
        let work = move || {
            hashes
                .iter()
                .fold(false, |right, hash| right | (hash.verify(&password) & (Some(hash) == own.as_ref())))
        };
        self.in_turn(self.places_of(user.map(PasswordUser::name)), work).await
    }

    fn places_of(&self, name: Option<&str>) -> Arc<Semaphore> {
        let mut places = lock(&self.places);
        // Whoever has a place holds them as well.
        places.retain(|_, it| Arc::strong_count(it) > 1);
        Arc::clone(places.entry(name.map(str::to_owned)).or_insert_with(|| Arc::new(Semaphore::new(PLACES))))
    }

    /// Runs `work` on a thread that may block, as one of [`AT_ONCE`] and of its user's [`PLACES`] until it has really ended: the
    /// permits go with the work, not with whoever waits for it. A client that goes away drops the future, and the hash and its
    /// memory live on.
    async fn in_turn(
        &self,
        places: Arc<Semaphore>,
        work: impl FnOnce() -> bool + Send + 'static,
    ) -> Result<bool, Refused> {
        let place = places.try_acquire_owned().map_err(|_| Refused::Crowded)?;
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let Ok(Ok(turn)) = turn else { return Err(Refused::Crowded) };
        let permits = (place, turn);
        let worked = tokio::task::spawn_blocking(move || {
            let _permits = permits;
            work()
        });
        Ok(worked.await.unwrap_or_default())
    }

    fn remembers<U: PasswordUser>(&self, user: &U, credentials: &Credentials) -> bool {
        let Some(known) = lock(&self.remembered).get(user.name()).copied() else { return false };
        self.mac(user, credentials).verify_slice(&known).is_ok()
    }

    fn remember<U: PasswordUser>(&self, users: &[U], user: &U, credentials: &Credentials) {
        let code = self.mac(user, credentials).finalize().into_bytes().into();
        let mut remembered = lock(&self.remembered);
        remembered.insert(user.name().to_owned(), code);
        // Users come and go with the file.
        if remembered.len() > users.len() {
            let names: HashSet<&str> = users.iter().map(PasswordUser::name).collect();
            remembered.retain(|name, _| names.contains(name.as_str()));
        }
    }

    /// The code of credentials, whoever's they are.
    fn code(&self, credentials: &Credentials) -> [u8; 32] {
        self.code_of([credentials.name.as_bytes(), &credentials.password]).finalize().into_bytes().into()
    }

    /// Over the hash as well: a user whose password changes in the file is another one.
    fn mac<U: PasswordUser>(&self, user: &U, credentials: &Credentials) -> Hmac<Sha256> {
        let hash = user.password().to_string();
        self.code_of([user.name().as_bytes(), hash.as_bytes(), &credentials.password])
    }

    fn code_of<'a>(&self, parts: impl IntoIterator<Item = &'a [u8]>) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_le_bytes());
            mac.update(part);
        }
        mac
    }
}

/// Credentials that are verified, or wait for that: those of several requests have turns.
struct UnderWay<'a> {
    gate: &'a PasswordGate,
    code: [u8; 32],
    turn: Arc<Semaphore>,
}

impl<'a> UnderWay<'a> {
    fn of(gate: &'a PasswordGate, credentials: &Credentials) -> Self {
        let code = gate.code(credentials);
        let turn =
            Arc::clone(lock(&gate.under_way).entry(code).or_insert_with(|| Arc::new(Semaphore::new(1))));
        Self { gate, code, turn }
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut under_way = lock(&self.gate.under_way);
        // The map's and this one: nobody else has it, nor can while the map is locked.
        if Arc::strong_count(&self.turn) == 2 {
            under_way.remove(&self.code);
        }
    }
}

/// A guess of an address that has begun. It counts against the address until it is told to have been none, so that many at once are
/// no way around; one that is dropped stays counted.
#[derive(Debug)]
#[must_use = "an attempt that is dropped counts against the address"]
pub struct Attempt<'a> {
    gate: &'a PasswordGate,
    address: IpAddr,
}

impl Attempt<'_> {
    /// It was right, or nobody could say.
    pub fn was_none(self) {
        lock(&self.gate.throttle).succeeded(self.address);
    }

    /// It was wrong.
    pub fn failed(self) {
        self.gate.failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// A hash of each cost that there is among the users': `user`'s own for its cost.
fn one_of_each_cost<U: PasswordUser>(users: &[U], user: Option<&U>) -> Vec<PasswordHash> {
    let mut hashes: Vec<PasswordHash> = Vec::new();
    for hash in user.into_iter().chain(users).map(PasswordUser::password) {
        if hashes.iter().all(|it| it.cost() != hash.cost()) {
            hashes.push(hash.clone());
        }
    }
    hashes
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
