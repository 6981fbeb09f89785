//! The certificates that this server shows, and when they end.

use acme::OrderReport;
use common::config::FilePath;
use proto::status::v1::{AcmeOrder, Certificate};
use std::path::Path;

/// The certificates of listeners (file, and last second of validity), the one that other servers are shown, which is read here, and those that
/// ACME brings. Blocks on the file system.
pub(super) fn all(
    listeners: Vec<(String, i64)>,
    cluster: Option<&FilePath>,
    orders: &[OrderReport],
) -> Vec<Certificate> {
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
    found.extend(orders.iter().map(ordered));
    found
}

fn ordered(order: &OrderReport) -> Certificate {
    let OrderReport { name, not_after, next_ms, failures, last_error } = order.clone();
    let not_after_ms = u64::try_from(not_after.unwrap_or_default()).unwrap_or_default().saturating_mul(1000);
    Certificate { name, not_after_ms, acme: Some(AcmeOrder { next_ms, failures, last_error }) }
}

/// Without the folders, which are nobody else's business.
fn certificate((file, end_s): (String, i64)) -> Certificate {
    let name = Path::new(&file).file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or(file);
    Certificate {
        name,
        not_after_ms: u64::try_from(end_s).unwrap_or_default().saturating_mul(1000),
        acme: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_named_by_their_files_each_once() {
        let listeners = [("/etc/a/www.pem", 200), ("/etc/b/www.pem", 100), ("/etc/old.pem", -5)]
            .map(|(file, end)| (file.to_owned(), end));
        let report = OrderReport { name: "shop.example".to_owned(), failures: 2, ..OrderReport::default() };
        let found = all(listeners.into(), None, &[report]);
        assert_eq!(found[2].acme.as_ref().unwrap().failures, 2);
        let found: Vec<_> = found.iter().map(|it| (it.name.as_str(), it.not_after_ms)).collect();
        assert_eq!(found, [("old.pem", 0), ("www.pem", 100_000), ("shop.example", 0)]);
    }
}
