//! Points are kept, folded, found again after a restart, and bounded.

use super::*;
use std::os::unix::fs::{PermissionsExt, symlink};

/// The beginning of a step of 5 minutes, and of one of 2 hours.
const BEGIN: u64 = 1_772_352_000;

fn point(requests: f64) -> Point {
    let mut point = Point::sample();
    point.set(Series::RequestsPerS, requests);
    point
}

fn keep(history: &History, unix_s: u64, points: &[(&str, f64)]) {
    let points: Vec<_> = points.iter().map(|(id, value)| ((*id).to_owned(), point(*value))).collect();
    history.keep(unix_s, &points, Instant::now());
}

fn asked(from_s: u64, until_s: u64, step_s: u32, servers: &[&str]) -> ReadHistory {
    let servers = servers.iter().map(|it| (*it).to_owned()).collect();
    ReadHistory { from_s, until_s, step_s, servers, series: vec![Series::RequestsPerS.into()] }
}

/// The requests of the only line that was asked for; −1 for what is not known.
fn read(history: &History, from_s: u64, until_s: u64, step_s: u32, servers: &[&str]) -> Vec<f32> {
    let past = history.read(&Question::of(&asked(from_s, until_s, step_s, servers)).unwrap());
    assert_eq!((past.from_s, past.step_s, past.servers.len()), (from_s, step_s, 1));
    let values = past.servers[0].lines[0].values.iter();
    values.map(|it| if it.is_finite() { *it } else { -1.0 }).collect()
}

#[test]
fn points_are_there_by_10_s_by_5_min_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let history = History::open(&path);
    for (at, value) in [(0, 10.0), (14, 20.0), (299, 60.0), (300, 5.0)] {
        keep(&history, BEGIN + at, &[("app-a", value)]);
    }
    for history in [history, History::open(&path)] {
        assert_eq!(read(&history, BEGIN, BEGIN + 30, 10, &["app-a"]), [10.0, 20.0, -1.0]);
        assert_eq!(read(&history, BEGIN, BEGIN + 900, 300, &["app-a"]), [30.0, 5.0, -1.0]);
        assert_eq!(read(&history, BEGIN, BEGIN + 60, 60, &["app-a"]), [15.0], "folded on reading");
        assert_eq!(read(&history, BEGIN, BEGIN + 600, 600, &["app-a"]), [23.75], "by samples");
        assert_eq!(read(&history, BEGIN, BEGIN + 10, 10, &["app-b"]), [] as [f32; 0]);
    }
    let modes = ["", "app-a.10s", "app-a.5min"]
        .map(|it| fs::metadata(path.join(it)).unwrap().permissions().mode() & 0o777);
    assert_eq!(modes, [0o700, 0o600, 0o600]);
}

#[test]
fn all_servers_together_are_the_sum() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path());
    keep(&history, BEGIN, &[("web-a", 10.0), ("web-b", 20.0)]);
    keep(&history, BEGIN + 10, &[("web-a", 12.0)]);
    assert_eq!(read(&history, BEGIN, BEGIN + 30, 10, &[]), [30.0, 12.0, -1.0]);
    let all = history.read(&Question::of(&asked(BEGIN, BEGIN + 30, 10, &[])).unwrap());
    assert_eq!((all.servers[0].server.as_str(), &all.servers[0].samples[..]), ("", &[2, 1, 0][..]));
    assert_eq!(read(&History::open(&folder.path().join("none")), BEGIN, BEGIN + 10, 10, &[]), [-1.0]);
}

/// Set forward by a year and back again, then back by an hour: what belongs to another time is not shown, and the newest word counts.
#[test]
fn a_clock_that_jumps_breaks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path());
    // Not by whole days: the place of a step in the file is that of the same time of another day, and the newest word is kept.
    let year = 31_536_040;
    keep(&history, BEGIN, &[("app-a", 1.0)]);
    keep(&history, BEGIN + year, &[("app-a", 2.0)]);
    keep(&history, BEGIN + 20, &[("app-a", 3.0)]);
    assert_eq!(read(&history, BEGIN, BEGIN + 30, 10, &["app-a"]), [1.0, -1.0, 3.0]);
    keep(&history, BEGIN, &[("app-a", 4.0)]);
    assert_eq!(read(&history, BEGIN, BEGIN + 30, 10, &["app-a"]), [4.0, -1.0, 3.0]);
    keep(&history, BEGIN - 3600, &[("app-a", 5.0)]);
    assert_eq!(read(&history, BEGIN - 3600, BEGIN - 3590, 10, &["app-a"]), [5.0]);
    keep(&history, u64::MAX, &[("app-a", 6.0)]);
    keep(&history, 0, &[("app-a", 7.0)]);
    assert_eq!(read(&history, 0, 10, 10, &["app-a"]), [7.0]);
}

#[test]
fn for_a_new_server_the_one_that_was_heard_longest_ago_goes() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::with_room(folder.path(), 3);
    for (at, id) in [(0, "a"), (10, "b"), (20, "c"), (30, "a"), (40, "d")] {
        keep(&history, BEGIN + at, &[(id, 1.0)]);
    }
    let names = || {
        let names =
            fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["a.10s", "a.5min", "c.10s", "c.5min", "d.10s", "d.5min"]);
    // More than before fit no more after a restart, and what is no file of ours stays.
    fs::write(folder.path().join("notes"), "").unwrap();
    let history = History::with_room(folder.path(), 2);
    keep(&history, BEGIN + 50, &[("e", 1.0)]);
    assert_eq!((names().len(), read(&history, BEGIN + 50, BEGIN + 60, 10, &["e"])), (5, vec![1.0]));
}

#[test]
fn a_full_disk_loses_points_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    symlink("/dev/full", folder.path().join("app-a.10s")).unwrap();
    let history = History::open(folder.path());
    keep(&history, BEGIN, &[("app-a", 1.0), ("app-b", 2.0), ("../evil", 3.0), (".", 3.0)]);
    assert_eq!(read(&history, BEGIN, BEGIN + 10, 10, &["app-b"]), [2.0], "the others are kept");
    assert_eq!(read(&history, BEGIN, BEGIN + 10, 10, &["app-a"]), [] as [f32; 0]);
    assert_eq!(read(&history, BEGIN, BEGIN + 10, 10, &["../evil"]), [] as [f32; 0]);
    assert!(!folder.path().parent().unwrap().join("evil.10s").exists());
}

#[test]
fn questions_are_bounded() {
    let refused = |asked: ReadHistory| Question::of(&asked).unwrap_err().to_string();
    assert_eq!(refused(asked(0, 10, 0, &[])), "step_s is 0: expected a multiple of 10 up to 86400");
    assert_eq!(refused(asked(0, 10, 15, &[])), "step_s is 15: expected a multiple of 10 up to 86400");
    assert_eq!(
        refused(asked(10, 10, 10, &[])),
        "from 10 until 10 by 10 s: expected 1 to 400 points of no more time than is kept"
    );
    assert_eq!(
        refused(asked(0, u64::MAX, 10, &[])),
        format!("from 0 until {} by 10 s: expected 1 to 400 points of no more time than is kept", u64::MAX)
    );
    assert_eq!(
        refused(asked(u64::MAX, 5, 10, &[])),
        format!("from {} until 5 by 10 s: expected 1 to 400 points of no more time than is kept", u64::MAX)
    );
    assert!(refused(asked(0, 31 * 86_400, 7200, &[])).contains("no more time than is kept"));
    assert!(refused(asked(0, 86_410, 290, &[])).contains("no more time than is kept"));
    assert!(Question::of(&asked(0, 30 * 86_400, 7200, &[])).is_ok());
    assert_eq!(refused(asked(0, 10, 10, &["a"; 17])), "17 servers: expected 16 at most");
    let series = |series| ReadHistory { series, ..asked(0, 10, 10, &[]) };
    assert_eq!(refused(series(vec![99])), "series 99: there is none");
    assert_eq!(refused(series(vec![0])), "series 0: there is none");
    let all = Question::of(&series(Vec::new())).unwrap();
    assert_eq!((all.series.len(), all.points), (17, 1));
    assert_eq!(Question::of(&series(vec![3, 1, 3])).unwrap().series.len(), 2);
    assert_eq!(Question::of(&asked(15, 31, 10, &[])).map(|it| (it.from_s, it.points)), Ok((10, 3)));
}
