//! A past for tests: every series was 0 at the first step, then what its number and the step make, and nothing in the last third.

use super::{PastRecord, Question, merge::merge};
use proto::history::v1::{Line, Past, Series, ServerPast};

/// What a question is answered, when it is asked at `now_s`.
pub(crate) fn past(question: &Question, now_s: u64) -> PastRecord {
    let asked = question.call(now_s);
    let steps = ((asked.until_s - asked.from_s) / u64::from(asked.step_s)) as usize;
    let known = steps * 2 / 3;
    let value = |series: Series, step: usize| {
        if step < known { (step * series as usize % 1009) as f32 } else { f32::NAN }
    };
    let line = |series: Series| Line {
        series: series.into(),
        values: (0..steps).map(|step| value(series, step)).collect(),
    };
    let server = ServerPast {
        server: question.server.clone().unwrap_or_default(),
        samples: (0..steps).map(|step| u32::from(step < known)).collect(),
        lines: super::all().map(line).collect(),
    };
    let past = Past { from_s: asked.from_s, step_s: asked.step_s, servers: vec![server] };
    let answers =
        [("app-a".to_owned(), Ok(past)), ("app-b".to_owned(), Err("no answer within 1s".to_owned()))];
    let merged = merge(&asked, &[answers[0].1.as_ref().unwrap()]);
    PastRecord::of(question, &asked, merged, &answers)
}
