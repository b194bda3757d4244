//! `alerts`, on a log that the host's own code wrote.

use std::io::BufRead as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Number, Value};
use tensorgate_audit::Audit;
use tensorgate_audit::record::{AlertRecord, Decision, Event};
use tensorgate_audit::recover::{Settings, recover};
use tensorgate_telemetry::metrics::Metrics;

use crate::program::{Scratch, binary, run};

/// Size at which a file is closed.
const FILE_BYTES: u64 = 4_096;

/// A log whose files are closed after about four alerts.
fn start(folder: &Path) -> (Audit, String) {
    let settings = Settings {
        path: folder.join("audit/decisions.jsonl"),
        key_file: None,
        chain: true,
        file_bytes: FILE_BYTES,
        files: 1_000,
    };
    let recovered = recover(&settings).unwrap();
    let audit = Audit::start(recovered, FILE_BYTES, Arc::new(Metrics::new())).unwrap();
    (audit, settings.path.to_str().unwrap().to_owned())
}

fn request(number: u64, client: &str, source: &str) -> Event {
    Event::Decision(Box::new(Decision {
        request_id: Some(format!("id-{number}")),
        reason: "shape".into(),
        client: Some(client.into()),
        source: Some(source.into()),
        ..Decision::default()
    }))
}

fn alert(number: u64, rule: &str, subject: &str) -> Event {
    Event::Alert(Box::new(record(number, rule, subject)))
}

/// A record as an older host wrote it.
fn record(number: u64, rule: &str, subject: &str) -> AlertRecord {
    AlertRecord {
        id: format!("alert-{number}"),
        rule: rule.into(),
        subject: subject.into(),
        since: "2026-11-25T14:03:00.000000Z".into(),
        observed: Number::from(412),
        usual: Number::from_f64(19.8).unwrap(),
        unit: "requests a minute".into(),
        what: "sends\u{1b}[31m far more".into(),
        advice: "Look.".into(),
        withheld: 3,
        response: Some("blocked until noon".into()),
        severity: None,
        gateway: None,
        client: None,
        model: None,
        source: None,
        request_id: None,
        command: None,
        cause: None,
        state: None,
        joined: Vec::new(),
        joined_beyond: None,
    }
}

#[test]
fn alerts_are_listed_with_their_evidence_and_the_requests_of_their_subject() {
    let scratch = Scratch::new();
    let (audit, log) = start(scratch.path());
    let now = SystemTime::now();
    let earlier = now - Duration::from_secs(7_200);
    audit.write(earlier, request(0, "a", "192.0.2.1"));
    audit.write(earlier, alert(0, "volume", "client a"));
    for number in 1..8 {
        audit.write(now, request(number, "a", "192.0.2.1"));
    }
    audit.write(now, request(8, "b", "2001:db8::1"));
    audit.write(now, alert(1, "management", "source 2001:db8::/64"));
    audit.write(now, alert(2, "volume", "client a"));
    audit.stop();
    let ids = |words: &[&str]| {
        let ran = run(&[&["alerts", &log, "--json"], words].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let id = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            let requests = line["requests"].as_array().unwrap();
            let requests = requests.iter().map(|it| it["request_id"].as_str().unwrap());
            let requests: Vec<_> = requests.collect();
            format!("{} {}", line["id"].as_str().unwrap(), requests.join(" "))
        };
        ran.stdout.lines().map(id).collect::<Vec<_>>()
    };
    let [first, source, last] = [
        "alert-0 id-0",
        "alert-1 id-8",
        "alert-2 id-7 id-6 id-5 id-4 id-3",
    ];
    assert_eq!(ids(&[]), [first, source, last]);
    assert_eq!(ids(&["--rule", "management"]), [source]);
    assert_eq!(ids(&["--client", "a"]), [first, last]);
    assert_eq!(ids(&["--client", "a", "--since", "1h"]), [last]);
    let text = run(&["alerts", "--log", &log, "--client", "a", "--since", "1h"]).stdout;
    for piece in [
        "volume: client a sends",
        "412 requests a minute, usually 19.8, since 2026-11-25T14:03:00",
        "the client is blocked until noon",
        "only counted: 3",
        "latest requests: id-7 (shape), id-6 (shape)",
    ] {
        assert!(text.contains(piece), "no {piece:?} in {text}");
    }
    assert!(!text.contains('\u{1b}'), "a log cannot drive a terminal");
    let unknown = run(&["alerts", &log, "--rule", "volumes"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("volume"), "{}", unknown.stderr);
}

#[test]
fn an_alert_shows_its_severity_its_end_and_what_to_run() {
    let scratch = Scratch::new();
    let (audit, log) = start(scratch.path());
    let of_gate = |number: u64, model: &str| AlertRecord {
        severity: Some("critical".into()),
        command: Some("tensorgate status".into()),
        cause: Some("cause-1".into()),
        ..record(number, "model-unready", &format!("model {model}"))
    };
    let joined = AlertRecord {
        state: Some("joined".into()),
        joined: vec!["model-unready: model c".into()],
        joined_beyond: Some(2),
        ..of_gate(2, "a")
    };
    let over = AlertRecord {
        state: Some("over".into()),
        ..of_gate(3, "a")
    };
    for record in [of_gate(0, "a"), of_gate(1, "b"), joined, over] {
        audit.write(SystemTime::now(), Event::Alert(Box::new(record)));
    }
    audit.stop();
    let text = run(&["alerts", &log]).stdout;
    for (piece, count) in [
        ("critical model-unready: model a", 1),
        ("state: over since 2", 1),
        ("state: open", 1),
        ("run: tensorgate status", 4),
        ("more of one cause: model a", 1),
        ("of the same cause: model-unready: model c and 2 more", 1),
        ("over: model a", 1),
    ] {
        assert_eq!(text.matches(piece).count(), count, "{piece:?} in {text}");
    }
    let (restarted, _) = start(scratch.path());
    let away = AlertRecord {
        cause: Some("cause-2".into()),
        ..of_gate(4, "d")
    };
    let back = AlertRecord {
        rule: "backend-away".into(),
        subject: "backend b".into(),
        state: Some("over".into()),
        joined: vec!["model-unready: model d".into()],
        ..away.clone()
    };
    for record in [away, back] {
        restarted.write(SystemTime::now(), Event::Alert(Box::new(record)));
    }
    restarted.stop();
    // No host will say that the alert about the model b is over. Another record ends that about d.
    let text = run(&["alerts", &log, "--rule", "model-unready"]).stdout;
    assert!(!text.contains("state: open"), "{text}");
    assert_eq!(text.matches("state: over since 2").count(), 2, "{text}");
    let nothing = run(&["alerts", &log, "--rule", "volume"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, ""));
    assert_eq!(nothing.stderr.trim(), "no alert");
}

#[test]
fn alerts_are_followed_over_rotations() {
    let scratch = Scratch::new();
    let (audit, log) = start(scratch.path());
    audit.write(SystemTime::now(), alert(0, "volume", "client a"));
    let began = Instant::now();
    while run(&["alerts", &log]).stdout.is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "it is not there");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut child = std::process::Command::new(binary())
        .args(["alerts", &log, "--json", "--follow", "--since", "1h"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    for number in 0..10 {
        let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(line["id"], format!("alert-{number}"));
        let at = SystemTime::now();
        audit.write(at, request(number, "a", "192.0.2.1"));
        audit.write(at, alert(number + 1, "volume", "client a"));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    audit.stop();
}
