//! Runs of pipelines as records, and back.

use super::{Join, Run};
use crate::state::queue::{Queues, message::Asker};
use proto::hub::v1::{RunEnd, SnapshotJoin, SnapshotJoined, SnapshotRun, snapshot_item::Item};
use std::sync::Arc;

/// For a snapshot.
fn saved(id: u64, run: &Run) -> SnapshotRun {
    let asker = run.asker.as_ref();
    SnapshotRun {
        id,
        pipeline: run.pipeline.to_string(),
        app: run.app.to_string(),
        begun_ms: run.begun_ms,
        result_ms: run.result_ms,
        end: run.end.as_ref().map(|it| RunEnd::clone(&it.0)),
        ended_ms: run.end.as_ref().map_or(0, |it| it.1),
        dead: run.dead,
        parts: run.parts,
        reply_server: asker.map(|it| it.server.to_string()).unwrap_or_default(),
        reply_started_ms: asker.map_or(0, |it| it.started_ms),
        reply_until_ms: asker.map_or(0, |it| it.until_ms),
        reply_ask: asker.map_or(0, |it| it.ask),
    }
}

impl Queues {
    /// Runs, and what waits to be joined, as records.
    pub(in crate::state::queue) fn export_runs(&self) -> impl Iterator<Item = Item> {
        let runs = self.runs.iter().map(|(id, it)| Item::Run(saved(*id, it)));
        let joins = self.joins.iter().map(|((run, id), it)| SnapshotJoin {
            id: *id,
            run: *run,
            parent: it.parent,
            part: it.part,
            parts: it.parts,
            depth: it.depth,
            to: it.to.as_ref().map(ToString::to_string),
        });
        let joined = self.joins.keys().flat_map(|(run, join)| {
            let here = self.joined.range((*join, 0)..=(*join, u32::MAX));
            here.map(|((_, part), it)| SnapshotJoined {
                run: *run,
                join: *join,
                part: *part,
                reply: Some(it.clone()),
            })
        });
        runs.chain(joins.map(Item::Join)).chain(joined.map(Item::Joined))
    }

    pub(in crate::state::queue) fn restore_run(&mut self, saved: SnapshotRun) {
        let SnapshotRun { id, pipeline, app, begun_ms, result_ms, end, ended_ms, dead, parts, .. } = saved;
        let asker = (saved.reply_until_ms > 0).then(|| Asker {
            server: saved.reply_server.into(),
            started_ms: saved.reply_started_ms,
            until_ms: saved.reply_until_ms,
            ask: saved.reply_ask,
        });
        let app = self.app(&app);
        let end = end.map(|it| (Arc::new(it), ended_ms));
        self.put_run(
            id,
            Run { pipeline: pipeline.into(), app, begun_ms, result_ms, asker, end, dead, parts },
        );
    }

    /// A join comes after its run, and before its parts.
    pub(in crate::state::queue) fn restore_join(&mut self, saved: SnapshotJoin) {
        let SnapshotJoin { id, run, parent, part, parts, depth, to } = saved;
        let to = to.map(Into::into);
        self.put_join(id, Join { run, parent, part, parts, left: parts, depth, to });
    }

    pub(in crate::state::queue) fn restore_joined(&mut self, saved: SnapshotJoined) {
        let SnapshotJoined { run, join, part, reply } = saved;
        if let (Some(it), Some(of)) = (self.joins.get_mut(&(run, join)), self.runs.get(&run)) {
            it.left = it.left.saturating_sub(1);
            let app = of.app.clone();
            self.put_joined((join, part), reply.unwrap_or_default(), &app);
        }
    }
}
