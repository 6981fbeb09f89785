//! What is asked of the past: how far back, of which server, which series.

use super::{all, may_be_server, name, named};
use crate::{pages::form::Form, refusal::Refusal};
use proto::history::v1::{ReadHistory, Series};

/// How far back a graph goes, and by which steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Range {
    #[default]
    Hour,
    SixHours,
    Day,
    Week,
    Month,
}

impl Range {
    pub(crate) const ALL: [Self; 5] = [Self::Hour, Self::SixHours, Self::Day, Self::Week, Self::Month];

    /// As a query has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
            Self::Week => "7d",
            Self::Month => "30d",
        }
    }

    /// For people.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::SixHours => "6 hours",
            Self::Day => "24 hours",
            Self::Week => "7 days",
            Self::Month => "30 days",
        }
    }

    /// Of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }

    /// Seconds from one point to the next.
    pub(crate) fn step_s(self) -> u32 {
        match self {
            Self::Hour => 10,
            Self::SixHours => 60,
            Self::Day => 300,
            Self::Week => 1800,
            Self::Month => 7200,
        }
    }

    pub(crate) fn points(self) -> u32 {
        match self {
            Self::Hour | Self::SixHours | Self::Month => 360,
            Self::Day => 288,
            Self::Week => 336,
        }
    }
}

/// A question about the past.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Question {
    pub(crate) range: Range,
    /// None: all servers together.
    pub(crate) server: Option<String>,
    /// None: all.
    pub(crate) series: Vec<Series>,
    /// Only points from this one on, in Unix seconds.
    pub(crate) since_s: Option<u64>,
    /// The range ends there and not now.
    pub(crate) until_s: Option<u64>,
}

impl Question {
    /// Of a query: `range`, `server`, `series`, `since`, `until`.
    ///
    /// # Errors
    /// One of them is none.
    pub(crate) fn of(query: &str) -> Result<Self, Refusal> {
        let form = Form::read(query);
        let refused = |text: String| Err(Refusal::Body(text));
        let range = match form.field("range") {
            "" => Range::default(),
            range => match Range::named(range) {
                Some(range) => range,
                None => return refused(format!("`range` is {range:?}: expected 1h, 6h, 24h, 7d or 30d")),
            },
        };
        let server = Some(form.field("server")).filter(|it| !it.is_empty());
        if let Some(id) = server.filter(|it| !may_be_server(it)) {
            return refused(format!("`server` is {id:?}: expected the id of a server"));
        }
        let mut series = Vec::new();
        for asked in form.field("series").split(',').filter(|it| !it.is_empty()) {
            match named(asked) {
                Some(known) => series.push(known),
                None => {
                    let known: Vec<String> = all().map(name).collect();
                    return refused(format!("`series` has {asked:?}: expected some of {}", known.join(",")));
                }
            }
        }
        series.sort_unstable();
        series.dedup();
        let (since_s, until_s) = (time(&form, "since")?, time(&form, "until")?);
        Ok(Self { range, server: server.map(str::to_owned), series, since_s, until_s })
    }

    /// What hub servers are asked. The step that is under way is the last one.
    pub(crate) fn call(&self, now_s: u64) -> ReadHistory {
        let step_s = u64::from(self.range.step_s());
        // A far future would be no time any more.
        let end = self.until_s.unwrap_or(now_s).min(now_s);
        let until_s = (end / step_s + 1) * step_s;
        let all_from_s = until_s.saturating_sub(step_s * u64::from(self.range.points()));
        let from_s = self.since_s.map_or(all_from_s, |since| since.clamp(all_from_s, until_s - step_s));
        ReadHistory {
            from_s: from_s / step_s * step_s,
            until_s,
            step_s: self.range.step_s(),
            servers: self.server.clone().into_iter().collect(),
            series: self.series.iter().map(|it| i32::from(*it)).collect(),
        }
    }
}

/// A time in Unix seconds; none if it is not there.
fn time(form: &Form, name: &'static str) -> Result<Option<u64>, Refusal> {
    match form.field(name) {
        "" => Ok(None),
        text => match text.parse() {
            Ok(time) => Ok(Some(time)),
            Err(_) => Err(Refusal::Body(format!("`{name}` is {text:?}: expected Unix seconds"))),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_772_355_604;

    #[test]
    fn a_query_says_what_is_wanted() {
        assert_eq!(Question::of("").unwrap(), Question::default());
        let all = Question::of("range=7d&server=app-a&series=p99_ms,requests_per_s,p99_ms&since=5&until=9")
            .unwrap();
        let expected = Question {
            range: Range::Week,
            server: Some("app-a".into()),
            series: vec![Series::RequestsPerS, Series::P99Ms],
            since_s: Some(5),
            until_s: Some(9),
        };
        assert_eq!(all, expected);
        for (query, wrong) in [
            ("range=2h", "`range` is \"2h\": expected 1h, 6h, 24h, 7d or 30d"),
            ("server=../x", "`server` is \"../x\": expected the id of a server"),
            ("since=-1", "`since` is \"-1\": expected Unix seconds"),
            ("until=now", "`until` is \"now\": expected Unix seconds"),
        ] {
            assert_eq!(Question::of(query).unwrap_err().to_string(), wrong);
        }
        let unknown = Question::of("series=load,secrets").unwrap_err().to_string();
        assert!(
            unknown.starts_with("`series` has \"secrets\": expected some of requests_per_s,errors_4xx_per_s")
        );
    }

    /// What is asked for is never more than hub servers answer, whatever is said and however late it is.
    #[test]
    fn every_question_is_one_that_is_answered() {
        for range in Range::ALL {
            for since_s in [None, Some(0), Some(NOW_S - 25), Some(NOW_S), Some(u64::MAX)] {
                for until_s in [None, Some(0), Some(NOW_S - 4000), Some(u64::MAX)] {
                    let call = Question { range, since_s, until_s, ..Question::default() }.call(NOW_S);
                    let (step, span) = (u64::from(call.step_s), call.until_s - call.from_s);
                    assert!(span >= step && span <= step * u64::from(range.points()), "{call:?}");
                    assert!(
                        call.from_s.is_multiple_of(step) && call.until_s.is_multiple_of(step),
                        "{call:?}"
                    );
                    assert!(call.until_s <= NOW_S + step, "{call:?}");
                }
            }
        }
        let hour = Question::default().call(NOW_S);
        assert_eq!((hour.from_s, hour.until_s), (1_772_352_010, 1_772_355_610));
        let fresh = Question { since_s: Some(NOW_S - 15), ..Question::default() }.call(NOW_S);
        assert_eq!((fresh.from_s, fresh.until_s), (1_772_355_580, 1_772_355_610));
    }
}
