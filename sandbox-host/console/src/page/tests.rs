//! Tests of the page: hostile names are text, nothing on it needs another server or an inline
//! script, and it stays small.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;
use std::time::UNIX_EPOCH;

use serde_json::json;
use tensorgate_audit::RecordListener as _;
use tensorgate_audit::record::{AlertRecord, Decision, Event, Found, Verdict};
use tensorgate_telemetry::handler_statistics::HandlerTotals;
use tensorgate_values::safe_text::is_hidden;
use tensorgate_watch::blocks::{BlockAction, BlockRecord, ListedBlock};
use tensorgate_watch::conditions::{Condition, ConditionKind, Holding};
use tensorgate_watch::gate_status::{GateStatus, PolicyChange};

use super::*;
use crate::assets::{ICON, SCRIPT, STYLE};
use crate::recorder::Recorder;
use crate::snapshot::{AuditState, GatewayRow, LoadAttempt, ModelFiles, ModelRow, PolicyState};

/// A name that is markup, closes attributes, and controls a terminal and the direction of text.
const HOSTILE: &str = "\"><script>alert(1)</script>'\u{202e}\u{1b}[2J&amp;";
/// It as it is shown.
const SHOWN: &str =
    "&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;&#39;\\u{202e}\\u{1b}[2J&amp;amp;";
/// The largest page in bytes.
const MAX_PAGE_BYTES: usize = 512 << 10;

fn alert(subject: &str) -> AlertRecord {
    serde_json::from_value(json!({
        "id": HOSTILE, "rule": "volume", "subject": subject, "since": "2026-11-27T02:00:00.5Z",
        "observed": 412, "usual": 19.8, "unit": HOSTILE, "what": HOSTILE, "advice": HOSTILE,
        "withheld": 0, "command": HOSTILE, "response": HOSTILE, "severity": HOSTILE,
    }))
    .unwrap()
}

fn decision(verdict: Verdict, name: &str) -> Decision {
    Decision {
        verdict,
        reason: name.to_owned(),
        client: Some(name.to_owned()),
        model: Some(name.to_owned()),
        version: Some(name.to_owned()),
        source: Some(name.to_owned()),
        request_id: Some(name.to_owned()),
        detail: Some(name.repeat(20)),
        dispatch_us: Some(400),
        total_us: 900,
        ..Decision::default()
    }
}

/// A host of which every name is this one, with this number of everything.
fn running(name: &str, number: usize) -> Running {
    let recorder = Recorder::default();
    let repeated = |it: Event| std::iter::repeat_n((UNIX_EPOCH, it), number);
    for verdict in [Verdict::Allow, Verdict::Deny, Verdict::Aborted] {
        let event = Event::Decision(Box::new(decision(verdict, name)));
        recorder.written(&repeated(event).collect::<Vec<_>>());
    }
    let alert = Event::Alert(Box::new(alert(&format!("client {name}"))));
    recorder.written(&repeated(alert).collect::<Vec<_>>());
    let policy = Event::Policy {
        generation: name.to_owned(),
    };
    recorder.written(&repeated(policy).collect::<Vec<_>>());
    let lost = Event::Dropped {
        count: 1,
        cause: name.to_owned(),
    };
    recorder.written(&repeated(lost).collect::<Vec<_>>());
    let holding = Holding {
        since: name.to_owned(),
        condition: Condition {
            kind: ConditionKind::ModelUnready,
            subject: name.to_owned(),
            client: None,
            detail: name.to_owned(),
        },
    };
    let status = GateStatus {
        holding: vec![holding],
        learning: vec![name.to_owned()],
        last_policy_change: Some(PolicyChange {
            generation: name.to_owned(),
            was: Some(name.to_owned()),
            time: name.to_owned(),
        }),
        ..GateStatus::default()
    };
    let model = ModelRow {
        model: name.to_owned(),
        version: name.to_owned(),
        backend: name.to_owned(),
        causes: vec![name.to_owned()],
        files: ModelFiles::Rejected(name.to_owned()),
    };
    let attempt = LoadAttempt {
        outcome: "refused",
        generation: Some(name.to_owned()),
        time: UNIX_EPOCH,
        faults: vec![name.to_owned()],
    };
    let gateway = GatewayRow {
        name: name.to_owned(),
        generation: name.to_owned(),
        is_known: false,
        last_seen_s: 1,
    };
    let block = BlockRecord::new(name, BlockAction::Block, 1_000, None, 0);
    let block = ListedBlock {
        block: block.made_by(name.to_owned(), name),
        in_force: true,
    };
    let totals = (0..number).map(|index| {
        let totals = HandlerTotals {
            faults: u64::from(index == 0),
            ..HandlerTotals::default()
        };
        ((format!("{name}{index}"), "preprocess"), totals)
    });
    Running {
        time: UNIX_EPOCH,
        gateway: name.to_owned(),
        unready: vec![name.to_owned()],
        warnings: vec![name.to_owned()],
        in_flight: 1,
        status,
        recent: recorder.recent(),
        models: vec![model; number],
        models_total: number,
        models_unready: number,
        handlers: totals.collect(),
        handler_memory: (1 << 20, 1 << 30),
        blocks: vec![block; number],
        policy: PolicyState {
            serving: name.to_owned(),
            superseded: vec![(name.to_owned(), 5)],
            last: Some(attempt.clone()),
            last_refused: Some(attempt),
            gateways: vec![gateway; number],
        },
        audit: AuditState {
            log: name.to_owned(),
            key_id: Some(name.to_owned()),
            failure: Some((name.to_owned(), UNIX_EPOCH)),
            found: vec![Found {
                what: name.to_owned(),
                detail: name.to_owned(),
            }],
            ..AuditState::default()
        },
    }
}

fn shown(name: &str, number: usize) -> String {
    page(&Snapshot::Running(Box::new(running(name, number))))
}

#[test]
fn hostile_names_are_shown_as_text_everywhere() {
    let text = shown(HOSTILE, 2);
    assert!(
        text.matches(SHOWN).count() > 40,
        "{}",
        text.matches(SHOWN).count()
    );
    assert_eq!(text.matches("<script").count(), 1, "the page's own");
    let is_bad = |c: char| is_hidden(c) && c != '\n';
    assert!(!text.contains(is_bad));
    let starting = Snapshot::Starting(UNIX_EPOCH, vec![HOSTILE.to_owned()]);
    assert!(page(&starting).contains(SHOWN));
}

#[test]
fn a_host_that_accepts_no_requests_does_not_say_that_nothing_is_wrong() {
    let summary = |unready: &[&str]| {
        let host = Running {
            unready: unready.iter().map(|line| (*line).to_owned()).collect(),
            warnings: Vec::new(),
            status: GateStatus::default(),
            ..running("name", 0)
        };
        sections(&Snapshot::Running(Box::new(host)))
    };
    let text = summary(&["the host is shutting down"]);
    assert!(text.contains("The gate accepts no requests."), "{text}");
    assert!(!text.contains("Nothing is wrong."), "{text}");
    let text = summary(&[]);
    assert!(text.contains("The gate accepts requests. Nothing is wrong."));
}

#[test]
fn nothing_on_the_page_is_inline_or_of_another_server() {
    let text = shown("name", 2);
    for forbidden in [
        "style=",
        "onclick",
        "<style",
        "http:",
        "https:",
        "//",
        "javascript:",
    ] {
        assert!(!text.contains(forbidden), "{forbidden}");
    }
    for script in [SCRIPT, STYLE, ICON] {
        let text = script.replace("http://www.w3.org/2000/svg", "");
        assert!(!text.contains("http:") && !text.contains("https:"));
    }
}

#[test]
fn ids_are_unique_and_every_reference_has_its_target() {
    let text = shown("name", 2);
    let values = |attribute: &str| {
        let parts = text.split(attribute).skip(1);
        let values = parts.filter_map(|part| part.split('"').next());
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    let ids = values(" id=\"");
    let unique: BTreeSet<_> = ids.iter().cloned().collect();
    assert_eq!(ids.len(), unique.len(), "{ids:?}");
    for target in values(" aria-labelledby=\"")
        .into_iter()
        .chain(values("href=\"#"))
    {
        assert!(unique.contains(&target), "{target}");
    }
}

#[test]
fn the_parts_that_are_refreshed_are_those_of_the_page() {
    let snapshot = Snapshot::Running(Box::new(running("name", 2)));
    let (page, parts) = (page(&snapshot), sections(&snapshot));
    for (id, _, _) in SECTIONS {
        let begin = format!("<section id=\"{id}\"");
        let section = |text: &str| {
            let (_, rest) = text.split_once(&begin).unwrap();
            rest.split_once("</section>").unwrap().0.to_owned()
        };
        assert_eq!(section(&page), section(&parts), "{id}");
    }
}

#[test]
fn a_busy_host_has_a_page_of_bounded_size() {
    let name = "x".repeat(64);
    let text = shown(&name, 200);
    assert!(text.len() < MAX_PAGE_BYTES, "{}", text.len());
    let left_out = text.matches("<p>And 136 more.</p>").count();
    assert_eq!(left_out, 3, "handlers, blocks and gateways");
}
