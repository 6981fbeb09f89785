//! What of a server is measured: its value, the threshold, and what is wrong when that is passed. Problems and the health page are
//! made of the same.

use super::{
    problem::{Problem, Severity},
    record::{AcmeRecord, AnswerRecord, CertificateRecord, ServerRecord},
};
use common::config::{HealthChecks, Thresholds};
use std::time::Duration;

/// A value of a server beside its threshold.
#[derive(Debug)]
pub(crate) struct Measure {
    /// The check, of `common::config::CHECKS`.
    pub(crate) check: &'static str,
    /// Which one, of several on a server: a certificate's file.
    pub(crate) subject: String,
    /// As people read it.
    pub(crate) value: String,
    /// What is wrong.
    pub(crate) wrong: Option<Problem>,
}

/// The thresholds in words, of what is measured; in the order of the health page.
pub(crate) fn thresholds(it: &Thresholds) -> Vec<(&'static str, &'static str, String)> {
    let two = |[warning, fault]: [u64; 2]| format!("below {warning} %, a fault below {fault} %");
    let seconds = |it: Duration| format!("{} s", it.as_secs_f64());
    let [notice, warning, fault] = it.certificate_days;
    let cpu = it.cpu_max.map_or_else(|| "none".to_owned(), |it| format!("{it} % or more"));
    vec![
        ("disk", "Disk free", two(it.disk_free_min)),
        ("memory", "Memory free", two(it.memory_free_min)),
        ("files", "Files open", format!("{} % or more", it.files_open_max)),
        ("load", "Load of the cores", format!("{} % or more", it.load_max)),
        ("cpu", "CPU of the machine", cpu),
        ("clock", "Clock apart", format!("more than {}", seconds(it.clock_skew_max))),
        ("deaf", "Hub heard", format!("more than {} ago", seconds(it.hub_silent_max))),
        ("lag", "Behind the hub's leader", format!("more than {} entries", it.hub_lag_max)),
        (
            "errors",
            "Errors (5xx) of a minute",
            format!("{} % or more, of {} answers", it.error_rate_max, it.error_requests_min),
        ),
        (
            "certificate",
            "Certificate ends",
            format!("in less than {notice} days, a warning {warning}, a fault {fault}"),
        ),
    ]
}

/// All that is measured of a server that answers.
pub(crate) fn measures(server: &ServerRecord, health: &HealthChecks, now_ms: u64) -> Vec<Measure> {
    let Some(answer) = &server.answer else { return Vec::new() };
    let (id, limits) = (server.known.id.as_str(), &health.thresholds);
    let mut found = machine(id, answer, limits);
    found.extend(cpu(server, limits));
    found.push(clock(id, answer, limits));
    found.push(hub_heard(id, answer, limits));
    found.extend(errors(id, answer, limits));
    found.extend(certificates(id, answer, limits, now_ms));
    found
}

fn measure(check: &'static str, value: String, wrong: Option<Problem>) -> Measure {
    Measure { check, subject: String::new(), value, wrong }
}

/// Disk, memory, files and load.
fn machine(id: &str, answer: &AnswerRecord, limits: &Thresholds) -> Vec<Measure> {
    let process = &answer.process;
    let mut found = Vec::new();
    let mut low = |check, what: &str, (free, total): (u64, u64), [warning, fault]: [u64; 2], remedy: &str| {
        let Some(hundredths) = free.saturating_mul(100).checked_div(total) else { return };
        let wrong = (hundredths < warning).then(|| {
            let severity = if hundredths < fault { Severity::Fault } else { Severity::Warning };
            let text = format!("{id} has {hundredths} % of its {what} free");
            Problem::new(severity, check, Some(id), text, remedy.to_owned())
        });
        found.push(measure(check, format!("{hundredths} %"), wrong));
    };
    let remedy = "Make room: the hub stops when it can't write, and no version can be deployed.";
    let disk = (process.disk_free_bytes, process.disk_total_bytes);
    low("disk", "disk", disk, limits.disk_free_min, remedy);
    let remedy = "Look at which process takes it: the kernel ends one when none is left.";
    let memory = (process.memory_free_bytes, process.memory_total_bytes);
    low("memory", "machine's memory", memory, limits.memory_free_min, remedy);
    if let Some(files) = process.open_files.saturating_mul(100).checked_div(process.open_files_max) {
        let wrong = (files >= limits.files_open_max).then(|| {
            let what = format!("{id} has {} of {} files open", process.open_files, process.open_files_max);
            let remedy = "Raise the limit (`ulimit -n`, `LimitNOFILE=`): new connections will have to wait.";
            Problem::new(Severity::Warning, "files", Some(id), what, remedy.to_owned())
        });
        found.push(measure("files", format!("{files} %"), wrong));
    }
    // Thousandths of one core, as hundredths of all.
    let cores = u64::from(process.cores);
    if let Some(load) = process.load_per_mille.checked_div(cores.saturating_mul(10)) {
        let wrong = (load >= limits.load_max).then(|| {
            let what = format!("The load of {id}'s machine is {load} % of its {cores} cores");
            let remedy = "Look at what runs there (`top`); requests wait for a core.";
            Problem::new(Severity::Warning, "load", Some(id), what, remedy.to_owned())
        });
        found.push(measure("load", format!("{load} %"), wrong));
    }
    found
}

fn cpu(server: &ServerRecord, limits: &Thresholds) -> Option<Measure> {
    let (id, percent) = (server.known.id.as_str(), u64::from(server.cpu_per_mille?) / 10);
    let wrong = limits.cpu_max.filter(|max| percent >= *max).map(|_| {
        let what = format!("The CPU of {id}'s machine is busy for {percent} % of the time");
        let remedy = "Look at what runs there (`top`), or add servers.";
        Problem::new(Severity::Warning, "cpu", Some(id), what, remedy.to_owned())
    });
    Some(measure("cpu", format!("{percent} %"), wrong))
}

fn clock(id: &str, answer: &AnswerRecord, limits: &Thresholds) -> Measure {
    let ahead = answer.clock_ahead_ms;
    let wrong = (ahead.unsigned_abs() > millis(limits.clock_skew_max)).then(|| {
        let word = if ahead > 0 { "ahead of" } else { "behind" };
        let what = format!("The clock of {id} is {} s {word} this server's", ahead.unsigned_abs() / 1000);
        let remedy = "Let NTP set the clocks of all servers.";
        Problem::new(Severity::Warning, "clock", Some(id), what, remedy.to_owned())
    });
    measure("clock", format!("{ahead} ms"), wrong)
}

fn hub_heard(id: &str, answer: &AnswerRecord, limits: &Thresholds) -> Measure {
    let heard = answer.hub_heard_ms;
    let wrong = heard.is_none_or(|it| it > millis(limits.hub_silent_max)).then(|| {
        let what = match heard {
            Some(ms) => format!("{id} has not heard the hub's leader for {} s", ms / 1000),
            None => format!("{id} has not heard a leader of the hub since it started"),
        };
        let remedy = "Can it reach the hub's servers? It goes on with what it knew last.";
        Problem::new(Severity::Fault, "deaf", Some(id), what, remedy.to_owned())
    });
    measure("deaf", heard.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms ago")), wrong)
}

fn errors(id: &str, answer: &AnswerRecord, limits: &Thresholds) -> Option<Measure> {
    let recent = &answer.web_tier.as_ref()?.recent;
    let (errors, answers) = (recent.answers[5], recent.answers.iter().sum::<u64>());
    let rate = errors.saturating_mul(100).checked_div(answers).unwrap_or(0);
    let many = answers >= limits.error_requests_min && errors * 100 >= answers * limits.error_rate_max;
    let wrong = many.then(|| {
        let what = format!("{errors} of the last {answers} answers of {id} were errors of a server (5xx)");
        let remedy = "Look at the balancer for servers that fail, and at the apps' lines in the log.";
        Problem::new(Severity::Fault, "errors", Some(id), what, remedy.to_owned())
    });
    Some(measure("errors", format!("{rate} % of {answers}"), wrong))
}

fn certificates(id: &str, answer: &AnswerRecord, limits: &Thresholds, now_ms: u64) -> Vec<Measure> {
    let [notice, warning, fault] = limits.certificate_days;
    let measured = answer.certificates.iter().map(|it| {
        let left_ms = it.not_after_ms.saturating_sub(now_ms);
        let days = left_ms / 86_400_000;
        if let Some(order) = it.acme.as_ref().filter(|_| it.not_after_ms == 0 || left_ms > 0) {
            return ordered(id, it, order, days);
        }
        let severity = match days {
            _ if left_ms == 0 => Some(Severity::Fault),
            days if days < fault => Some(Severity::Fault),
            days if days < warning => Some(Severity::Warning),
            days if days < notice => Some(Severity::Notice),
            _ => None,
        };
        let value = if left_ms == 0 { "has ended".to_owned() } else { format!("in {days} days") };
        let wrong = severity.map(|severity| {
            let ends = if left_ms == 0 { "has ended".to_owned() } else { format!("ends {value}") };
            let what = format!("The certificate {} of {id} {ends}", it.name);
            let remedy = "Put a new one into its files: they are read again when they change.";
            Problem::new(severity, "certificate", Some(id), what, remedy.to_owned()).of(&it.name)
        });
        Measure { subject: it.name.clone(), ..measure("certificate", value, wrong) }
    });
    measured.collect()
}

/// One that ACME brings, and that has not ended: it is renewed when it is time, however few days that leaves.
fn ordered(id: &str, it: &CertificateRecord, order: &AcmeRecord, days: u64) -> Measure {
    let (name, failures) = (&it.name, order.failures);
    let is_there = it.not_after_ms > 0;
    let value = if is_there { format!("in {days} days") } else { "none yet".to_owned() };
    let severity = match (is_there, failures) {
        (true, 0) => None,
        (true, _) if days < 1 => Some(Severity::Fault),
        (true, _) => Some(Severity::Warning),
        (false, 0) => Some(Severity::Notice),
        (false, _) => Some(Severity::Fault),
    };
    let wrong = severity.map(|severity| {
        let what = match (is_there, failures) {
            (false, 0) => format!("The certificate {name} of {id} is not there yet: it is being ordered"),
            (false, _) => {
                format!("The certificate {name} of {id} could not be ordered: {}", order.last_error)
            }
            (true, _) => format!(
                "The certificate {name} of {id}, which ends {value}, could not be renewed: {}",
                order.last_error
            ),
        };
        let next = order.next.as_deref().unwrap_or("soon");
        let remedy = format!("It is tried again at {next}. docs/tls.md says what authorities want.");
        Problem::new(severity, "certificate", Some(id), what, remedy).of(name)
    });
    Measure { subject: name.clone(), ..measure("certificate", value, wrong) }
}

fn millis(it: Duration) -> u64 {
    u64::try_from(it.as_millis()).unwrap_or(u64::MAX)
}
