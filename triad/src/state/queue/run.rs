//! Runs of pipelines: a message that goes from one step's queue to the next. What a step's answer brings about - the next message, several parts, the
//! end - comes with its settlement, so a run is never in between; and it ends once.

mod listed;
mod saved;

pub(super) use listed::Totals;

use super::{
    Queues,
    delivery::End,
    full,
    message::{Asker, Message, RunPlace},
    names::Kind,
    reply::Reply,
};
use crate::state::change::Change;
use base64ct::{Base64, Encoding};
use bytes::Bytes;
use proto::hub::v1::{
    Advance, BeginRun, DeliveryDone, MessageMeta, MessageReply, MessagesPublished, QueueMessage,
    RunDescription, RunEnd, RunPart, advance::To, message_reply, queue_outcome::Outcome, queues_full::Of,
    run_end,
};
use std::sync::Arc;

/// Runs that there may be, those that have ended included, and those of one app.
const RUNS_MAX: usize = 100_000;
pub(super) const APP_RUNS_MAX: usize = RUNS_MAX / 2;

/// What a run takes, one that waits for its parts, and each part, beside what came of them.
const RUN: u64 = 400;
const JOIN: u64 = 200;
const PART: u64 = 150;

/// Parts that a run may be fanned out into in all, and how deep within each other: what ends one is one command.
const PARTS_MAX: u32 = 10_000;
const DEPTH_MAX: u32 = 16;

/// What parts may have together, in bytes.
const JOINED_MAX: usize = 1 << 20;

/// How long what has come of a run is kept if nobody says.
const RESULT_MS: u64 = 3_600_000;

/// The queue of a step begins so: no app can use such a name.
const QUEUE: &str = "pipe:";

/// Says of a message why it failed, and in which queue.
const ERROR: &str = "copal-error";
const FROM: &str = "copal-from";

/// How much is said of why, in bytes.
const ERROR_MAX: usize = 512;

/// The pipeline and the step whose queue this is, if it is one's.
pub(crate) fn step_of(queue: &str) -> Option<(&str, &str)> {
    queue.strip_prefix(QUEUE)?.split_once(':')
}

/// A run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Run {
    pub(super) pipeline: Arc<str>,
    pub(super) app: Arc<str>,
    pub(super) begun_ms: u64,
    pub(super) result_ms: u64,
    pub(super) asker: Option<Asker>,
    /// What has come of it, and when.
    pub(super) end: Option<(Arc<RunEnd>, u64)>,
    /// Messages that are dead, or lost: while there are any it has failed, and the others go on.
    pub(super) dead: u32,
    /// Parts that it was fanned out into so far.
    pub(super) parts: u32,
}

/// Parts of a run that wait for the others.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Join {
    pub(super) run: u64,
    /// Of which join this is a part itself; 0: none.
    pub(super) parent: u64,
    pub(super) part: u32,
    pub(super) parts: u32,
    /// Those that are not here yet.
    pub(super) left: u32,
    /// How many fan-outs it is within, itself included.
    pub(super) depth: u32,
    /// Where they go together, as the first of them has said: a step's queue, or empty: the end.
    pub(super) to: Option<Arc<str>>,
}

impl Run {
    /// It is done, or has halted: nothing more comes of it. One that has failed may still go on.
    fn is_over(&self) -> bool {
        self.end.as_ref().is_some_and(|it| !matches!(it.0.end, Some(run_end::End::Failed(_))))
    }
}

fn bytes_of_end(end: &RunEnd) -> u64 {
    let bytes = match &end.end {
        Some(run_end::End::Done(it) | run_end::End::Halted(it)) => it.body.len() + it.content_type.len(),
        Some(run_end::End::Failed(why)) => why.len(),
        None => 0,
    };
    bytes as u64
}

fn bytes_of_part(part: &RunPart) -> u64 {
    PART + (part.body.len() + part.content_type.len()) as u64
}

/// A copy of its own: a part of the log's entry would keep all of it.
fn own(part: &RunPart) -> RunPart {
    RunPart { body: Bytes::copy_from_slice(&part.body), content_type: part.content_type.clone() }
}

/// Parts as one list of JSON, in their order: JSON as it is, text as text, bytes as `{"base64": …}`, nothing as null.
pub(super) fn list<'a>(parts: impl Iterator<Item = &'a RunPart>) -> RunPart {
    let mut body = vec![b'['];
    for (place, part) in parts.enumerate() {
        if place > 0 {
            body.push(b',');
        }
        match std::str::from_utf8(&part.body) {
            Ok("") => body.extend_from_slice(b"null"),
            Ok(json) if part.content_type == "application/json" => body.extend_from_slice(json.as_bytes()),
            Ok(text) => body.extend_from_slice(serde_json::Value::from(text).to_string().as_bytes()),
            Err(_) => {
                body.extend_from_slice(b"{\"base64\":\"");
                body.extend_from_slice(Base64::encode_string(&part.body).as_bytes());
                body.extend_from_slice(b"\"}");
            }
        }
    }
    body.push(b']');
    RunPart { body: body.into(), content_type: "application/json".to_owned() }
}

impl Queues {
    fn charge(&mut self, app: &Arc<str>, bytes: u64) {
        self.bytes += bytes;
        self.share(app, |it| it.bytes += bytes);
    }

    fn discharge(&mut self, app: &Arc<str>, bytes: u64) {
        self.bytes -= bytes;
        self.share(app, |it| it.bytes -= bytes);
    }

    /// Begins a run; its number is that of its first message.
    pub(super) fn begin_run(
        &mut self,
        (server, started_ms): (&Arc<str>, u64),
        begin: BeginRun,
        max: u64,
        around: (u64, &mut Vec<Change>),
    ) -> Outcome {
        let BeginRun { pipeline, message, result_ms } = begin;
        let message = message.unwrap_or_default();
        let (wait_ms, ask) = (message.wait_ms, message.ask);
        // Its number is known when it is published, and it may be handed out by then.
        let id = self.last + 1;
        let message = QueueMessage { run: id, wait_ms: 0, ..message };
        if let Some(full) = self.is_full(std::slice::from_ref(&message), max.saturating_sub(2 * RUN)) {
            return full;
        }
        let (app, now_ms) = (self.app(&message.app), around.0);
        if self.runs.len() >= RUNS_MAX {
            return full(Of::Runs, RUNS_MAX as u64);
        }
        if self.apps.get(&app).map_or(0, |it| it.runs) >= APP_RUNS_MAX {
            return full(Of::Runs, APP_RUNS_MAX as u64);
        }
        let until_ms = now_ms.saturating_add(wait_ms);
        let asker = (wait_ms > 0).then(|| Asker { server: server.clone(), started_ms, until_ms, ask });
        let run = Run {
            pipeline: pipeline.into(),
            app,
            begun_ms: now_ms,
            result_ms,
            asker,
            end: None,
            dead: 0,
            parts: 0,
        };
        self.put_run(id, run);
        let (published, is_new) = self.publish_one((server, started_ms), message, around);
        let repeated = if is_new { Vec::new() } else { vec![0] };
        if !is_new {
            self.take_run(id);
        }
        Outcome::Published(MessagesPublished { ids: vec![published], repeated })
    }

    pub(super) fn put_run(&mut self, id: u64, run: Run) {
        let bytes = RUN + run.end.as_ref().map_or(0, |it| bytes_of_end(&it.0));
        self.charge(&run.app, bytes);
        self.share(&run.app, |it| it.runs += 1);
        self.total(&run, |it| it.saturating_add(1));
        if let Some((_, ended_ms)) = &run.end {
            self.ends.insert((ended_ms.saturating_add(run.result_ms), End::Run(id)));
        }
        self.runs.insert(id, run);
    }

    pub(super) fn take_run(&mut self, id: u64) -> Option<Run> {
        let run = self.runs.remove(&id)?;
        let bytes = RUN + run.end.as_ref().map_or(0, |it| bytes_of_end(&it.0));
        self.discharge(&run.app, bytes);
        self.share(&run.app, |it| it.runs -= 1);
        self.total(&run, |it| it.saturating_sub(1));
        if let Some((_, ended_ms)) = &run.end {
            self.ends.remove(&(ended_ms.saturating_add(run.result_ms), End::Run(id)));
        }
        Some(run)
    }

    /// A run is forgotten, with what is left of it. How many parts that may be.
    pub(super) fn forget_run(&mut self, id: u64) -> u32 {
        let Some(run) = self.take_run(id) else { return 0 };
        self.take_joins(id, &run.app);
        run.parts
    }

    /// Whether a message belongs to a run that is done, halted or forgotten: nobody is handed it any more.
    fn is_of_ended_run(&self, of: &Message) -> bool {
        of.run().is_some_and(|it| self.runs.get(&it.run).is_none_or(Run::is_over))
    }

    /// Whose run it is to which a delivery's message belongs, if to any.
    pub(super) fn app_of_run(&self, delivery: &(Arc<str>, u64)) -> Option<Arc<str>> {
        // Others have none, and are settled most.
        let assigned = self.assigned.get(delivery).filter(|it| step_of(&it.queue).is_some())?;
        let message = self.all.get(&assigned.queue)?.get(assigned.id)?;
        message.run().map(|_| message.app().clone())
    }

    /// Why there can be no such queue as a run goes on to.
    pub(super) fn has_no_such_queue(&mut self, app: &str, advance: Option<&Advance>) -> Option<Outcome> {
        let Some(To::Queue(queue) | To::Join(queue)) = advance?.to.as_ref() else { return None };
        if self.all.contains_key(&**queue) {
            return None;
        }
        let room = self.room_for_names(Kind::of(queue), app, 1);
        room.err().map(|max| full(Of::Queues, max as u64))
    }

    /// Why there is no room for what a settlement of an app's run has brought about.
    pub(super) fn has_grown_too_much(&self, before: &Self, app: &str, max: u64) -> Option<Outcome> {
        let own = |it: &Self| it.apps.get(app).map_or(0, |it| it.bytes);
        if self.bytes > max && self.bytes > before.bytes {
            return Some(full(Of::All, max));
        }
        (own(self) > max / 2 && own(self) > own(before)).then(|| full(Of::App, max / 2))
    }

    /// Messages of runs that have ended are not handed out: those that would be next, at most so many. How many it were.
    pub(super) fn drop_of_ended_runs(&mut self, queue: &Arc<str>, limit: u32, now_ms: u64) -> u32 {
        let mut count = 0;
        if step_of(queue).is_none() {
            return count;
        }
        while count < limit
            && let Some(line) = self.all.get(queue)
            && let Some((id, message)) = line.first_ready()
            && self.is_of_ended_run(message)
        {
            count += 1;
            let taken = self.change(queue, |line| {
                line.counts.purged += 1;
                line.take(id, now_ms)
            });
            if let Some(taken) = taken.flatten() {
                self.gone(&taken);
            }
        }
        count
    }

    /// A step of a run is done: what comes next.
    pub(super) fn advance(
        &mut self,
        of: &Message,
        place: RunPlace,
        done: &DeliveryDone,
        advance: Option<Advance>,
        around: (u64, &mut Vec<Change>),
    ) {
        if self.is_of_ended_run(of) {
            return;
        }
        let reply = own(&RunPart { body: done.body.clone(), content_type: done.content_type.clone() });
        let Advance { to, parts } = advance.unwrap_or_default();
        match to {
            None => self.joined(of, None, place, reply, around),
            Some(To::Halt(_)) => self.run_ends(place.run, run_end::End::Halted(reply), around),
            Some(To::Join(queue)) => self.joined(of, Some(&queue), place, reply, around),
            Some(To::Queue(queue)) if parts.is_empty() => self.goes_on(of, &queue, place, reply, around),
            Some(To::Queue(queue)) => self.fans_out(of, &queue, place, &parts, around),
        }
    }

    /// A run goes on in parts, all of them to one step.
    fn fans_out(
        &mut self,
        of: &Message,
        queue: &str,
        RunPlace { run, join: parent, part }: RunPlace,
        parts: &[RunPart],
        (now_ms, changes): (u64, &mut Vec<Change>),
    ) {
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let depth = 1 + self.joins.get(&(run, parent)).map_or(0, |it| it.depth);
        let Some(of_run) = self.runs.get_mut(&run) else { return };
        of_run.parts = of_run.parts.saturating_add(count);
        let why = if of_run.parts > PARTS_MAX {
            format!("it has {} parts in all: expected at most {PARTS_MAX}", of_run.parts)
        } else if depth > DEPTH_MAX {
            format!("it is fanned out {depth} times within each other: expected at most {DEPTH_MAX}")
        } else {
            let join = self.next();
            self.put_join(join, Join { run, parent, part, parts: count, left: count, depth, to: None });
            for (part, it) in (0..).zip(parts) {
                let place = RunPlace { run, join, part };
                self.goes_on(of, queue, place, own(it), (now_ms, &mut *changes));
            }
            return;
        };
        self.run_fails(run, &why, (now_ms, changes));
    }

    /// What a step says is the message of another one: there is room for its queue, see [`Self::has_no_such_queue`].
    fn goes_on(
        &mut self,
        of: &Message,
        queue: &str,
        place: RunPlace,
        RunPart { body, content_type }: RunPart,
        around: (u64, &mut Vec<Change>),
    ) {
        let RunPlace { run, join, part } = place;
        let mut message = QueueMessage {
            body,
            content_type,
            run,
            join,
            part,
            wait_ms: 0,
            ttl_ms: 0,
            unique: String::new(),
            group: String::new(),
            ..of.told(queue)
        };
        message.meta.retain(|it| it.name != ERROR && it.name != FROM);
        self.publish_one((&Arc::from(""), 0), message, around);
    }

    /// A part has come to where it waits for the others, `to` a step or the end.
    fn joined(
        &mut self,
        of: &Message,
        to: Option<&str>,
        place: RunPlace,
        reply: RunPart,
        around: (u64, &mut Vec<Change>),
    ) {
        let RunPlace { run, join: id, part } = place;
        let Some(join) = self.joins.get(&(run, id)).cloned() else {
            return match to {
                _ if id != 0 => self.run_fails(run, "its other parts are forgotten", around),
                Some(queue) => self.goes_on(of, queue, place, list(std::iter::once(&reply)), around),
                None => self.run_ends(run, run_end::End::Done(reply), around),
            };
        };
        if self.joined.contains_key(&(id, part)) {
            return;
        }
        let to: Arc<str> = to.unwrap_or_default().into();
        if let Some(first) = join.to.as_ref().filter(|it| **it != to) {
            let name = |it: &str| step_of(it).map_or("the end", |it| it.1).to_owned();
            let why = format!("of its parts one goes to {}, and one to {}", name(first), name(&to));
            return self.run_fails(run, &why, around);
        }
        self.put_joined((id, part), reply, of.app());
        let left = join.left.saturating_sub(1);
        let (parent, part) = (join.parent, join.part);
        self.joins.insert((run, id), Join { left, to: Some(to.clone()), ..join });
        if left > 0 {
            return;
        }
        let parts = self.joined.range((id, 0)..=(id, u32::MAX)).map(|(_, it)| it);
        let bytes: usize = parts.clone().map(|it| it.body.len()).sum();
        let all = if bytes > JOINED_MAX { RunPart::default() } else { list(parts) };
        self.take_join((run, id), of.app());
        let bytes = bytes.max(all.body.len());
        if bytes > JOINED_MAX {
            let why = format!("its parts have {bytes} bytes together: expected at most {JOINED_MAX}");
            return self.run_fails(run, &why, around);
        }
        let place = RunPlace { run, join: parent, part };
        match &*to {
            "" => self.joined(of, None, place, all, around),
            queue => self.goes_on(of, queue, place, all, around),
        }
    }

    pub(super) fn put_join(&mut self, id: u64, join: Join) {
        if let Some(app) = self.runs.get(&join.run).map(|it| it.app.clone()) {
            self.charge(&app, JOIN);
            self.joins.insert((join.run, id), join);
        }
    }

    pub(super) fn put_joined(&mut self, place: (u64, u32), part: RunPart, app: &Arc<str>) {
        self.charge(app, bytes_of_part(&part));
        self.joined.insert(place, part);
    }

    fn take_join(&mut self, place: (u64, u64), app: &Arc<str>) {
        if self.joins.remove(&place).is_none() {
            return;
        }
        self.discharge(app, JOIN);
        let parts = self.joined.range((place.1, 0)..=(place.1, u32::MAX));
        let parts: Vec<_> = parts.map(|(place, it)| (*place, bytes_of_part(it))).collect();
        for (part, bytes) in parts {
            self.joined.remove(&part);
            self.discharge(app, bytes);
        }
    }

    fn take_joins(&mut self, run: u64, app: &Arc<str>) {
        let joins = self.joins.range((run, 0)..=(run, u64::MAX)).map(|it| *it.0);
        let joins: Vec<_> = joins.collect();
        joins.into_iter().for_each(|place| self.take_join(place, app));
    }

    /// A message of a run is dead, or lost: it fails. Its other parts go on, and wait for this one: it may be replayed.
    pub(super) fn run_fails(&mut self, id: u64, why: &str, around: (u64, &mut Vec<Change>)) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.dead = run.dead.saturating_add(1);
        }
        self.run_ends(id, run_end::End::Failed(why.to_owned()), around);
    }

    /// A run ends, if it has not ended before.
    fn run_ends(&mut self, id: u64, end: run_end::End, (now_ms, changes): (u64, &mut Vec<Change>)) {
        // One that has failed may halt, or be done, yet; and fails once.
        let fails = matches!(end, run_end::End::Failed(_));
        let is_over = |it: &Run| if fails { it.end.is_some() } else { it.is_over() };
        let Some(run) = self.runs.get(&id).filter(|it| !is_over(it)).cloned() else { return };
        if !fails {
            self.take_joins(id, &run.app);
        }
        self.take_run(id);
        let end = Arc::new(RunEnd { end: Some(end) });
        self.put_run(id, Run { end: Some((end.clone(), now_ms)), asker: None, ..run.clone() });
        let Some(Asker { server, started_ms, until_ms, ask }) = run.asker else { return };
        let is_there = self.servers.get(&server).is_some_and(|it| it.started_ms == started_ms);
        if until_ms <= now_ms || !is_there {
            return;
        }
        let done =
            |it: &RunPart| DeliveryDone { body: it.body.clone(), content_type: it.content_type.clone() };
        let outcome = match &end.end {
            Some(run_end::End::Done(it)) => message_reply::Outcome::Done(done(it)),
            Some(run_end::End::Halted(it)) => message_reply::Outcome::Halted(done(it)),
            Some(run_end::End::Failed(why)) => message_reply::Outcome::Failed(why.clone()),
            None => return,
        };
        let number = self.next();
        let reply = Arc::new(MessageReply { number, id, ask, outcome: Some(outcome) });
        self.put_reply(&server, number, Reply { reply, app: run.app, until_ms });
        changes.push(Change::Delivered(server));
    }

    /// A message that was dead goes on: and so does its run, if it has failed, or is forgotten.
    pub(super) fn run_goes_on(&mut self, queue: &str, of: &Message, now_ms: u64) {
        let Some(place) = of.run() else { return };
        let run = match self.take_run(place.run) {
            Some(run) if run.is_over() => run,
            Some(run) => {
                let dead = run.dead.saturating_sub(1);
                Run { end: run.end.filter(|_| dead > 0), dead, ..run }
            }
            None => Run {
                pipeline: step_of(queue).map_or("", |it| it.0).into(),
                app: of.app().clone(),
                begun_ms: now_ms,
                result_ms: RESULT_MS,
                asker: None,
                end: None,
                dead: 0,
                parts: 0,
            },
        };
        self.put_run(place.run, run);
    }

    /// Where a message goes that would be dead: false, nowhere.
    pub(super) fn goes_to_dead_letters(
        &mut self,
        queue: &Arc<str>,
        id: u64,
        why: &str,
        around: (u64, &mut Vec<Change>),
    ) -> bool {
        let Some(line) = self.all.get(queue) else { return false };
        let to = line.policy.dead_to.clone();
        let Some(of) = line.get(id).cloned() else { return false };
        if to.is_empty() || *to == **queue {
            return false;
        }
        if !self.all.contains_key(&*to) && self.room_for_names(Kind::of(&to), of.app(), 1).is_err() {
            return false;
        }
        let (now_ms, changes) = around;
        let taken = self.change(queue, |line| {
            line.counts.died += 1;
            line.take(id, now_ms)
        });
        let Some(taken) = taken.flatten() else { return false };
        self.gone(&taken);
        let mut message = of.told(&to);
        message.meta.retain(|it| it.name != ERROR && it.name != FROM);
        let error = why[..why.floor_char_boundary(ERROR_MAX)].to_owned();
        message.meta.push(MessageMeta { name: ERROR.to_owned(), value: error });
        message.meta.push(MessageMeta { name: FROM.to_owned(), value: queue.to_string() });
        (message.ttl_ms, message.unique) = (0, String::new());
        message.wait_ms = 0;
        if of.asker().is_some() {
            let outcome = message_reply::Outcome::Failed(why.to_owned());
            self.reply(id, &of, outcome, (now_ms, &mut *changes));
        }
        self.publish_one((&Arc::from(""), 0), message, (now_ms, changes));
        true
    }

    /// What has come of a run.
    pub(crate) fn run(&self, pipeline: &str, id: u64) -> RunDescription {
        let Some(run) = self.runs.get(&id).filter(|it| *it.pipeline == *pipeline) else {
            return RunDescription { unknown: true, ..RunDescription::default() };
        };
        RunDescription {
            unknown: false,
            end: run.end.as_ref().map(|it| RunEnd::clone(&it.0)),
            begun_ms: run.begun_ms,
            ended_ms: run.end.as_ref().map_or(0, |it| it.1),
            app: run.app.to_string(),
        }
    }
}
