//! Quantiles of the histograms that servers tell of.

use crate::status::v1::Histogram;

/// The time that a part `q` (0 to 1) of the requests did not exceed, in microseconds: within its bucket they are taken to be spread
/// evenly. `None` without requests. Of what is above all bounds it is the last bound.
pub fn quantile(histogram: &Histogram, q: f64) -> Option<f64> {
    let all: u64 = histogram.counts.iter().fold(0, |sum, it| sum.saturating_add(*it));
    if all == 0 {
        return None;
    }
    let wanted = q.clamp(0.0, 1.0) * all as f64;
    let (mut below, mut lower) = (0.0, 0.0);
    for (count, bound) in histogram.counts.iter().zip(&histogram.bounds_us) {
        let (count, upper) = (*count as f64, *bound as f64);
        if count > 0.0 && below + count >= wanted {
            return Some(lower + (upper - lower) * ((wanted - below) / count).clamp(0.0, 1.0));
        }
        (below, lower) = (below + count, upper);
    }
    Some(lower)
}
