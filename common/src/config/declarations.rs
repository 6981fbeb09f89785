//! What an app takes and does beside requests: in its `app.yaml`, or told by its process when it starts.

use super::{
    caches::{self, DeclaredCache},
    daemons::{self, Daemon},
    decode::{Context, Fields},
    import::Importer,
    jobs::{self, DeclaredJob},
    keys,
    pipelines::{self, DeclaredPipeline},
    problem::ConfigErrors,
    queues::{self, DeclaredQueue},
    servers_own::ServersOwn,
    topics::{self, DeclaredTopic},
    variables::Place,
};
use std::{collections::HashMap, path::Path};

/// The keys of them.
pub(super) const KEYS: [&str; 6] = ["daemons", "caches", "queues", "pipelines", "jobs", "topics"];

/// What an app declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declarations {
    /// `daemons`: what of it runs once in the cluster.
    pub daemons: Vec<Daemon>,
    /// `caches`: those that are not as the defaults.
    pub caches: Vec<DeclaredCache>,
    /// `pipelines`.
    pub pipelines: Vec<DeclaredPipeline>,
    /// `queues`: those whose messages it is called with.
    pub queues: Vec<DeclaredQueue>,
    /// `jobs`: what of it is called at times.
    pub jobs: Vec<DeclaredJob>,
    /// `topics`: those that it hears.
    pub topics: Vec<DeclaredTopic>,
}

pub(super) fn decode(fields: &Fields<'_>) -> Declarations {
    Declarations {
        daemons: daemons::decode(fields),
        caches: caches::decode(fields),
        pipelines: pipelines::decode(fields),
        queues: queues::decode(fields),
        jobs: jobs::decode(fields),
        topics: topics::decode(fields),
    }
}

impl Declarations {
    /// The same whatever order a program has said it in.
    fn in_order(mut self) -> Self {
        self.daemons.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        self.caches.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        self.pipelines.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        self.queues.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        self.jobs.sort_by(|a, b| a.name.as_str().cmp(b.name.as_str()));
        // A topic may be heard at several paths.
        self.topics.sort_by(|a, b| (a.name.as_str(), &a.path).cmp(&(b.name.as_str(), &b.path)));
        self
    }
}

/// Reads the declarations in a text that a program has written: JSON with the keys of `app.yaml`, in the order of their names. It imports nothing, and
/// of variables it has those that an app's start has. `name` is what errors call it.
///
/// # Errors
/// Everything that is wrong with it, all at once.
pub fn read_declarations(name: &str, text: &str) -> Result<Declarations, ConfigErrors> {
    let environment = HashMap::new();
    let mut importer = Importer::new(&environment);
    // JSON is YAML but for tabs, which it has between words alone.
    let tree = importer.parse_text(Path::new(name), &text.replace('\t', " "));
    let Importer { sources, report, .. } = importer;
    let declared = tree.and_then(|tree| {
        let servers_own = ServersOwn::default();
        let place = Place { app: Some(&servers_own), ..Place::default() };
        let context = Context::new(&report, &sources, &environment, place);
        let fields = Fields::open(context, &tree, &keys::DECLARATIONS)?;
        Some(decode(&fields).in_order())
    });
    Ok(report.finish(&sources, declared)?.0)
}
