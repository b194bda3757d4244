//! Tests of what is kept of the records, and of its bounds.

#![allow(clippy::unwrap_used, reason = "tests")]

use serde_json::json;
use tensorgate_audit::record::Amend;

use super::*;

fn decision(verdict: Verdict, reason: &str) -> Event {
    Event::Decision(Box::new(Decision {
        verdict,
        reason: reason.to_owned(),
        client: Some("c".to_owned()),
        ..Decision::default()
    }))
}

fn alert(subject: &str, state: Option<&str>) -> Event {
    let record = json!({
        "id": "alert-1", "rule": "volume", "subject": subject, "since": "", "observed": 1,
        "usual": 0, "unit": "requests", "what": "sent more", "advice": "", "withheld": 0,
        "cause": format!("cause of {subject}"), "state": state,
    });
    Event::Alert(Box::new(serde_json::from_value(record).unwrap()))
}

fn write(recorder: &Recorder, events: impl IntoIterator<Item = Event>) {
    let now = SystemTime::now();
    let events: Vec<_> = events.into_iter().map(|event| (now, event)).collect();
    recorder.written(&events);
}

#[test]
fn a_flood_of_answers_displaces_no_denial_and_a_flood_of_denials_is_bounded() {
    let recorder = Recorder::default();
    write(&recorder, [decision(Verdict::Deny, "blocked")]);
    write(
        &recorder,
        (0..1_000).map(|_| decision(Verdict::Allow, "ok")),
    );
    let recent = recorder.recent();
    assert_eq!(recent.decisions.len(), KEPT_DECISIONS);
    assert!(recent.decisions.iter().all(|it| it.reason == "ok"));
    assert_eq!(recent.refused.len(), 1);
    assert_eq!(recent.counts.clients.get("c").unwrap().requests(), 1_001);
    write(
        &recorder,
        (0..1_000).map(|it| decision(Verdict::Deny, &it.to_string())),
    );
    let recent = recorder.recent();
    assert_eq!(recent.refused.len(), KEPT_DECISIONS);
    assert_eq!(
        recent.refused.first().unwrap().reason,
        "999",
        "the newest first"
    );
    assert_eq!(recent.streaks.len(), KEPT_STREAKS);
}

#[test]
fn rejections_of_a_kind_have_a_beginning_until_they_pause() {
    let recorder = Recorder::default();
    let start = SystemTime::UNIX_EPOCH;
    let at = |seconds| start.checked_add(Duration::from_secs(seconds)).unwrap();
    for seconds in [0, 600, 1_200] {
        recorder.written(&[(at(seconds), decision(Verdict::Deny, "blocked"))]);
    }
    let streak = |recorder: &Recorder| *recorder.recent().streaks.values().next().unwrap();
    assert_eq!(
        (streak(&recorder).first, streak(&recorder).last),
        (start, at(1_200))
    );
    recorder.written(&[(at(5_000), decision(Verdict::Deny, "blocked"))]);
    assert_eq!(streak(&recorder).first, at(5_000));
}

#[test]
fn alerts_about_sources_displace_none_about_a_client_and_ends_are_noted() {
    let recorder = Recorder::default();
    write(&recorder, [alert("client victim", None)]);
    let sources = (0..200).map(|it| alert(&format!("source 192.0.2.{it}"), None));
    write(&recorder, sources);
    let recent = recorder.recent();
    assert_eq!(recent.alerts.len(), KEPT_ALERTS);
    let (victim, _) = recent.alerts.last().unwrap();
    assert_eq!(
        (&*victim.record.subject, victim.is_over),
        ("client victim", false)
    );
    write(&recorder, [alert("client victim", Some(AlertRecord::OVER))]);
    let (victim, _) = recorder.recent().alerts.pop().unwrap();
    assert!(victim.is_over);
    assert_eq!(
        recorder.recent().alerts.len(),
        KEPT_ALERTS,
        "an end is no alert"
    );
}

#[test]
fn changes_and_losses_are_kept_and_tokens_of_streams_are_added() {
    let recorder = Recorder::default();
    let policy = |number: u32| Event::Policy {
        generation: number.to_string(),
    };
    write(&recorder, (0..100).map(policy));
    let lost = Event::Dropped {
        count: 3,
        cause: "no room".to_owned(),
    };
    let amend = Amend {
        client: Some("c".to_owned()),
        completion_tokens: Some(40),
        ..Amend::default()
    };
    write(&recorder, [lost, Event::Amend(amend)]);
    let recent = recorder.recent();
    assert_eq!(recent.policies.len(), KEPT_CHANGES);
    assert_eq!(recent.policies.first().unwrap().generation, "99");
    assert_eq!(recent.losses.first().unwrap().count, 3);
    assert_eq!(
        recent.counts.clients.get("c").unwrap().completion_tokens,
        40
    );
}

#[test]
fn the_time_in_the_gate_counts_by_model() {
    let recorder = Recorder::default();
    recorder.completed(Some("m"), 300);
    recorder.completed(None, 100);
    let latency = recorder.recent().counts.latency;
    assert_eq!(latency.get("m").unwrap().gate_us, 300);
    assert_eq!(latency.get(NONE).unwrap().gate_count, 1);
}
