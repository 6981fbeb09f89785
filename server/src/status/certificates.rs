//! The certificates that this server shows, and when they end.

use common::config::FilePath;
use proto::status::v1::Certificate;
use std::path::Path;

/// The certificates of listeners (file, and last second of validity), and the one that other servers are shown, which is read here. Blocks
/// on the file system.
pub(super) fn all(listeners: Vec<(String, i64)>, cluster: Option<&FilePath>) -> Vec<Certificate> {
    let own = cluster.and_then(|it| Some((it.path.display().to_string(), web_tier::certificate_end(it)?)));
    let mut found: Vec<Certificate> = listeners.into_iter().chain(own).map(certificate).collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    // Two of one name in different folders are told as the one that ends first.
    found.dedup_by(|next, kept| {
        let same = next.name == kept.name;
        if same {
            kept.not_after_ms = kept.not_after_ms.min(next.not_after_ms);
        }
        same
    });
    found
}

/// Without the folders, which are nobody else's business.
fn certificate((file, end_s): (String, i64)) -> Certificate {
    let name = Path::new(&file).file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or(file);
    Certificate { name, not_after_ms: u64::try_from(end_s).unwrap_or_default().saturating_mul(1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_named_by_their_files_each_once() {
        let listeners = [("/etc/a/www.pem", 200), ("/etc/b/www.pem", 100), ("/etc/old.pem", -5)]
            .map(|(file, end)| (file.to_owned(), end));
        let found = all(listeners.into(), None);
        let found: Vec<_> = found.iter().map(|it| (it.name.as_str(), it.not_after_ms)).collect();
        assert_eq!(found, [("old.pem", 0), ("www.pem", 100_000)]);
    }
}
