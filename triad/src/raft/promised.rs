//! What a server may have promised before it lost its memory, as far as the others can tell. Pure but for the messages' form.
//! docs/decisions/0004-hub-founding.md has the proof.

use super::{LogId, Vote, codec};
use proto::hub::v1::HubHelloReply;

/// An upper bound of the votes that a server has given and of the entries that it has acknowledged.
///
/// Each of its promises was made to another server, or to itself as a leader whom another had elected: that one knows of a vote
/// that is at least as new, and has the entry. Which one it was is not known, so all of them must have answered; and they must
/// have answered *since* the memory was lost, so that what was still under way then is in their answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Promised {
    vote: Vote,
    last: Option<LogId>,
}

impl Promised {
    /// From what all others have answered, `None` for those that did not or whose own memory is not whole: then nothing is known.
    pub(super) fn from_all<'a>(others: impl IntoIterator<Item = Option<&'a HubHelloReply>>) -> Option<Self> {
        let mut bound: Option<Self> = None;
        for answer in others {
            let one = Self::of(answer?)?;
            bound = Some(bound.map_or(one, |it| it.and(one)));
        }
        bound
    }

    fn of(answer: &HubHelloReply) -> Option<Self> {
        let vote = answer.vote.as_ref().filter(|_| answer.member)?;
        Some(Self { vote: codec::vote(vote), last: answer.last.as_ref().map(codec::log_id) })
    }

    fn and(self, other: Self) -> Self {
        let vote = if self.vote.leader_id < other.vote.leader_id { other.vote } else { self.vote };
        Self { vote, last: self.last.max(other.last) }
    }

    /// Whether to take entries from a leader breaks no promise: a newer one may have been promised to ignore it.
    pub(super) fn allows(&self, leader: &Vote) -> bool {
        leader.leader_id >= self.vote.leader_id
    }

    /// Whether a server with this vote and last entry has everything again that it may have promised to remember. It has followed
    /// a leader that it was allowed to follow, and the log up to its last entry is that leader's.
    pub(super) fn is_kept_by(&self, vote: Option<Vote>, last: Option<LogId>) -> bool {
        vote.is_some_and(|it| self.allows(&it)) && last.is_some() && last >= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::impls::leader_id_adv::LeaderId;
    use proto::hub::v1::{RaftLogId, RaftVote};

    fn answer(term: u64, node: u64, last: Option<(u64, u64)>) -> HubHelloReply {
        HubHelloReply {
            member: true,
            vote: Some(RaftVote { term, node, committed: false }),
            last: last.map(|(term, index)| RaftLogId { term, node: 0, index }),
            ..HubHelloReply::default()
        }
    }

    fn leader(term: u64, node: u64) -> Vote {
        Vote::new_committed(term, node)
    }

    fn entry(term: u64, index: u64) -> Option<LogId> {
        Some(LogId::new(LeaderId { term, node_id: 0 }, index))
    }

    #[test]
    fn nothing_is_known_before_all_others_have_answered_with_a_whole_memory() {
        let (one, two) = (answer(3, 0, Some((3, 9))), answer(4, 1, Some((2, 12))));
        assert!(Promised::from_all([Some(&one), None]).is_none());
        let lost = HubHelloReply { member: false, ..two.clone() };
        assert!(Promised::from_all([Some(&one), Some(&lost)]).is_none());
        let older_version = HubHelloReply { vote: None, ..two.clone() };
        assert!(Promised::from_all([Some(&one), Some(&older_version)]).is_none());
        assert!(Promised::from_all([]).is_none());
        assert!(Promised::from_all([Some(&one), Some(&two)]).is_some());
    }

    #[test]
    fn leaders_older_than_any_vote_are_not_followed() {
        let answers = [answer(3, 2, None), answer(4, 1, None)];
        let promised = Promised::from_all(answers.iter().map(Some)).unwrap();
        for old in [leader(3, 2), leader(4, 0)] {
            assert!(!promised.allows(&old), "{old}");
        }
        for new in [leader(4, 1), leader(4, 2), leader(5, 0)] {
            assert!(promised.allows(&new), "{new}");
        }
    }

    #[test]
    fn it_is_kept_with_the_newest_entry_of_all_under_a_leader_that_was_allowed() {
        let answers = [answer(3, 0, Some((2, 50))), answer(4, 1, Some((3, 20)))];
        let promised = Promised::from_all(answers.iter().map(Some)).unwrap();
        let kept = |vote, last| promised.is_kept_by(Some(vote), last);
        assert!(!kept(leader(4, 1), entry(2, 60)), "longer, and older");
        assert!(!kept(leader(4, 1), entry(3, 19)));
        assert!(!kept(leader(3, 0), entry(3, 20)), "of its own making before it was allowed anything");
        assert!(!promised.is_kept_by(None, entry(3, 20)));
        assert!(kept(leader(4, 1), entry(3, 20)) && kept(leader(5, 0), entry(5, 3)));
        let new = [answer(0, 0, None), answer(0, 1, None)];
        let new = Promised::from_all(new.iter().map(Some)).unwrap();
        assert!(!new.is_kept_by(Some(leader(1, 0)), None), "an empty log has caught up with nothing");
    }
}
