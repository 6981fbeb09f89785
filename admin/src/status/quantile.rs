//! Histograms and counts of several servers together.

pub(crate) use proto::quantile::quantile;
use proto::status::v1::{Histogram, Traffic};

/// The traffic of several servers together.
pub(crate) fn sum<'a>(all: impl Iterator<Item = &'a Traffic>) -> Traffic {
    let mut sum = Traffic { answers: vec![0; 6], ..Traffic::default() };
    for it in all {
        sum.connections_open += it.connections_open;
        sum.requests += it.requests;
        sum.requests_active += it.requests_active;
        sum.retries += it.retries;
        sum.upstream_failures += it.upstream_failures;
        sum.received_bytes += it.received_bytes;
        sum.sent_bytes += it.sent_bytes;
        sum.compressed += it.compressed;
        sum.compressed_plain_bytes += it.compressed_plain_bytes;
        sum.compressed_bytes += it.compressed_bytes;
        sum.answers.iter_mut().zip(&it.answers).for_each(|(sum, more)| *sum += more);
        if let Some(latency) = &it.latency {
            add(sum.latency.get_or_insert_default(), latency);
        }
    }
    sum
}

/// Adds one with the same bounds; one of another version, with others, is left out.
fn add(sum: &mut Histogram, more: &Histogram) {
    if sum.counts.is_empty() {
        sum.clone_from(more);
        return;
    }
    if sum.bounds_us == more.bounds_us && sum.counts.len() == more.counts.len() {
        sum.counts.iter_mut().zip(&more.counts).for_each(|(sum, more)| *sum += more);
        sum.sum_us = sum.sum_us.saturating_add(more.sum_us);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn histogram(counts: &[u64]) -> Histogram {
        let bounds_us = (0..counts.len() as u64 - 1).map(|it| 100 << it).collect();
        Histogram { bounds_us, counts: counts.to_vec(), sum_us: 0, exemplars: Vec::new() }
    }

    #[test]
    fn a_quantile_is_within_its_bucket() {
        let near = |histogram: &Histogram, q, expected: f64| {
            let found = quantile(histogram, q).unwrap();
            assert!((found - expected).abs() < 0.01, "{found} for {expected}");
        };
        assert_eq!(quantile(&histogram(&[0, 0, 0]), 0.5), None);
        assert_eq!(quantile(&Histogram::default(), 0.5), None);
        near(&histogram(&[10, 0, 0]), 0.5, 50.0);
        near(&histogram(&[50, 50, 0]), 0.99, 198.0);
        near(&histogram(&[0, 0, 5]), 0.5, 200.0);
    }

    #[test]
    fn sums_are_of_those_that_count_alike() {
        let traffic = |requests, counts: &[u64]| Traffic {
            requests,
            answers: vec![0, 0, requests],
            latency: Some(histogram(counts)),
            ..Traffic::default()
        };
        let all = [traffic(3, &[1, 2, 0]), traffic(4, &[4, 0, 0]), traffic(5, &[1, 1, 1, 2])];
        let sum = sum(all.iter());
        assert_eq!((sum.requests, sum.answers[2]), (12, 12));
        assert_eq!(sum.latency.unwrap().counts, [5, 2, 0]);
    }

    proptest! {
        #[test]
        fn greater_parts_take_no_less_time(counts in prop::collection::vec(0_u64..1000, 2..20), a in 0.0..1.0, b in 0.0..1.0) {
            let histogram = histogram(&counts);
            if let (Some(low), Some(high)) = (quantile(&histogram, f64::min(a, b)), quantile(&histogram, f64::max(a, b))) {
                prop_assert!(low <= high + 1e-6);
            }
        }
    }
}
