//! The keys of an `app.yaml`, and of what apps declare.

use super::Keys;

pub(in crate::config) static APP: Keys = Keys {
    what: "`app.yaml`",
    known: &[
        "name",
        "version",
        "static",
        "command",
        "listen",
        "env",
        "health",
        "instances",
        "stop-timeout",
        "user",
        "memory-max",
        "processes-max",
        "open-files-max",
        "prepare",
        "prepare-timeout",
        "session",
        "daemons",
        "caches",
        "queues",
        "pipelines",
        "jobs",
        "topics",
        "declare-at-start",
    ],
    later: &[],
};

pub(in crate::config) static DECLARATIONS: Keys =
    Keys { what: "what an app declares", known: &crate::config::declarations::KEYS, later: &[] };

pub(in crate::config) static HEALTH: Keys =
    Keys { what: "`health`", known: &["path", "interval", "start-timeout"], later: &[] };

pub(in crate::config) static CACHE: Keys =
    Keys { what: "a cache", known: &["name", "mode", "ttl", "idle"], later: &[] };

pub(in crate::config) static QUEUE: Keys =
    Keys { what: "a queue", known: &["name", "path", "concurrency", "timeout", "retry"], later: &[] };

pub(in crate::config) static TOPIC: Keys = Keys {
    what: "a topic",
    known: &["name", "path", "durable", "concurrency", "timeout", "retry"],
    later: &[],
};

pub(in crate::config) static PIPELINE: Keys = Keys {
    what: "a pipeline",
    known: &["name", "steps", "on-error", "concurrency", "timeout", "retry", "result-ttl"],
    later: &[],
};

pub(in crate::config) static STEP: Keys = Keys {
    what: "a step",
    known: &["name", "path", "join", "concurrency", "timeout", "retry", "pipeline"],
    later: &[],
};

pub(in crate::config) static JOB: Keys = Keys {
    what: "a job",
    known: &[
        "name", "path", "cron", "timezone", "every", "at", "in", "until", "repeat", "missed", "timeout",
        "retry",
    ],
    later: &[],
};

pub(in crate::config) static RETRY: Keys =
    Keys { what: "`retry`", known: &["attempts", "delay", "factor", "max"], later: &[] };

pub(in crate::config) static DAEMON: Keys = Keys {
    what: "a daemon",
    known: &["name", "start", "stop", "command", "lease", "start-timeout", "stop-timeout"],
    later: &[],
};
