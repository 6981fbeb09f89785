//! Whether a stored answer may be used for a request (RFC 9111 §4).

use crate::directives::{AnswerDirectives, RequestDirectives};

/// A stored answer, as far as its time goes. Seconds.
#[derive(Debug, Clone, Copy)]
pub struct Stored<'a> {
    /// What it says.
    pub directives: &'a AnswerDirectives,
    /// How old it is now.
    pub age: u64,
    /// How long it is fresh.
    pub lifetime: u64,
}

/// What may be done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// It answers the request.
    Fresh,
    /// It is stale, and answers the request all the same: the client takes stale ones.
    Stale,
    /// It answers the request, and its server is asked meanwhile.
    WhileRevalidating,
    /// Its server is asked first.
    Validate,
}

impl Stored<'_> {
    /// How long it has been stale; 0: it is fresh, or just not any more.
    pub fn staleness(&self) -> u64 {
        self.age.saturating_sub(self.lifetime)
    }

    /// Whether it is fresh.
    pub fn is_fresh(&self) -> bool {
        self.age < self.lifetime
    }

    /// For a request that asks this.
    pub fn reuse(&self, asked: &RequestDirectives) -> Reuse {
        if asked.no_cache || self.directives.no_cache.is_whole() {
            return Reuse::Validate;
        }
        let too_old = asked.max_age.is_some_and(|max| self.age > u64::from(max) || max == 0);
        let too_soon =
            asked.min_fresh.is_some_and(|least| self.lifetime.saturating_sub(self.age) < u64::from(least));
        if too_old && !(self.directives.immutable && self.is_fresh()) || too_soon {
            return Reuse::Validate;
        }
        if self.is_fresh() {
            return Reuse::Fresh;
        }
        let within = |seconds: Option<u32>| seconds.is_some_and(|it| self.staleness() < u64::from(it));
        if self.directives.forbids_stale() {
            return Reuse::Validate;
        }
        if within(asked.max_stale) {
            Reuse::Stale
        } else if within(self.directives.stale_while_revalidate) {
            Reuse::WhileRevalidating
        } else {
            Reuse::Validate
        }
    }

    /// Whether it may be used because its server can't be asked or fails (RFC 5861 §4). `grace` is the operator's word where the answer has
    /// none, in seconds.
    pub fn serves_on_error(&self, grace: u32) -> bool {
        let allowed = self.directives.stale_if_error.unwrap_or(grace);
        !self.directives.forbids_stale() && self.staleness() < u64::from(allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directives::Qualified;
    use proptest::prelude::*;

    fn reuse(answer: &AnswerDirectives, age: u64, request: &str) -> Reuse {
        let mut asked = RequestDirectives::default();
        asked.add(request.as_bytes());
        Stored { directives: answer, age, lifetime: 60 }.reuse(&asked)
    }

    #[test]
    fn what_the_client_asks_counts() {
        let plain = AnswerDirectives::default();
        for (age, request, expected) in [
            (0, "", Reuse::Fresh),
            (59, "", Reuse::Fresh),
            (60, "", Reuse::Validate),
            (0, "no-cache", Reuse::Validate),
            (0, "max-age=0", Reuse::Validate),
            (5, "max-age=4", Reuse::Validate),
            (5, "max-age=5", Reuse::Fresh),
            (5, "min-fresh=56", Reuse::Validate),
            (5, "min-fresh=55", Reuse::Fresh),
            (70, "max-stale=11", Reuse::Stale),
            (70, "max-stale=10", Reuse::Validate),
            (70_000, "max-stale", Reuse::Stale),
        ] {
            assert_eq!(reuse(&plain, age, request), expected, "{age} {request}");
        }
    }

    #[test]
    fn a_stale_answer_serves_on_if_it_may() {
        let lenient = AnswerDirectives {
            stale_while_revalidate: Some(10),
            stale_if_error: Some(20),
            ..AnswerDirectives::default()
        };
        assert_eq!(reuse(&lenient, 69, ""), Reuse::WhileRevalidating);
        assert_eq!(reuse(&lenient, 70, ""), Reuse::Validate);
        let on_error = |directives: &AnswerDirectives, age, grace| {
            Stored { directives, age, lifetime: 60 }.serves_on_error(grace)
        };
        assert!(on_error(&lenient, 79, 0) && !on_error(&lenient, 80, 1000));
        assert!(
            !on_error(&AnswerDirectives::default(), 61, 0) && on_error(&AnswerDirectives::default(), 61, 5)
        );
        for strict in [
            AnswerDirectives { must_revalidate: true, ..lenient.clone() },
            AnswerDirectives { proxy_revalidate: true, ..lenient.clone() },
            AnswerDirectives { s_maxage: Some(60), ..lenient.clone() },
            AnswerDirectives { no_cache: Qualified::Whole, ..lenient },
        ] {
            assert_eq!(reuse(&strict, 61, "max-stale"), Reuse::Validate);
            assert!(!on_error(&strict, 61, 1000));
        }
    }

    proptest! {
        #[test]
        fn a_stale_answer_is_never_taken_for_a_fresh_one(age in 0_u64..200, request in "(no-cache|max-age=[0-9]{1,2}|min-fresh=[0-9]{1,2}|)") {
            let reuse = reuse(&AnswerDirectives::default(), age, &request);
            prop_assert!(reuse == Reuse::Validate || (reuse == Reuse::Fresh && age < 60));
        }
    }
}
