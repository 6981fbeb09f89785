//! Which members each worker goes by: who disables a server can wait until no worker sends it anything new. Written when the
//! hub's members change, never for a request.

use proto::hub::v1::{Member, MemberAdmin};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};

/// The members that each worker has taken over, by the workers' numbers. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Picture(watch::Sender<Vec<Arc<Vec<Member>>>>);

impl Picture {
    /// Of so many workers, none of which has heard of a member.
    pub(crate) fn new(workers: usize) -> Self {
        Self(watch::Sender::new(vec![Arc::default(); workers]))
    }

    /// The worker `number` goes by these members from now on.
    pub(crate) fn note(&self, number: usize, members: Arc<Vec<Member>>) {
        self.0.send_modify(|all| all[number] = members);
    }

    /// Waits, for `wait` at most, until all workers go by what an administrator has said of the member `id` at `since_ms`, or by
    /// what was said later. Returns whether they do.
    pub async fn heeds(&self, id: &str, admin: MemberAdmin, since_ms: u64, wait: Duration) -> bool {
        let knows = |members: &Arc<Vec<Member>>| {
            let member = members.iter().find(|it| it.id == id);
            member.is_some_and(|it| {
                it.admin_since_ms > since_ms || (it.admin_since_ms == since_ms && it.admin() == admin)
            })
        };
        let mut changes = self.0.subscribe();
        let all = changes.wait_for(|all| all.iter().all(knows));
        matches!(timeout(wait, all).await, Ok(Ok(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(5);

    fn members(admin: MemberAdmin, admin_since_ms: u64) -> Arc<Vec<Member>> {
        let member = Member { id: "a".into(), admin: admin.into(), admin_since_ms, ..Member::default() };
        Arc::new(vec![member])
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_heeded_when_the_last_worker_goes_by_it() {
        let picture = Picture::new(2);
        let heeds = |since_ms| picture.heeds("a", MemberAdmin::Disabled, since_ms, WAIT);
        assert!(!heeds(7).await, "nothing is known");
        picture.note(0, members(MemberAdmin::Disabled, 7));
        picture.note(1, members(MemberAdmin::Enabled, 3));
        assert!(!heeds(7).await, "one of two");
        let last = async {
            tokio::time::sleep(WAIT / 2).await;
            picture.note(1, members(MemberAdmin::Disabled, 7));
        };
        let (heeded, ()) = tokio::join!(heeds(7), last);
        assert!(heeded);
        assert!(heeds(6).await, "a later word counts");
        assert!(!heeds(8).await, "an older one does not");
        assert!(!picture.heeds("b", MemberAdmin::Disabled, 0, WAIT).await, "another member");
    }
}
