//! The file's own keys: cluster key, triad, data folder, and the clusters with the defaults beneath them.

use super::{
    admin, app_rights,
    check::Facts,
    cluster,
    connection_limits::{limit_below_workers_text, limits_below_workers},
    decode::{Context, Fields},
    defaults::DEFAULTS,
    deployment, effective, encryption,
    guess::guessable,
    health_checks, keys,
    layers::{Layers, layered, refuse_id},
    load_options::LoadOptions,
    model::{Config, ServicesMemory},
    node::{Node, Value},
    secret::Secret,
    secret_variables, session_memory,
    source::{self, ReadError},
    traces,
};
use crate::id::ServerId;
use std::{
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The fewest bytes of a cluster key.
const KEY_MIN: usize = 16;

/// Makes a good one.
const MAKE_KEY: &str = "openssl rand -base64 32";

/// The largest file with a cluster key, in bytes.
const KEY_FILE_MAX: u64 = 64 << 10;

/// The bounds of what caches may take: two values of the greatest length at least.
const CACHE_MEMORY: RangeInclusive<u64> = 2 << 20..=1 << 50;

/// The same of messages: a batch, and its app has half of it.
const QUEUE_MEMORY: RangeInclusive<u64> = 16 << 20..=1 << 50;

/// The most servers of the hub.
const TRIAD_MAX: usize = 3;

const TWO_HUB_SERVERS: &str = "two hub servers cannot outvote a failure: data is safe on both, but nothing is written \
    while either is down; a third server, a web-tier one too, makes it a triad";

/// What caches and messages may take.
fn services_memory(fields: &Fields<'_>) -> ServicesMemory {
    let caches = fields.size("cache-memory-max", CACHE_MEMORY);
    let queues = fields.size("queue-memory-max", QUEUE_MEMORY);
    let default = DEFAULTS.services_memory;
    ServicesMemory { caches: caches.unwrap_or(default.caches), queues: queues.unwrap_or(default.queues) }
}

/// Reads the whole configuration; `None` when it is too broken to check further.
pub(super) fn decode(
    context: Context<'_>,
    root: &Node,
    file: &Path,
    options: &LoadOptions,
) -> Option<Config> {
    let fields = Fields::open(context, root, &keys::ROOT)?;
    let cluster_key = fields.get("cluster-key").filter(|node| !node.is_null());
    let also = fields.get("cluster-key-also").filter(|node| !node.is_null());
    let [secret, secret_also] =
        [cluster_key, also].map(|node| node.and_then(|node| secret(context, node)).unwrap_or_default());
    let heartbeat_interval = fields
        .duration("heartbeat-interval", Duration::from_millis(100)..=Duration::from_secs(600))
        .unwrap_or(DEFAULTS.heartbeat_interval);
    let dependency_check_interval =
        fields.duration("dependency-check-interval", Duration::from_millis(100)..=Duration::from_secs(3600));
    let mut facts = Facts::default();
    let clusters = clusters(&fields, options.port_offset, &mut facts);
    let triad = triad(&fields, &facts);
    facts.check(context, cluster_key.is_some());
    for (node, secret) in [(cluster_key, &secret), (also, &secret_also)] {
        if let Some(node) = node.filter(|_| facts.is_open()) {
            check_guessable(context, node, secret, options.refuse_guessable_key);
        }
    }
    let cluster_encryption = encryption::encryption(&fields);
    let cluster_tls = encryption::tls(&fields, cluster_encryption);
    if fields.get("cluster-tls").is_some_and(|node| !node.is_null()) {
        facts.check_certificate_names(context, fields.span("cluster-tls"));
    }
    if triad.len() == 2 {
        let place = fields.entry("triad").or(fields.entry("clusters"));
        context.report.warning(place.map_or(root.span, |entry| entry.key_span), TWO_HUB_SERVERS);
    }
    let secret_variables = secret_variables::secret_variables(root);
    let mut config = Config {
        file: file.to_owned(),
        effective: Arc::default(),
        cluster_key: secret,
        cluster_key_also: secret_also,
        cluster_encryption,
        cluster_tls,
        secret_variables: Arc::new(secret_variables),
        triad,
        data_dir: data_dir(&fields, options),
        heartbeat_interval,
        dependency_check_interval,
        session_memory: session_memory::decode(&fields),
        services_memory: services_memory(&fields),
        app_users: app_rights::app_users(&fields),
        private_files: key_files(&fields),
        traces: traces::decode(&fields),
        admin_users: admin::decode(&fields),
        health: health_checks::decode(&fields),
        deployments: deployment::decode(&fields, options.stage.as_deref()),
        clusters,
    };
    check_connection_limits(context, &config, &facts);
    if !context.report.has_errors() {
        let secrets = [config.cluster_key.bytes(), config.cluster_key_also.bytes()];
        let data_dir = options.data_dir.as_ref().map(|it| ("data-dir", it.display().to_string()));
        let stage = options.stage.as_ref().map(|it| ("stage", it.clone()));
        let said: Vec<_> = data_dir.into_iter().chain(stage).collect();
        config.effective = effective::write(context, root, &said, &secrets, &config.secret_variables).into();
    }
    Some(config)
}

/// Of clusters that say how many workers they have: with `auto` the machine decides, and the web-tier's start has a look.
fn check_connection_limits(context: Context<'_>, config: &Config, facts: &Facts) {
    for cluster in &config.clusters {
        let (Some(workers), Some(span)) = (cluster.workers, facts.cluster_span(cluster.id.as_str())) else {
            continue;
        };
        for limit in limits_below_workers(config, cluster, workers.get()) {
            context.error(span, limit_below_workers_text(&limit, workers.get()));
        }
    }
}

fn data_dir(fields: &Fields<'_>, options: &LoadOptions) -> PathBuf {
    let own = fields.path("data-dir");
    let chosen = options.data_dir.clone().or(own).unwrap_or_else(|| DEFAULTS.data_dir.into());
    std::path::absolute(&chosen).unwrap_or(chosen)
}

fn clusters(fields: &Fields<'_>, port_offset: u16, facts: &mut Facts) -> Vec<super::model::Cluster> {
    let context = fields.context;
    let mut layers = Layers::default();
    layers.add(fields, port_offset);
    let default = fields.get("cluster-default");
    if let Some(node) = default {
        refuse_id(context, node);
        cluster::decode(context.alone(), node, &Layers::default(), port_offset, &mut Facts::default());
    }
    let Some(list) = fields.required("clusters", "list the clusters with their servers") else {
        return Vec::new();
    };
    let items = context.items(list);
    if items.is_empty()
        && matches!(&list.value, Value::List(_) | Value::Scalar { .. })
        && !context.report.has_errors()
    {
        context.error(list.span, "`clusters` is empty: list at least one cluster with its servers");
    }
    let decoded = items.iter().filter_map(|item| {
        let merged = layered(item, default.as_slice());
        cluster::decode(context, &merged, &layers, port_offset, facts)
    });
    decoded.collect()
}

/// The secret of `cluster-key`, never repeated in a message.
fn secret(context: Context<'_>, node: &Node) -> Option<Secret> {
    let bytes = if matches!(node.value, Value::Map(_)) {
        let fields = Fields::open(context, node, &keys::CLUSTER_KEY)?;
        let path_node = fields.required("file", "name the file that holds the key")?;
        let path = context.path(path_node)?;
        let read = source::read_bytes(&path, KEY_FILE_MAX).map_err(|cause| match cause {
            ReadError::Large => "it is larger than 64 KiB".to_owned(),
            other => other.to_string(),
        });
        match read {
            Ok(bytes) => bytes,
            Err(cause) => {
                context.error(path_node.span, format!("can't read the cluster key's file: {cause}"));
                return None;
            }
        }
    } else {
        context.report.secret(node.span);
        context.scalar(node, "a text of 16 bytes or more, or {file: path}")?.into_bytes()
    };
    let trimmed = bytes.trim_ascii();
    if trimmed.len() < KEY_MIN {
        let message = format!("the cluster key has {} bytes: expected at least {KEY_MIN}", trimmed.len());
        context.error(node.span, message);
        return None;
    }
    Some(Secret::from(trimmed))
}

/// The files of the cluster keys, of a file without an error.
fn key_files(fields: &Fields<'_>) -> Vec<PathBuf> {
    if fields.context.report.has_errors() {
        return Vec::new();
    }
    let nodes = ["cluster-key", "cluster-key-also"].into_iter().filter_map(|key| fields.get(key));
    let entries = nodes.flat_map(|node| node.entries().unwrap_or_default());
    entries.filter(|it| it.key == "file").filter_map(|it| fields.context.path(&it.value)).collect()
}

/// Whoever listens in, or sits in between once, can try a key out at home for as long as he likes.
fn check_guessable(context: Context<'_>, node: &Node, secret: &Secret, refuse: bool) {
    let Some(why) = guessable(secret).filter(|_| !secret.bytes().is_empty()) else { return };
    let message = format!("the cluster key can be guessed: {why}; make one with `{MAKE_KEY}`");
    if refuse {
        context.error(node.span, message);
    } else {
        context.report.warning(node.span, message);
    }
}

/// `triad`, or the first three servers of the file.
fn triad(fields: &Fields<'_>, facts: &Facts) -> Vec<ServerId> {
    let context = fields.context;
    let Some(node) = fields.get("triad").filter(|node| !node.is_null()) else {
        return facts.server_ids().take(TRIAD_MAX).map(ServerId::from).collect();
    };
    let items = context.items(node);
    if items.is_empty() && matches!(node.value, Value::List(_)) {
        context.error(
            node.span,
            "`triad` is empty: name one to three servers, or leave it out for the first three",
        );
    }
    if let Some(fourth) = items.get(TRIAD_MAX) {
        let message = format!("`triad` names {} servers: expected at most {TRIAD_MAX}", items.len());
        context.error(fourth.span, message);
    }
    let mut triad: Vec<ServerId> = Vec::new();
    for item in items.iter().take(TRIAD_MAX + 1) {
        let Some(id) = context.string(item) else { continue };
        if triad.iter().any(|known| known.as_str() == id) {
            context.error(item.span, format!("the server `{id}` stands twice in `triad`"));
            continue;
        }
        if !facts.server_ids().any(|known| known == id) {
            context.error(item.span, facts.no_such_server(&id));
        }
        triad.push(ServerId::from(id));
    }
    triad
}
