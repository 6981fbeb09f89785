//! `COPAL_DEV=1`: caches and queues in this process's memory, for an app that is tried alone, and its tests. Clones of an environment share them.

use crate::{
    ServiceError,
    queue::{Handle, Outcome, Told},
};
use serde_json::{Map, Value};
use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::oneshot;

/// A message is tried so often, with so long between.
const ATTEMPTS: u32 = 10;
const AGAIN: Duration = Duration::from_millis(100);

/// What there is in memory.
#[derive(Clone, Default)]
pub(crate) struct Dev(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    /// By cache and key.
    values: HashMap<(String, String), Value>,
    queues: HashMap<String, DevQueue>,
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

    pub(crate) fn get(&self, cache: &str, key: &str) -> Option<Value> {
        self.lock().values.get(&(cache.to_owned(), key.to_owned())).cloned()
    }

    pub(crate) fn put(&self, cache: &str, key: &str, value: Value) {
        self.lock().values.insert((cache.to_owned(), key.to_owned()), value);
    }

    pub(crate) fn increment(&self, cache: &str, key: &str, by: i64) -> Result<i64, ServiceError> {
        let mut memory = self.lock();
        let value = memory.values.entry((cache.to_owned(), key.to_owned())).or_insert_with(|| 0.into());
        let sum = value.as_i64().and_then(|it| it.checked_add(by));
        let sum = sum.ok_or_else(|| ServiceError::Value(format!("{value} is no whole number")))?;
        *value = sum.into();
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
    pub(crate) fn publish(&self, name: &str, message: DevMessage) {
        let mut memory = self.lock();
        let queue = memory.queues.entry(name.to_owned()).or_default();
        match queue.handle.clone() {
            Some(handle) => {
                drop(memory);
                tokio::spawn(self.clone().handle(handle, message));
            }
            None => queue.waiting.push(message),
        }
    }

    async fn handle(self, handle: Arc<Handle>, message: DevMessage) {
        let DevMessage { body, delay, group, reply } = message;
        tokio::time::sleep(delay).await;
        let mut attempt = 1;
        let came = loop {
            let told = Told { id: "dev".to_owned(), attempt, group: group.clone() };
            match handle(Ok(body.clone()), told).await {
                Ok(Outcome { json }) if json.contains_key("retry-after") => {}
                Ok(Outcome { json }) => match json.get("dead").and_then(Value::as_str) {
                    Some(why) => break Err(why.to_owned()),
                    None => {
                        self.beside(&json);
                        break Ok(json.get("body").cloned().unwrap_or_default());
                    }
                },
                Err(why) if attempt >= ATTEMPTS => break Err(why),
                Err(_) => {}
            }
            attempt += 1;
            tokio::time::sleep(AGAIN).await;
        };
        let _nobody_waits = reply.send(came);
    }

    /// What an outcome publishes and caches.
    fn beside(&self, json: &Map<String, Value>) {
        let list = |name: &str| json.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |it: &Value, key: &str| it[key].as_str().unwrap_or_default().to_owned();
        for it in list("publish") {
            let (message, _reply) = DevMessage::new(it["json"].clone(), Duration::ZERO, None);
            self.publish(&text(&it, "queue"), message);
        }
        for it in list("cache") {
            let (cache, key) = (text(&it, "cache"), text(&it, "key"));
            match it["increment"].as_i64() {
                Some(by) => drop(self.increment(&cache, &key, by)),
                None => self.put(&cache, &key, it["json"].clone()),
            }
        }
    }
}
