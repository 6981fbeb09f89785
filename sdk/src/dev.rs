//! `COPAL_DEV=1`: caches and queues in this process's memory, for an app that is tried alone, and its tests. Clones of an environment share them.

mod pipeline;

pub(crate) use pipeline::ended;

use crate::{
    ServiceError,
    entry::Condition,
    pipeline::Steps,
    queue::{Handle, Outcome, Told},
};
use pipeline::DevRun;
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::oneshot, time::Instant};

/// A message is tried so often, with so long between.
const ATTEMPTS: u32 = 10;
const AGAIN: Duration = Duration::from_millis(100);

/// The bounds of the caches: as on the hub, but for how many values there are.
const KEY_MAX: usize = 512;
const VALUE_MAX: usize = 1 << 20;
const TIME: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(366 * 24 * 3600);
const VALUES_MAX: usize = 10_000;

/// So many messages wait for a handler.
const WAITING_MAX: usize = 10_000;

/// What there is in memory.
#[derive(Clone, Default)]
pub(crate) struct Dev(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    /// By cache and key.
    values: HashMap<(String, String), DevValue>,
    /// The last version that a value was given.
    version: u64,
    queues: HashMap<String, DevQueue>,
    pipelines: HashMap<String, Arc<Steps>>,
    /// By pipeline and number.
    runs: HashMap<(String, String), DevRun>,
}

struct DevValue {
    value: Value,
    version: u64,
    ends: Option<Instant>,
}

impl Memory {
    /// What is there now.
    fn entry(&mut self, key: &(String, String)) -> Option<&mut DevValue> {
        let is_over = |it: &DevValue| it.ends.is_some_and(|ends| ends <= Instant::now());
        if self.values.get(key).is_some_and(is_over) {
            self.values.remove(key);
        }
        self.values.get_mut(key)
    }

    /// Whether the condition is met now.
    fn meets(&mut self, key: &(String, String), condition: &Condition) -> bool {
        let version = self.entry(key).map(|it| it.version);
        match condition {
            Condition::None => true,
            Condition::Absent => version.is_none(),
            Condition::Present => version.is_some(),
            Condition::Is(expected) => version.is_some_and(|it| it.to_string() == expected.0),
        }
    }

    fn insert(&mut self, key: (String, String), value: Value, ends: Option<Instant>) {
        if self.values.len() >= VALUES_MAX && !self.values.contains_key(&key) {
            self.make_room();
        }
        self.version += 1;
        self.values.insert(key, DevValue { value, version: self.version, ends });
    }

    /// Forgets what is over; if nothing is, what was put first.
    fn make_room(&mut self) {
        let now = Instant::now();
        self.values.retain(|_, it| it.ends.is_none_or(|ends| ends > now));
        if self.values.len() >= VALUES_MAX {
            let first = self.values.values().map(|it| it.version).min();
            self.values.retain(|_, it| Some(it.version) != first);
        }
    }
}

/// What the local API would refuse is refused here as well, so that an app's own tests see it.
fn check(cache: &str, key: &str, value: &Value, ttl: Option<Duration>) -> Result<(), ServiceError> {
    let refused = |code: &str, detail: String| Err(ServiceError::Refused { code: code.to_owned(), detail });
    let is_ok = |it: u8| matches!(it, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
    let is_name = (1..=63).contains(&cache.len()) && cache.bytes().all(is_ok) && !matches!(cache, "." | "..");
    if !is_name {
        const EXPECTED: &str = "expected 1 to 63 of a-z, 0-9, '.', '_' and '-', not '.' or '..'";
        return refused("bad-request", format!("the cache's name is {cache:?}: {EXPECTED}"));
    }
    if !(1..=KEY_MAX).contains(&key.len()) {
        return refused("bad-request", format!("the key has {} bytes: expected 1 to {KEY_MAX}", key.len()));
    }
    if let Some(ttl) = ttl.filter(|it| !TIME.contains(it)) {
        return refused(
            "bad-request",
            format!("ttl is {ttl:?}: expected a time from {:?} to {:?}", TIME.start(), TIME.end()),
        );
    }
    if value.to_string().len() > VALUE_MAX {
        return refused("too-large", format!("the value is longer than {VALUE_MAX} bytes"));
    }
    Ok(())
}

#[derive(Default)]
struct DevQueue {
    handle: Option<Arc<Handle>>,
    /// Published before there was a handler.
    waiting: Vec<DevMessage>,
}

/// A message, and who waits for its reply.
#[derive(Debug)]
pub(crate) struct DevMessage {
    body: Value,
    delay: Duration,
    group: Option<String>,
    reply: oneshot::Sender<Result<Value, String>>,
}

impl DevMessage {
    pub(crate) fn new(
        body: Value,
        delay: Duration,
        group: Option<String>,
    ) -> (Self, oneshot::Receiver<Result<Value, String>>) {
        let (reply, handled) = oneshot::channel();
        (Self { body, delay, group, reply }, handled)
    }
}

impl fmt::Debug for Dev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Dev")
    }
}

impl Dev {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A value and its version.
    pub(crate) fn get(&self, cache: &str, key: &str) -> Option<(Value, String)> {
        let mut memory = self.lock();
        memory.entry(&(cache.to_owned(), key.to_owned())).map(|it| (it.value.clone(), it.version.to_string()))
    }

    pub(crate) fn put(&self, cache: &str, key: &str, value: Value) -> Result<(), ServiceError> {
        self.put_if((cache, key), value, None, &Condition::None).map(drop)
    }

    /// Whether it was put.
    pub(crate) fn put_if(
        &self,
        (cache, key): (&str, &str),
        value: Value,
        ttl: Option<Duration>,
        condition: &Condition,
    ) -> Result<bool, ServiceError> {
        check(cache, key, &value, ttl)?;
        let (mut memory, key) = (self.lock(), (cache.to_owned(), key.to_owned()));
        let is_met = memory.meets(&key, condition);
        if is_met {
            memory.insert(key, value, ttl.map(|ttl| Instant::now() + ttl));
        }
        Ok(is_met)
    }

    /// Whether there was something, and the condition was met.
    pub(crate) fn remove_if(&self, cache: &str, key: &str, condition: &Condition) -> bool {
        let (mut memory, key) = (self.lock(), (cache.to_owned(), key.to_owned()));
        memory.meets(&key, condition) && memory.values.remove(&key).is_some()
    }

    pub(crate) fn increment(&self, cache: &str, key: &str, by: i64) -> Result<i64, ServiceError> {
        let (mut memory, key) = (self.lock(), (cache.to_owned(), key.to_owned()));
        let (value, ends) =
            memory.entry(&key).map_or_else(|| (Value::from(0), None), |it| (it.value.clone(), it.ends));
        let sum = value.as_i64().and_then(|it| it.checked_add(by));
        let sum = sum.ok_or_else(|| ServiceError::Value(format!("{value} is no whole number")))?;
        check(&key.0, &key.1, &sum.into(), None)?;
        memory.insert(key, sum.into(), ends);
        Ok(sum)
    }

    /// Messages of a queue are handled so from now on, those that wait as well.
    pub(crate) fn consume(&self, name: &str, handle: &Arc<Handle>) {
        let waiting = {
            let mut memory = self.lock();
            let queue = memory.queues.entry(name.to_owned()).or_default();
            queue.handle = Some(handle.clone());
            std::mem::take(&mut queue.waiting)
        };
        for message in waiting {
            tokio::spawn(self.clone().handle(handle.clone(), message));
        }
    }

    /// A message is handled as soon as there is a handler.
    pub(crate) fn publish(&self, name: &str, message: DevMessage) -> Result<(), ServiceError> {
        let mut memory = self.lock();
        let queue = memory.queues.entry(name.to_owned()).or_default();
        match queue.handle.clone() {
            Some(handle) => {
                drop(memory);
                tokio::spawn(self.clone().handle(handle, message));
            }
            None if queue.waiting.len() >= WAITING_MAX => {
                let detail = format!("{WAITING_MAX} messages wait in {name} for a handler");
                return Err(ServiceError::Refused { code: "full".to_owned(), detail });
            }
            None => queue.waiting.push(message),
        }
        Ok(())
    }

    async fn handle(self, handle: Arc<Handle>, message: DevMessage) {
        let DevMessage { body, delay, group, reply } = message;
        tokio::time::sleep(delay).await;
        let told = Told { group, ..Told::default() };
        let came = self.attempts(&handle, &body, told).await;
        let _nobody_waits = reply.send(came.map(|it| it.json.get("body").cloned().unwrap_or_default()));
    }

    /// What comes of a message in the end, and what its outcome publishes and caches; why it is dead.
    async fn attempts(&self, handle: &Arc<Handle>, body: &Value, told: Told) -> Result<Outcome, String> {
        let mut attempt = 1;
        loop {
            let told = Told { id: "dev".to_owned(), attempt, ..told.clone() };
            match handle(Ok(body.clone()), told).await {
                Ok(Outcome { json }) if json.contains_key("retry-after") => {}
                Ok(outcome) => match outcome.json.get("dead").and_then(Value::as_str) {
                    Some(why) => return Err(why.to_owned()),
                    None => {
                        self.beside(&outcome.json);
                        return Ok(outcome);
                    }
                },
                Err(why) if attempt >= ATTEMPTS => return Err(why),
                Err(_) => {}
            }
            attempt += 1;
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// What an outcome publishes and caches.
    fn beside(&self, json: &Map<String, Value>) {
        let list = |name: &str| json.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
        for it in list("publish") {
            let (message, _reply) = DevMessage::new(it["json"].clone(), Duration::ZERO, None);
            let _full = self.publish(&text(&it, "queue"), message);
        }
        for it in list("cache") {
            let (cache, key) = (text(&it, "cache"), text(&it, "key"));
            match it["increment"].as_i64() {
                Some(by) => drop(self.increment(&cache, &key, by)),
                None => drop(self.put(&cache, &key, it["json"].clone())),
            }
        }
    }
}
