//! Tests of both reports in every order of arrival, and of missing ones.

#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use tensorgate_telemetry::metrics::Metrics;

use super::*;
use crate::files::Paths;
use crate::line::Line;
use crate::recover::{Settings, recover};
use crate::verify::files;
use crate::writer::tests::{Disk, start, until};

const ID: &str = "3f4f210a-5359-4f12-a75a-c92ea0dcc6fa";
const VM: &str = "00000000000000aa";

/// A report.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// The host responded with 200.
    Answered,
    /// The host saw the body end early.
    BrokenOff,
    /// The host denied the request, and its record could not be written.
    Untold,
    /// The host denied the request of a sender with another key.
    Unproven,
    /// Envoy forwarded the host's response, with this status.
    Passed(u16),
    /// Envoy replied itself, with this entry number.
    Refused(u64),
    /// The gate denied the request while its body passed, with this entry number.
    Denied(u64),
    /// The gate denied the request before the host knew it.
    Stopped(u64),
    /// The client left.
    Left(u64),
    /// Everything that waits has waited long enough.
    Swept,
}

fn decision(by: By, verdict: Verdict, reason: &str, status: u16) -> Decision {
    Decision {
        request_id: Some(ID.into()),
        by,
        verdict,
        reason: reason.into(),
        status,
        ..Decision::default()
    }
}

async fn apply_step(outcomes: &Outcomes, step: Step) {
    let now = SystemTime::now();
    let envoys = async |decision: Decision, number: u64, forwarded, from_host| {
        let entry = (number > 0).then(|| format!("{VM}.{number}"));
        outcomes
            .ended(Entry {
                time: now,
                decision: Decision { entry, ..decision },
                forwarded,
                from_host,
            })
            .await;
    };
    match step {
        Step::Answered => {
            let allowed = decision(By::Host, Verdict::Allow, "ok", 200);
            // A slow disk is no error. The record is there in the end.
            let _ = outcomes.record_response(now, allowed).await;
        }
        Step::BrokenOff => {
            outcomes.wait_for_envoy(now, decision(By::Host, Verdict::Deny, "malformed", 400))
        }
        Step::Untold => {
            outcomes.wait_for_envoy(now, decision(By::Host, Verdict::Deny, "overloaded", 503))
        }
        Step::Unproven => {
            let denied = decision(By::Host, Verdict::Deny, "overloaded", 503);
            outcomes.wait_for_envoy_unproven(now, denied);
        }
        Step::Passed(status) => {
            let verdict = if status < 400 {
                Verdict::Allow
            } else {
                Verdict::Deny
            };
            envoys(
                decision(By::Envoy, verdict, "unknown", status),
                0,
                true,
                true,
            )
            .await;
        }
        Step::Refused(number) => {
            let timed_out = decision(By::Envoy, Verdict::Deny, "backend-timeout", 504);
            envoys(timed_out, number, true, false).await;
        }
        Step::Denied(number) => {
            let denied = decision(By::Gate, Verdict::Deny, "not-finite", 400);
            envoys(denied, number, true, false).await;
        }
        Step::Stopped(number) => {
            let denied = decision(By::Gate, Verdict::Deny, "unauthenticated", 401);
            envoys(denied, number, false, false).await;
        }
        Step::Left(number) => {
            let left = decision(By::Envoy, Verdict::Aborted, "incomplete", 0);
            envoys(left, number, true, false).await;
        }
        Step::Swept => outcomes.sweep(true),
    }
}

#[test]
fn a_joined_record_has_the_operation_that_either_report_knows() {
    let hosts = decision(By::Host, Verdict::Deny, "malformed", 400);
    let envoys = Decision {
        operation: Some("infer".into()),
        ..decision(By::Gate, Verdict::Deny, "not-finite", 400)
    };
    let record = joined(hosts, envoys, false);
    assert_eq!(record.operation.as_deref(), Some("infer"));
    assert_eq!(record.by, By::Gate);
}

/// The request records of a log, abbreviated.
fn words(events: impl IntoIterator<Item = Event>) -> Vec<String> {
    let words = events.into_iter().filter_map(|event| match event {
        Event::Decision(it) => Some(format!(
            "{:?} {} {} {}",
            it.by,
            it.verdict.name(),
            it.reason,
            it.status
        )),
        Event::Amend(it) => Some(format!(
            "amend {:?} {} {} {}",
            it.by.unwrap(),
            it.verdict.unwrap().name(),
            it.reason.unwrap(),
            it.status
        )),
        Event::Lost { vm, first, count } => Some(format!("lost {vm} {first} {count}")),
        Event::Dropped { count, .. } => Some(format!("dropped {count}")),
        _ => None,
    });
    words.collect()
}

#[tokio::test]
async fn a_request_is_one_line_in_whatever_order_it_is_told() {
    use Step::{
        Answered, BrokenOff, Denied, Left, Passed, Refused, Stopped, Swept, Unproven, Untold,
    };
    let check = async |steps: &[Step], expected: &[&str]| {
        let disk = Disk::default();
        let (audit, _) = start(&disk);
        let outcomes = Outcomes::new(audit, Vec::new(), &Marks::new(), false);
        for step in steps {
            apply_step(&outcomes, *step).await;
        }
        outcomes.sweep(true);
        outcomes.audit().stop();
        assert_eq!(words(disk.events()), expected, "{steps:?}");
    };
    let denied = "Gate deny not-finite 400";
    let left = "Envoy aborted incomplete 0";
    let allowed = "Host allow ok 200";
    check(&[BrokenOff, Denied(1)], &[denied]).await;
    check(&[Denied(1), BrokenOff], &[denied]).await;
    check(&[BrokenOff, Left(1)], &[left]).await;
    check(&[Left(1), BrokenOff], &[left]).await;
    check(&[BrokenOff, Swept], &["Host deny malformed 400"]).await;
    check(&[BrokenOff, Passed(400)], &["Host deny malformed 400"]).await;
    check(
        &[BrokenOff, Swept, Denied(1)],
        &["Host deny malformed 400", "amend Gate deny not-finite 400"],
    )
    .await;
    check(&[Answered, Passed(200)], &[allowed]).await;
    check(&[Answered, Passed(200), Passed(200)], &[allowed]).await;
    check(
        &[Answered, Left(1)],
        &[allowed, "amend Envoy aborted incomplete 0"],
    )
    .await;
    check(
        &[Answered, Denied(1)],
        &[allowed, "amend Gate deny not-finite 400"],
    )
    .await;
    check(&[Refused(1), Answered], &["Envoy deny backend-timeout 504"]).await;
    check(&[Untold, Passed(503)], &["Host deny overloaded 503"]).await;
    check(&[Untold, Swept, Passed(503)], &["Host deny overloaded 503"]).await;
    // Another key: one line, unless the ID is that of another request.
    let unproven = "Host deny overloaded 503";
    check(&[Unproven, Passed(503)], &[unproven]).await;
    check(&[Unproven, Swept, Passed(503)], &[unproven]).await;
    check(&[Answered, Unproven, Passed(200)], &[allowed, unproven]).await;
    check(&[Left(1), Unproven], &[left, unproven]).await;
    // Repeated entries: by number, or by a known ID.
    check(
        &[Stopped(1), Stopped(1)],
        &["Gate deny unauthenticated 401"],
    )
    .await;
    check(&[Denied(1), Denied(1), BrokenOff], &[denied]).await;
    // The host records its own responses. A record exists for one that it wrote before a crash.
    check(&[Passed(200)], &[]).await;
    // An ID that a client sent joins nothing.
    check(
        &[Answered, Stopped(1), Passed(200)],
        &[allowed, "Gate deny unauthenticated 401"],
    )
    .await;
}

/// Keeps the times in the gate, and whether the table was free at each.
struct GateTimes {
    outcomes: Weak<Outcomes>,
    seen: Mutex<Vec<(u64, bool)>>,
}

impl GateTimeListener for GateTimes {
    fn completed(&self, _model: Option<&str>, gate_us: u64) {
        let outcomes = self.outcomes.upgrade().unwrap();
        let is_free = outcomes.table.try_lock().is_ok();
        self.seen.lock().unwrap().push((gate_us, is_free));
    }
}

#[tokio::test]
async fn the_time_in_the_gate_is_noted_while_no_request_waits() {
    let (audit, _) = start(&Disk::default());
    let answered = Decision {
        total_us: 700,
        ..decision(By::Host, Verdict::Allow, "ok", 200)
    };
    let outcomes = Outcomes::new(audit, vec![answered], &Marks::new(), false);
    let outcomes = Arc::new(outcomes);
    let times = Arc::new(GateTimes {
        outcomes: Arc::downgrade(&outcomes),
        seen: Mutex::default(),
    });
    outcomes.listen_to_gate_times(Arc::<GateTimes>::clone(&times));
    let passed = Entry {
        time: SystemTime::now(),
        decision: Decision {
            total_us: 1_000,
            ..decision(By::Envoy, Verdict::Allow, "unknown", 200)
        },
        forwarded: true,
        from_host: true,
    };
    assert_eq!(outcomes.joined(passed).1, None);
    assert_eq!(*times.seen.lock().unwrap(), [(300, true)]);
    outcomes.audit().stop();
}

#[tokio::test]
async fn an_amendment_knows_whether_its_record_is_a_denial() {
    let (audit, _) = start(&Disk::default());
    let denied = decision(By::Host, Verdict::Deny, "malformed", 400);
    let outcomes = Outcomes::new(audit, vec![denied], &Marks::new(), false);
    let left = Entry {
        time: SystemTime::now(),
        decision: decision(By::Envoy, Verdict::Aborted, "incomplete", 0),
        forwarded: true,
        from_host: false,
    };
    let recorded = match outcomes.joined(left).1 {
        Some(Event::Amend(amend)) => amend.recorded,
        _ => None,
    };
    assert_eq!(recorded, Some(Verdict::Deny));
    outcomes.audit().stop();
}

#[tokio::test]
async fn a_line_that_is_written_too_late_is_amended_by_what_its_caller_got() {
    let disk = Disk::default();
    let (audit, _) = start(&disk);
    let outcomes = Outcomes::new(audit, Vec::new(), &Marks::new(), false);
    let allowed = |id: &str| Decision {
        request_id: Some(id.to_owned()),
        ..decision(By::Host, Verdict::Allow, "ok", 200)
    };
    let refused = |id: &str| Decision {
        request_id: Some(id.to_owned()),
        ..decision(By::Host, Verdict::Deny, "overloaded", 503)
    };
    let now = SystemTime::now();
    let mut expected = Vec::new();
    // On a slow machine the writer may not take a record in time. It is then withdrawn, and another
    // one is tried.
    for number in 0_u32.. {
        let id = format!("late-{number}");
        disk.full.store(true, Ordering::Relaxed);
        let why = outcomes
            .record_response(now, allowed(&id))
            .await
            .unwrap_err();
        if why == Unwritten::Late {
            outcomes.amend_outcome(refused(&id));
            expected.extend(["Host allow ok 200", "amend Host deny overloaded 503"]);
            break;
        }
        disk.full.store(false, Ordering::Relaxed);
        until("it is written again", || !outcomes.audit().failing());
    }
    until("the writer fails", || outcomes.audit().failing());
    // Nothing after it is taken. This one is never written, and its record says what the client
    // gets.
    let why = outcomes.record_response(now, allowed("never")).await;
    assert_eq!(why, Err(Unwritten::Never));
    outcomes.wait_for_envoy(now, refused("never"));
    disk.full.store(false, Ordering::Relaxed);
    let entry = |id: &str| Entry {
        time: now,
        decision: Decision {
            by: By::Envoy,
            reason: "unknown".into(),
            ..refused(id)
        },
        forwarded: true,
        from_host: true,
    };
    outcomes.ended(entry("never")).await;
    outcomes.sweep(true);
    outcomes.audit().stop();
    expected.push("Host deny overloaded 503");
    assert_eq!(words(disk.events()), expected);
}

fn settings(folder: &std::path::Path, chain: bool, file_bytes: u64) -> Settings {
    Settings {
        path: folder.join("log.jsonl"),
        key_file: None,
        chain,
        file_bytes,
        files: 100,
    }
}

/// The run of a host.
fn live(settings: &Settings) -> Outcomes {
    let recovered = recover(settings).unwrap();
    let (recent, heard) = (recovered.recent.clone(), recovered.heard.clone());
    let metrics = Arc::new(Metrics::new());
    let audit = Audit::start(recovered, settings.file_bytes, metrics).unwrap();
    Outcomes::new(audit, recent, &heard, false)
}

#[tokio::test]
async fn a_gap_is_no_loss_where_other_hosts_get_entries_too() {
    for (shared, expected) in [(false, 1), (true, 0)] {
        let disk = Disk::default();
        let (audit, _) = start(&disk);
        let outcomes = Outcomes::new(audit, Vec::new(), &Marks::new(), shared);
        for number in [7, 7, 8] {
            let decision = Decision {
                entry: Some(format!("{:016x}.{number}", 0xaa)),
                ..decision(By::Gate, Verdict::Deny, "unauthenticated", 401)
            };
            let entry = Entry {
                time: SystemTime::now(),
                decision,
                forwarded: false,
                from_host: false,
            };
            outcomes.ended(entry).await;
        }
        outcomes.audit().stop();
        let words = words(disk.events());
        let lost = words.iter().filter(|it| it.starts_with("lost")).count();
        assert_eq!(lost, expected, "{words:?}");
        // An entry that comes again is recorded once.
        assert_eq!(words.len() - lost, 2, "{words:?}");
    }
}

#[tokio::test]
async fn what_envoy_lost_is_counted_once_with_concurrent_log_writes() {
    for (case, (chain, file_bytes)) in [(true, u64::MAX), (false, u64::MAX), (true, 1 << 20)]
        .into_iter()
        .enumerate()
    {
        let number = std::process::id();
        let folder = std::env::temp_dir().join(format!("tg-outcomes-{number}-{case}"));
        let settings = settings(&folder, chain, file_bytes);
        let stopped = async |outcomes: &Outcomes, vm: u64, number: u64| {
            let decision = Decision {
                entry: Some(format!("{vm:016x}.{number}")),
                detail: Some("x".repeat(900)),
                ..decision(By::Gate, Verdict::Deny, "shape", 400)
            };
            let entry = Entry {
                time: SystemTime::now(),
                decision,
                forwarded: false,
                from_host: false,
            };
            outcomes.ended(entry).await;
        };
        // A VM that is silent from here on, and one that fills files and more than a start reads of
        // the log.
        let outcomes = live(&settings);
        for number in [1, 2, 5] {
            stopped(&outcomes, 0xaa, number).await;
        }
        for number in 1..=4_500 {
            stopped(&outcomes, 0xbb, number).await;
        }
        outcomes.audit().stop();
        // Repeated to the next host, then continued: nothing is missing, and nothing is recorded
        // twice.
        let outcomes = live(&settings);
        stopped(&outcomes, 0xbb, 4_500).await;
        stopped(&outcomes, 0xaa, 5).await;
        stopped(&outcomes, 0xaa, 6).await;
        stopped(&outcomes, 0xbb, 4_504).await;
        stopped(&outcomes, 0xcc, 3).await;
        outcomes.audit().stop();
        let files = files(&Paths::new(&settings.path)).unwrap();
        let text: String = files
            .iter()
            .map(|file| std::fs::read_to_string(file).unwrap())
            .collect();
        let events = text.lines().map(|line| {
            let line: Line = serde_json::from_str(line).unwrap();
            line.event
        });
        let words = words(events);
        let lost: Vec<&String> = words.iter().filter(|it| it.starts_with("lost")).collect();
        assert_eq!(
            lost,
            [
                "lost 00000000000000aa 3 2",
                "lost 00000000000000bb 4501 3",
                "lost 00000000000000cc 1 2"
            ],
            "case {case}"
        );
        assert_eq!(words.len() - lost.len(), 3 + 4_500 + 3, "case {case}");
        std::fs::remove_dir_all(folder).unwrap();
    }
}
