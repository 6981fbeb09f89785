//! HAProxy: reads the sections, and translates its frontends.

mod acl;
mod action;
mod backend;
mod bind;
mod check;
mod condition;
mod connection;
mod format;
mod frontend;
mod parse;
mod reasons;
mod servers;
mod tcp;

use crate::{ConvertError, left::Remarks, output::Cluster};
use std::path::Path;

/// Translates the text of the file at `path`.
pub(crate) fn translate(text: &str, path: &Path, remarks: &mut Remarks) -> Result<Cluster, ConvertError> {
    let sections = parse::parse(text, path)?;
    let mut cluster = Cluster::default();
    frontend::translate(&sections, remarks, &mut cluster);
    Ok(cluster)
}
