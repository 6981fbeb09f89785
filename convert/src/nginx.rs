//! nginx: reads the file, and translates its servers.

mod access;
mod directive;
mod location;
mod parse;
mod proxy;
mod reasons;
mod rewrite;
mod server;
mod settings;
mod upstream;
mod variables;

use crate::{ConvertError, left::Remarks, output::Cluster};
use directive::Directive;
use std::path::Path;
use upstream::Upstreams;

/// Translates the text of the file at `path`.
pub(crate) fn translate(text: &str, path: &Path, remarks: &mut Remarks) -> Result<Cluster, ConvertError> {
    let tree = parse::parse(text, path)?;
    let mut cluster = Cluster::default();
    let http = http(&tree, remarks, &mut cluster.remarks);
    let upstreams = Upstreams::read(&http, remarks, &mut cluster.remarks);
    settings::translate(&http, remarks, &mut cluster);
    server::translate(&http, &upstreams, remarks, &mut cluster);
    Ok(cluster)
}

/// What stands in `http`; a file without one is a part that `http` would include.
fn http(tree: &[Directive], remarks: &mut Remarks, left: &mut Vec<String>) -> Vec<Directive> {
    let mut inside = Vec::new();
    let whole = tree.iter().any(|it| it.name == "http" || it.name == "events");
    for directive in tree {
        match directive.name.as_str() {
            "http" => inside.extend(directive.block.iter().flatten().cloned()),
            _ if !whole => inside.push(directive.clone()),
            name => {
                if let Some(why) = reasons::why(name) {
                    left.push(remarks.leave(&directive.place, name, why));
                }
            }
        }
    }
    inside
}
