//! The rules of jobs.

use super::*;
use proto::hub::v1::{JobFire, QueueDescription};

const MAX: u64 = 1 << 20;

fn declared(name: &str) -> JobSpec {
    JobSpec { name: name.into(), app: "shop".into(), declared: true, every_ms: 1000, ..JobSpec::default() }
}

fn declaration(specs: Vec<JobSpec>) -> DeclareJobs {
    let next_ms = vec![1000; specs.len()];
    DeclareJobs { app: "shop".into(), jobs: specs, next_ms, ..DeclareJobs::default() }
}

fn declare(jobs: &mut Jobs, specs: Vec<JobSpec>) {
    let (apps, queues) = (&Apps::default(), &mut Queues::default());
    let declared = jobs.declare(declaration(specs), apps, queues, 1, &mut Vec::new());
    assert_eq!(declared, JobsDeclared::default());
}

fn put(spec: JobSpec, next_ms: u64) -> PutJob {
    PutJob { spec: Some(spec), next_ms, ..PutJob::default() }
}

fn fire(name: &str, version: u64, due_ms: u64, next_ms: u64) -> FireJobs {
    let fire = JobFire { name: name.into(), version, due_ms, next_ms, skip: false };
    FireJobs { fires: vec![fire], max_bytes: MAX }
}

fn described(queues: &Queues, queue: &str) -> QueueDescription {
    queues.describe(0).find(|it| it.name == queue).unwrap_or_default()
}

#[test]
fn of_each_time_one_message_is_published_and_runs_do_not_overlap() {
    let (mut jobs, mut queues) = (Jobs::default(), Queues::default());
    declare(&mut jobs, vec![declared("a")]);
    assert_eq!(jobs.due(999).count(), 0);
    let job = jobs.due(1000).next().unwrap().clone();
    let run = |jobs: &mut Jobs, queues: &mut Queues, due_ms, next_ms| {
        jobs.fire(&fire("a", job.version, due_ms, next_ms), queues, due_ms, &mut Vec::new());
    };
    for _ in 0..2 {
        run(&mut jobs, &mut queues, 1000, 2000);
    }
    assert_eq!(described(&queues, "job:a").ready, 1, "the second word is of a time that is over");
    run(&mut jobs, &mut queues, 2000, 3000);
    let job = jobs.get("a").unwrap();
    assert_eq!((job.fired, job.overlapped, job.last_ms, job.next_ms), (1, 1, 1000, 3000));
    assert_eq!(described(&queues, "job:a").ready, 1, "the first one is not done");
}

#[test]
fn each_that_was_missed_waits_for_the_one_before_it() {
    let (mut jobs, mut queues) = (Jobs::default(), Queues::default());
    declare(&mut jobs, vec![JobSpec { missed: Missed::All.into(), ..declared("a") }]);
    let version = jobs.get("a").unwrap().version;
    for due_ms in [1000, 2000, 3000] {
        jobs.fire(&fire("a", version, due_ms, due_ms + 1000), &mut queues, 5000, &mut Vec::new());
    }
    let queue = described(&queues, "job:a");
    assert_eq!((queue.ready, queue.waiting), (1, 2));
}

#[test]
fn what_is_declared_as_it_was_goes_on_and_what_is_not_ends() {
    let (mut jobs, mut queues) = (Jobs::default(), Queues::default());
    declare(&mut jobs, vec![declared("a"), declared("b")]);
    let version = jobs.get("a").unwrap().version;
    jobs.fire(&fire("a", version, 1000, 2000), &mut queues, 1000, &mut Vec::new());
    declare(&mut jobs, vec![declared("a")]);
    assert_eq!((jobs.get("a").unwrap().next_ms, jobs.all.len()), (2000, 1));
    let pause =
        |paused| ManageJob { name: "a".into(), action: Some(Action::Pause(paused)), ..ManageJob::default() };
    jobs.manage(&pause(true), &mut queues, 1, &mut Vec::new());
    declare(&mut jobs, vec![JobSpec { every_ms: 5, ..declared("a") }]);
    assert_eq!((jobs.get("a").unwrap().paused, jobs.due(u64::MAX).count()), (true, 0));
    jobs.fire(&fire("a", version, 2000, 3000), &mut queues, 2000, &mut Vec::new());
    assert_eq!(jobs.get("a").unwrap().fired, 0, "it is another one");
    jobs.manage(&pause(false), &mut queues, 1, &mut Vec::new());
    assert_eq!(jobs.due(1000).count(), 1);
    let put_of = |app: &str| {
        let spec = JobSpec { app: app.into(), declared: false, ..declared("a") };
        Jobs::clone(&jobs).put(put(spec, 1))
    };
    for app in ["shop", "other"] {
        assert_eq!(put_of(app).outcome, Some(Outcome::OfApp("shop".into())));
    }
}

#[test]
fn one_that_was_made_publishes_and_ends() {
    let (mut jobs, mut queues) = (Jobs::default(), Queues::default());
    let message = QueueMessage { queue: "q".into(), body: "x".into(), ..QueueMessage::default() };
    let spec =
        JobSpec { name: "once".into(), app: "shop".into(), message: Some(message), ..JobSpec::default() };
    let made = jobs.put(put(spec.clone(), 7));
    let Some(Outcome::Job(job)) = made.outcome.filter(|_| made.created) else { panic!() };
    let run = ManageJob {
        name: "once".into(),
        action: Some(Action::Run(true)),
        max_bytes: MAX,
        ..ManageJob::default()
    };
    assert_eq!(jobs.manage(&run, &mut queues, 1, &mut Vec::new()), JobManaged::default());
    let small = FireJobs { max_bytes: 10, ..fire("once", job.version, 7, 0) };
    jobs.fire(&small, &mut queues, 7, &mut Vec::new());
    assert_eq!(jobs.all.len(), 1, "there was no room");
    let mut again = Jobs::default();
    jobs.iter().for_each(|it| again.restore(it.clone()));
    again.restore_last(jobs.last());
    assert_eq!(again, jobs);
    jobs.fire(&fire("once", job.version, 7, 0), &mut queues, 7, &mut Vec::new());
    assert_eq!((jobs.all.len(), described(&queues, "q").ready), (0, 2));
    assert!(!jobs.remove(&RemoveJob { name: "once".into(), app: "shop".into() }).existed);
    jobs.put(put(spec, 7));
    assert!(!jobs.remove(&RemoveJob { name: "once".into(), app: "other".into() }).existed);
    assert!(jobs.remove(&RemoveJob { name: "once".into(), app: "shop".into() }).existed);
    assert!(jobs.by_app.is_empty() && jobs.by_due.is_empty());
}

#[test]
fn what_jobs_publish_takes_room_and_is_shown_to_nobody() {
    let mut jobs = Jobs::default();
    let body = vec![b'x'; 200 << 10];
    let message = QueueMessage { queue: "q".into(), body: body.into(), ..QueueMessage::default() };
    let spec = |name: String| JobSpec {
        name,
        app: "shop".into(),
        message: Some(message.clone()),
        ..JobSpec::default()
    };
    let mut count = 0;
    while let Some(Outcome::Job(job)) = jobs.put(put(spec(format!("j{count}")), 7)).outcome {
        assert_eq!(shown(&job), job, "without its body");
        count += 1;
    }
    assert_eq!(count, (64 << 20) / bytes_of(&spec("j100".into())));
    let other = JobSpec { app: "other".into(), ..spec("other".into()) };
    assert!(matches!(jobs.put(put(other, 7)).outcome, Some(Outcome::Job(_))), "others have room");
    let again = jobs.put(put(spec("j0".into()), 7));
    assert!(matches!(again.outcome, Some(Outcome::Job(_))) && !again.created);
    for number in 0..count {
        assert!(jobs.remove(&RemoveJob { name: format!("j{number}"), app: "shop".into() }).existed);
    }
    jobs.remove(&RemoveJob { name: "other".into(), app: "other".into() });
    assert_eq!((jobs.bytes, jobs.by_app.len()), (0, 0));
}

#[test]
fn one_without_room_lets_the_others_go_first() {
    let (mut jobs, mut queues) = (Jobs::default(), Queues::default());
    let message = QueueMessage { queue: "q".into(), body: "x".into(), ..QueueMessage::default() };
    let spec = JobSpec { name: "a".into(), app: "shop".into(), message: Some(message), ..JobSpec::default() };
    let Some(Outcome::Job(job)) = jobs.put(put(spec, 7)).outcome else { panic!() };
    let none = FireJobs { max_bytes: 10, ..fire("a", job.version, 7, 0) };
    jobs.fire(&none, &mut queues, 100, &mut Vec::new());
    assert_eq!((jobs.due(100).count(), jobs.due(100 + RETRY_MS).count()), (0, 1));
    let mut again = Jobs::default();
    jobs.iter().for_each(|it| again.restore(it.clone()));
    assert_eq!(again.by_due, jobs.by_due);
}

#[test]
fn times_while_it_was_paused_are_left_out() {
    let (mut jobs, mut queues) = (Jobs::default(), Queues::default());
    declare(&mut jobs, vec![declared("a")]);
    let pause = |paused, next_ms| ManageJob {
        name: "a".into(),
        action: Some(Action::Pause(paused)),
        next_ms,
        ..ManageJob::default()
    };
    jobs.manage(&pause(true, 0), &mut queues, 500, &mut Vec::new());
    assert_eq!(jobs.due(u64::MAX).count(), 0);
    jobs.manage(&pause(false, 60_000), &mut queues, 59_500, &mut Vec::new());
    assert_eq!((jobs.due(59_999).count(), jobs.due(60_000).count()), (0, 1));
}

#[test]
fn the_newer_version_has_the_last_word_and_an_undeployed_one_none() {
    use crate::state::member::Members;
    use proto::hub::v1::{DeployApp, Member, MemberState, UndeployApp};
    let (mut apps, mut members) = (Apps::default(), Members::default());
    let member =
        Member { id: "app-a".into(), stage: "production".into(), cluster: "c".into(), ..Member::default() };
    members.register(Member { state: MemberState::Active.into(), ..member }, 1, &mut Vec::new());
    let tag = |version: &str| format!("production/webapp/default/shop-{version}");
    for version in ["1.0", "1.1"] {
        let deploy = DeployApp {
            tag: tag(version),
            commit: vec![1; 20].into(),
            tree: vec![1; 20].into(),
            clusters: vec!["c".into()],
            timeout_ms: 1000,
            ..DeployApp::default()
        };
        apps.deploy(deploy, &members, 1, &mut Vec::new());
        assert!(apps.get(&tag(version)).is_some());
    }
    let (mut jobs, mut queues) = (Jobs::default(), Queues::default());
    let declare = |jobs: &mut Jobs, queues: &mut Queues, apps: &Apps, version: &str, specs: Vec<JobSpec>| {
        let commit = vec![1; 20].into();
        let call = DeclareJobs { tag: tag(version), commit, ..declaration(specs) };
        jobs.declare(call, apps, queues, 1, &mut Vec::new()).outdated
    };
    assert!(!declare(&mut jobs, &mut queues, &apps, "1.0", vec![declared("a")]));
    assert!(!declare(&mut jobs, &mut queues, &apps, "1.1", vec![declared("a"), declared("b")]));
    assert!(declare(&mut jobs, &mut queues, &apps, "1.0", vec![declared("a")]), "1.1 is there");
    assert_eq!(jobs.all.len(), 2);
    let call = DeclareJobs { tag: tag("1.1"), commit: vec![9; 20].into(), ..declaration(vec![]) };
    let declared_by_another = jobs.declare(call, &apps, &mut queues, 1, &mut Vec::new());
    assert!(declared_by_another.outdated, "this commit is not in use");
    jobs.undeployed(&tag("1.1"), &mut queues);
    apps.undeploy(UndeployApp { tag: tag("1.1"), ..UndeployApp::default() }, &mut Vec::new());
    assert_eq!(jobs.all.len(), 0);
    assert!(!declare(&mut jobs, &mut queues, &apps, "1.0", vec![declared("a")]));
}
