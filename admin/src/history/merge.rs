//! What several hub servers have kept becomes one: each step is that of the server which has the most samples of it.

use proto::history::v1::{Past, ReadHistory, Series, ServerPast};

/// What all have kept together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Merged {
    /// One a step.
    pub(crate) samples: Vec<u32>,
    pub(crate) lines: Vec<(Series, Vec<Option<f32>>)>,
}

/// Puts answers together; of servers with the same number of samples the first is taken. What does not fit the question is left out.
pub(super) fn merge(asked: &ReadHistory, answers: &[&Past]) -> Merged {
    let step_s = u64::from(asked.step_s).max(1);
    let steps = usize::try_from(asked.until_s.saturating_sub(asked.from_s) / step_s).unwrap_or_default();
    let server = asked.servers.first().map(String::as_str).unwrap_or_default();
    let fits = |it: &&&Past| (it.from_s, it.step_s) == (asked.from_s, asked.step_s);
    let pasts = answers.iter().filter(fits).filter_map(|it| it.servers.iter().find(|it| it.server == server));
    let pasts: Vec<&ServerPast> = pasts.collect();
    let samples_of = |past: &ServerPast, step: usize| past.samples.get(step).copied().unwrap_or_default();
    // Which answer each step is of.
    let best: Vec<Option<&ServerPast>> = (0..steps)
        .map(|step| {
            let known = pasts.iter().filter(|it| samples_of(it, step) > 0);
            known.rev().max_by_key(|it| samples_of(it, step)).copied()
        })
        .collect();
    let wanted = |series: &Series| asked.series.is_empty() || asked.series.contains(&i32::from(*series));
    let lines = super::all().filter(wanted).map(|series| {
        let value = |(step, past): (usize, &Option<&ServerPast>)| {
            let line = past.as_ref()?.lines.iter().find(|it| it.series() == series)?;
            line.values.get(step).copied().filter(|it| it.is_finite())
        };
        (series, best.iter().enumerate().map(value).collect())
    });
    let samples = best.iter().enumerate().map(|(step, it)| it.map_or(0, |it| samples_of(it, step)));
    Merged { samples: samples.collect(), lines: lines.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::history::v1::Line;

    fn past(samples: &[u32], values: &[f32]) -> Past {
        let line = Line { series: Series::Load.into(), values: values.to_vec() };
        let server = ServerPast { server: "app-a".into(), samples: samples.to_vec(), lines: vec![line] };
        Past { from_s: 100, step_s: 10, servers: vec![server] }
    }

    fn line(merged: &Merged, series: Series) -> &[Option<f32>] {
        merged.lines.iter().find(|(it, _)| *it == series).map_or(&[], |(_, values)| values)
    }

    fn asked() -> ReadHistory {
        let (servers, series) = (vec!["app-a".to_owned()], vec![Series::Load.into()]);
        ReadHistory { from_s: 100, until_s: 140, step_s: 10, servers, series }
    }

    #[test]
    fn a_server_that_was_away_leaves_no_gap() {
        let first = past(&[2, 0, 1, 0], &[1.0, f32::NAN, 1.0, f32::NAN]);
        let second = past(&[2, 2, 2, 0], &[2.0, 2.0, 2.0, f32::NAN]);
        let merged = merge(&asked(), &[&first, &second]);
        assert_eq!(merged.samples, [2, 2, 2, 0]);
        assert_eq!(line(&merged, Series::Load), [Some(1.0), Some(2.0), Some(2.0), None]);
        assert_eq!((merged.lines.len(), line(&merged, Series::P50Ms)), (1, &[][..]));
    }

    #[test]
    fn an_answer_that_does_not_fit_is_left_out() {
        let good = past(&[1, 1, 1, 1], &[1.0, 2.0, 3.0, 4.0]);
        let other_step = Past { step_s: 20, ..past(&[9, 9, 9, 9], &[9.0; 4]) };
        let other_time = Past { from_s: 90, ..past(&[9, 9, 9, 9], &[9.0; 4]) };
        let short = past(&[9], &[]);
        let strange = Past { servers: vec![ServerPast::default()], ..past(&[], &[]) };
        let merged = merge(&asked(), &[&other_step, &other_time, &short, &strange, &good]);
        assert_eq!(line(&merged, Series::Load), [None, Some(2.0), Some(3.0), Some(4.0)]);
        assert_eq!(merge(&asked(), &[]).samples, [0; 4]);
    }
}
