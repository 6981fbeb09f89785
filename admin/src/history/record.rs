//! The past as JSON has it: columns.

use super::{Question, merge::Merged, name};
use proto::history::v1::{Past, ReadHistory, Series};
use serde::Serialize;
use std::collections::BTreeMap;

/// `GET /api/v1/history`.
#[derive(Debug, Serialize)]
pub(crate) struct PastRecord {
    pub(crate) range: &'static str,
    /// None: all servers together.
    pub(crate) server: Option<String>,
    /// When the first step begins, in Unix seconds.
    pub(crate) from_s: u64,
    pub(crate) step_s: u32,
    /// The hub's servers, and why one tells nothing.
    pub(crate) kept_by: Vec<KeptBy>,
    /// Of how many samples the values of each step are made; 0: there are none.
    pub(crate) samples: Vec<u32>,
    /// By the name of the series: one value a step, none where it is not known.
    pub(crate) series: BTreeMap<String, Vec<Option<f64>>>,
}

/// A hub server.
#[derive(Debug, Serialize)]
pub(crate) struct KeptBy {
    pub(crate) id: String,
    /// None: it has answered.
    pub(crate) why: Option<String>,
}

impl PastRecord {
    pub(super) fn of(
        question: &Question,
        asked: &ReadHistory,
        merged: Merged,
        answers: &[(String, Result<Past, String>)],
    ) -> Self {
        let kept_by = |(id, answer): &(String, Result<Past, String>)| KeptBy {
            id: id.clone(),
            why: answer.as_ref().err().cloned(),
        };
        let lines = merged.lines.into_iter();
        Self {
            range: question.range.name(),
            server: question.server.clone(),
            from_s: asked.from_s,
            step_s: asked.step_s,
            kept_by: answers.iter().map(kept_by).collect(),
            samples: merged.samples,
            series: lines
                .map(|(series, values)| {
                    (name(series), values.into_iter().map(|it| it.map(rounded)).collect())
                })
                .collect(),
        }
    }

    /// The values of a series; none if it was not asked for.
    pub(crate) fn line(&self, series: Series) -> &[Option<f64>] {
        self.series.get(&name(series)).map_or(&[], Vec::as_slice)
    }
}

/// Four digits: a graph has no more.
fn rounded(value: f32) -> f64 {
    let value = f64::from(value);
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    let scale = 10_f64.powi(digits.abs());
    if digits >= 0 { (value * scale).round() / scale } else { (value / scale).round() * scale }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_four_digits() {
        let text = |it: f32| serde_json::to_string(&rounded(it)).unwrap();
        let values = [0.0, 0.3, 12.345, 0.000_123_456, 64_487_424.0, 99_999.0, f32::MAX, f32::MIN_POSITIVE];
        assert_eq!(
            values.map(text),
            ["0.0", "0.3", "12.35", "0.0001235", "64490000.0", "100000.0", "3.403e+38", "1.175e-38"]
        );
    }
}
