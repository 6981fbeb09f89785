//! Whose requests were refused most: as many as fit, by the Space-Saving algorithm (Metwally, Agrawal, El Abbadi 2005).

use std::sync::{Mutex, PoisonError};

/// So many are kept apart.
const KEPT: usize = 64;

/// So many are told.
const TOLD: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<Vec<One>>);

#[derive(Debug)]
struct One {
    hash: u64,
    shown: String,
    count: u64,
}

impl Refused {
    /// One more of this key.
    pub(super) fn note(&self, hash: u64, shown: impl FnOnce() -> String) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = list.iter_mut().find(|it| it.hash == hash) {
            known.count += 1;
        } else if list.len() < KEPT {
            list.push(One { hash, shown: shown(), count: 1 });
        } else if let Some(least) = list.iter_mut().min_by_key(|it| it.count) {
            *least = One { hash, shown: shown(), count: least.count + 1 };
        }
    }

    /// The most refused, the most first.
    pub(super) fn most(&self) -> Vec<(String, u64)> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut most: Vec<_> = list.iter().map(|it| (it.shown.clone(), it.count)).collect();
        most.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        most.truncate(TOLD);
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_most_stays_among_many_others() {
        let refused = Refused::default();
        for number in 0..10_000u64 {
            refused.note(number + 10, || number.to_string());
            refused.note(1, || "one".to_owned());
            if number % 2 == 0 {
                refused.note(2, || "two".to_owned());
            }
        }
        let most = refused.most();
        assert_eq!(most.len(), TOLD);
        assert_eq!(most[0], ("one".to_owned(), 10_000));
        assert_eq!(most[1].0, "two");
        assert!(refused.0.lock().unwrap().len() <= KEPT);
    }
}
