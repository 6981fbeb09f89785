//! nginx: reads the file, and translates its servers.

mod access;
mod directive;
mod location;
mod map;
mod parse;
mod proxy;
mod reasons;
mod rewrite;
mod server;
mod settings;
mod stream;
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
    let Parts { http, stream } = parts(&tree, remarks, &mut cluster.remarks);
    if !http.is_empty() || stream.is_empty() {
        let upstreams = Upstreams::read(&http, true, remarks, &mut cluster.remarks);
        settings::translate(&http, remarks, &mut cluster);
        server::translate(&http, &upstreams, remarks, &mut cluster);
    }
    stream::translate(&stream, remarks, &mut cluster);
    Ok(cluster)
}

/// What stands in `http` and in `stream`.
#[derive(Debug, Default)]
struct Parts {
    http: Vec<Directive>,
    stream: Vec<Directive>,
}

/// A file without any of these blocks is a part that one of them would include.
fn parts(tree: &[Directive], remarks: &mut Remarks, left: &mut Vec<String>) -> Parts {
    let mut parts = Parts::default();
    let whole = tree.iter().any(|it| matches!(it.name.as_str(), "http" | "events" | "stream"));
    // Only there a server passes on all that comes.
    let passes = |it: &Directive| it.name == "server" && it.inside().iter().any(|it| it.name == "proxy_pass");
    let of_stream = tree.iter().any(passes);
    for directive in tree {
        match directive.name.as_str() {
            "http" => parts.http.extend(directive.block.iter().flatten().cloned()),
            "stream" => parts.stream.extend(directive.block.iter().flatten().cloned()),
            _ if !whole && of_stream => parts.stream.push(directive.clone()),
            _ if !whole => parts.http.push(directive.clone()),
            name => {
                if let Some(why) = reasons::why(name) {
                    left.push(remarks.leave(&directive.place, name, why));
                }
            }
        }
    }
    parts
}
