//! The audit log on disk: manipulation is detected, a log continues after a crash, files are
//! rotated and deleted.

mod displaced;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use tensorgate_audit::Audit;
use tensorgate_audit::files::Paths;
use tensorgate_audit::key::{SigningKey, VerifyingKey};
use tensorgate_audit::line::{Hash, Line, Seal, open, seal};
use tensorgate_audit::record::{Decision, Event};
use tensorgate_audit::recover::{Settings, recover};
use tensorgate_audit::verify::{Kind, Report, verify};
use tensorgate_telemetry::metrics::Metrics;

use crate::support;

/// Requests in a fresh log, lines 2 to 21; line 1 opens it and line 22 closes it.
const REQUESTS: u64 = 20;

fn settings(folder: &Path) -> Settings {
    Settings {
        path: folder.join("log.jsonl"),
        key_file: None,
        chain: true,
        file_bytes: u64::MAX,
        files: 100,
    }
}

fn decision(number: u64) -> Event {
    Event::Decision(Box::new(Decision {
        request_id: Some(format!("request-{number}")),
        reason: "ok".into(),
        status: 200,
        ..Decision::default()
    }))
}

/// One run of a host: it starts, logs some requests, and ends cleanly.
fn live(settings: &Settings, requests: u64) {
    let audit = started(settings);
    for number in 0..requests {
        audit.write(SystemTime::now(), decision(number));
    }
    audit.stop();
}

fn started(settings: &Settings) -> Audit {
    let recovered = recover(settings).unwrap();
    Audit::start(recovered, settings.file_bytes, Arc::new(Metrics::new())).unwrap()
}

fn report(settings: &Settings) -> Report {
    verify(&Paths::new(&settings.path), None).unwrap()
}

fn lines(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn put(log: &Path, lines: &[String]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(log, text).unwrap();
}

/// What verification finds: kind, number of the line in its log, line of the file.
fn found(report: &Report) -> Vec<(Kind, Option<u64>, u64)> {
    let faults = report.faults.iter();
    faults.map(|it| (it.kind, it.seq, it.line)).collect()
}

/// Seals lines again from index `from` on, as an attacker without the key could. Signed lines keep
/// their old signature.
fn reseal(lines: &mut [String], from: usize) {
    let mut last = from.checked_sub(1).map_or(Hash::default(), |before| {
        open(lines[before].as_bytes()).unwrap().hash
    });
    for text in &mut lines[from..] {
        let line: Line = serde_json::from_str(text).unwrap();
        let forger = Seal::Chain(SigningKey::from_seed([9; 32]));
        let (sealed, hash) = seal(&line, last, &forger).unwrap();
        (*text, last) = (sealed, hash);
    }
}

/// One manipulation of a fresh log of 22 lines, and all findings.
fn check(
    what: &str,
    tamper: impl Fn(&Path, &mut Vec<String>),
    expected: &[(Kind, Option<u64>, u64)],
) {
    let folder = support::folder();
    let settings = settings(&folder);
    live(&settings, REQUESTS);
    let mut text = lines(&settings.path);
    assert_eq!(text.len(), 22);
    tamper(&folder, &mut text);
    put(&settings.path, &text);
    let report = report(&settings);
    assert_eq!(found(&report), expected, "{what}: {report:#?}");
    std::fs::remove_dir_all(folder).unwrap();
}

fn edit(lines: &mut [String], index: usize) {
    lines[index] = lines[index].replace("\"status\":200", "\"status\":403");
}

#[test]
fn every_manipulation_of_a_log_is_reported() {
    check("nothing", |_, _| {}, &[]);
    check(
        "a line removed",
        |_, lines| {
            lines.remove(9);
        },
        &[(Kind::Removed, Some(10), 10)],
    );
    check(
        "three removed",
        |_, lines| {
            lines.drain(9..12);
        },
        &[(Kind::Removed, Some(10), 10)],
    );
    check(
        "the first removed",
        |_, lines| {
            lines.remove(0);
        },
        &[(Kind::Removed, Some(2), 1)],
    );
    check(
        "a line edited",
        |_, lines| edit(lines, 9),
        &[(Kind::Edited, Some(10), 10)],
    );
    check(
        "a line edited and sealed",
        |_, lines| {
            edit(lines, 9);
            reseal(&mut lines[..10], 9);
        },
        &[(Kind::Edited, Some(11), 11)],
    );
    check(
        "all sealed anew from an edit on",
        |_, lines| {
            edit(lines, 9);
            reseal(lines, 9);
        },
        &[(Kind::Forged, Some(22), 22), (Kind::Edited, Some(22), 22)],
    );
    check(
        "all sealed anew but the signed end",
        |_, lines| {
            edit(lines, 9);
            let end = lines.len() - 1;
            reseal(&mut lines[..end], 9);
        },
        &[(Kind::Edited, Some(22), 22)],
    );
    check(
        "two neighbours swapped",
        |_, lines| lines.swap(9, 10),
        &[(Kind::Swapped, Some(10), 11)],
    );
    check(
        "two far apart swapped",
        |_, lines| lines.swap(4, 14),
        &[
            (Kind::Swapped, Some(6), 6),
            (Kind::Swapped, Some(7), 7),
            (Kind::Swapped, Some(8), 8),
            (Kind::Swapped, Some(9), 9),
            (Kind::Swapped, Some(10), 10),
            (Kind::Swapped, Some(11), 11),
            (Kind::Swapped, Some(12), 12),
            (Kind::Swapped, Some(13), 13),
            (Kind::Swapped, Some(14), 14),
            (Kind::Swapped, Some(5), 15),
        ],
    );
    check(
        "a line twice",
        |_, lines| {
            let line = lines[9].clone();
            lines.insert(10, line);
        },
        &[(Kind::Repeated, Some(10), 11)],
    );
    check(
        "a foreign text inserted",
        |_, lines| lines.insert(9, "{}".into()),
        &[(Kind::Edited, None, 10)],
    );
    check(
        "a line made unreadable",
        |_, lines| lines[9] = "gone".into(),
        &[(Kind::Edited, None, 10)],
    );
    check(
        "the end cut",
        |_, lines| lines.truncate(15),
        &[(Kind::Truncated, Some(16), 15)],
    );
    check(
        "the last line cut",
        |_, lines| lines.truncate(21),
        &[(Kind::Truncated, Some(22), 21)],
    );
    check(
        "the head removed",
        |folder, _| std::fs::remove_file(folder.join("log.jsonl.head")).unwrap(),
        &[(Kind::Head, None, 1)],
    );
    check(
        "end and head cut",
        |folder, lines| {
            lines.truncate(15);
            std::fs::remove_file(folder.join("log.jsonl.head")).unwrap();
        },
        &[(Kind::Head, None, 1)],
    );
    check(
        "the head forged",
        |folder, lines| {
            lines.truncate(15);
            let last = open(lines[14].as_bytes()).unwrap().hash;
            let forger = Seal::Chain(SigningKey::from_seed([9; 32]));
            let text = tensorgate_audit::recover::head("log", 15, last, &forger).unwrap();
            std::fs::write(folder.join("log.jsonl.head"), text).unwrap();
        },
        &[(Kind::Head, None, 1)],
    );
}

#[test]
fn a_log_rewritten_with_another_key_passes_only_without_a_key() {
    let folder = support::folder();
    let settings = settings(&folder);
    live(&settings, REQUESTS);
    let ours = VerifyingKey::read(&folder.join("log.jsonl.pub")).unwrap();
    let paths = Paths::new(&settings.path);
    assert_eq!(verify(&paths, Some(ours.clone())).unwrap().faults, []);
    for file in [
        "log.jsonl",
        "log.jsonl.head",
        "log.jsonl.key",
        "log.jsonl.pub",
    ] {
        std::fs::remove_file(folder.join(file)).unwrap();
    }
    live(&settings, 3);
    assert_eq!(verify(&paths, None).unwrap().faults, [], "it fits itself");
    let report = verify(&paths, Some(ours)).unwrap();
    let kinds: Vec<Kind> = report.faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(
        kinds,
        [Kind::Forged, Kind::Forged, Kind::Head],
        "{report:#?}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_restarted_log_continues_its_chain() {
    let folder = support::folder();
    let settings = settings(&folder);
    live(&settings, 3);
    live(&settings, 2);
    let report = report(&settings);
    assert_eq!(report.faults, []);
    assert_eq!(
        (report.lines, report.decisions, report.signed_seq),
        (9, 5, Some(9))
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn one_host_writes_a_log() {
    let folder = support::folder();
    let settings = settings(&folder);
    let audit = started(&settings);
    assert!(recover(&settings).is_err());
    audit.stop();
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_line_truncated_by_a_crash_is_moved_aside_and_reported() {
    let folder = support::folder();
    let settings = settings(&folder);
    live(&settings, 3);
    let whole = std::fs::read(&settings.path).unwrap();
    for torn in [&b"{"[..], b"{\"v\":1,\"seq\":6,\"time\":\"2026"] {
        std::fs::write(&settings.path, [&whole, torn].concat()).unwrap();
        assert_eq!(
            report(&settings).faults,
            [],
            "a line that is being written proves nothing"
        );
        let kept = folder.join("log.jsonl.torn-00000000000006");
        live(&settings, 1);
        assert_eq!(std::fs::read(&kept).unwrap(), torn);
        let report = report(&settings);
        assert_eq!(report.faults, []);
        assert!(report.notes[0].contains("torn"), "{report:#?}");
        std::fs::write(&settings.path, &whole).unwrap();
        let head = tensorgate_audit::recover::head(
            report.log.as_deref().unwrap(),
            5,
            open(lines(&settings.path)[4].as_bytes()).unwrap().hash,
            &Seal::Chain(SigningKey::read_or_make(&folder.join("log.jsonl.key")).unwrap()),
        );
        std::fs::write(folder.join("log.jsonl.head"), head.unwrap()).unwrap();
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// A host starts after a manipulation, and its findings stay in the log.
fn check_restart(
    what: &str,
    tamper: impl Fn(&Path, &mut Vec<String>),
    expected: &[Kind],
    told: &str,
) {
    let folder = support::folder();
    let settings = settings(&folder);
    live(&settings, REQUESTS);
    let mut text = lines(&settings.path);
    tamper(&folder, &mut text);
    put(&settings.path, &text);
    live(&settings, 2);
    let report = report(&settings);
    let kinds: Vec<Kind> = report.faults.iter().map(|fault| fault.kind).collect();
    assert_eq!(kinds, expected, "{what}: {report:#?}");
    assert!(
        report
            .faults
            .iter()
            .any(|fault| fault.detail.contains(told)),
        "{what}: {report:#?}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_restart_hides_no_manipulation() {
    check_restart(
        "the end cut",
        |_, lines| lines.truncate(15),
        &[Kind::Found, Kind::Removed],
        "truncated",
    );
    check_restart(
        "everything cut",
        |_, lines| lines.clear(),
        &[Kind::Found],
        "truncated",
    );
    check_restart(
        "the last line edited",
        |_, lines| {
            let end = lines.len() - 1;
            lines[end] = lines[end].replace("Z", "Y");
        },
        &[Kind::Edited, Kind::Found],
        "damaged",
    );
    check_restart(
        "the head removed",
        |folder, _| std::fs::remove_file(folder.join("log.jsonl.head")).unwrap(),
        &[Kind::Found],
        "head-missing",
    );
    check_restart(
        "the head broken",
        |folder, _| std::fs::write(folder.join("log.jsonl.head"), "{}").unwrap(),
        &[Kind::Found],
        "head-invalid",
    );
    check_restart(
        "the key changed",
        |folder, _| std::fs::write(folder.join("log.jsonl.key"), "22".repeat(32)).unwrap(),
        &[Kind::Forged, Kind::Forged, Kind::Found],
        "head-invalid",
    );
}

#[test]
fn files_rotate_at_their_size_the_oldest_is_deleted_and_the_chain_continues() {
    let folder = support::folder();
    let small = Settings {
        file_bytes: 4_096,
        files: 3,
        ..settings(&folder)
    };
    for _ in 0..6 {
        live(&small, 20);
    }
    let closed: Vec<PathBuf> = Paths::new(&small.path)
        .all_closed()
        .unwrap()
        .into_iter()
        .map(|(_, path)| path)
        .collect();
    assert_eq!(closed.len(), 3);
    let whole = report(&small);
    assert_eq!(whole.faults, [], "{whole:#?}");
    assert!(
        whole.first_seq > Some(1),
        "the first files are gone, and the log says so"
    );

    let middle = std::fs::read(&closed[1]).unwrap();
    std::fs::remove_file(&closed[1]).unwrap();
    let kinds: Vec<Kind> = report(&small)
        .faults
        .iter()
        .map(|fault| fault.kind)
        .collect();
    assert_eq!(kinds, [Kind::Removed], "a file from the middle");
    std::fs::write(&closed[1], middle).unwrap();

    std::fs::remove_file(&closed[0]).unwrap();
    let kinds: Vec<Kind> = report(&small)
        .faults
        .iter()
        .map(|fault| fault.kind)
        .collect();
    assert_eq!(kinds, [Kind::Removed], "the oldest that should be there");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_log_without_a_chain_says_so() {
    let folder = support::folder();
    let plain = Settings {
        chain: false,
        ..settings(&folder)
    };
    live(&plain, 3);
    live(&plain, 1);
    let report = report(&plain);
    assert_eq!(found(&report), [(Kind::Unchained, None, 1)]);
    assert_eq!(lines(&plain.path).len(), 8);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_log_is_its_owners_alone_and_a_plain_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = support::folder();
    let deep = Settings {
        path: folder.join("a/b/log.jsonl"),
        ..settings(&folder)
    };
    live(&deep, 1);
    let mode = |name: &str| {
        std::fs::metadata(folder.join(name))
            .unwrap()
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode("a/b"), 0o700);
    for name in ["log.jsonl", "log.jsonl.key", "log.jsonl.head"] {
        assert_eq!(mode(&format!("a/b/{name}")), 0o600, "{name}");
    }
    std::fs::set_permissions(
        folder.join("a/b/log.jsonl.key"),
        std::fs::Permissions::from_mode(0o644),
    )
    .unwrap();
    assert!(recover(&deep).is_err(), "others can read the key");
    let pipe = Settings {
        path: folder.join("pipe"),
        ..settings(&folder)
    };
    std::os::unix::fs::symlink("/dev/null", &pipe.path).unwrap();
    assert!(recover(&pipe).is_err(), "a link is no log");
    std::fs::remove_dir_all(folder).unwrap();
}
