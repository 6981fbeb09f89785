//! Words for the reader of a test run that passes: past the capture of its output.

use std::io::Write;

/// Says on standard error what was measured, or why something was skipped.
pub(crate) fn tell(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}
