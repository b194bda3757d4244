//! What `up` prints of the gate's own state, and what it leaves out.

use tensorgate_watch::conditions::Holding;

use super::*;

const MODEL: &str = r#"model "m" version "1""#;

fn change(begins: bool, kind: ConditionKind, subject: &str, detail: &str) -> Change {
    Change {
        number: 1,
        time: "2026-11-27T02:10:04.123456Z".to_owned(),
        begins,
        condition: Condition {
            kind,
            subject: subject.to_owned(),
            client: None,
            detail: detail.to_owned(),
        },
    }
}

/// An answer of a run with changes, while these conditions hold.
fn status(run: &str, changes: Vec<Change>, holding: &[(ConditionKind, &str)]) -> GateStatus {
    let mut status = GateStatus {
        run: run.to_owned(),
        changes,
        ..GateStatus::default()
    };
    for (kind, subject) in holding {
        status.holding.push(Holding {
            since: String::new(),
            condition: change(true, *kind, subject, "").condition,
        });
        let count = status.holding_counts.entry(*kind).or_default();
        *count = count.saturating_add(1);
    }
    status
}

/// The texts that are printed, without their times.
fn printed(printed: &mut PrintedChanges, status: &GateStatus, now: Instant) -> Vec<String> {
    let lines = change_lines(&printed.fresh(status, now)).into_iter();
    let text = |line: String| line.split_once(' ').map(|(_, text)| text.to_owned());
    lines.filter_map(text).collect()
}

#[test]
fn changes_are_printed_once_and_files_of_the_policy_not_at_all() {
    let now = Instant::now();
    let mut shown = PrintedChanges::default();
    let away = change(true, ConditionKind::BackendAway, "b", "refused");
    let file = change(
        true,
        ConditionKind::PolicyNotInForce,
        "gate.yaml",
        "a fault",
    );
    let first = status("a", vec![away.clone(), file], &[]);
    assert_eq!(
        printed(&mut shown, &first, now),
        ["backend away: b: refused"]
    );
    assert!(printed(&mut shown, &status("a", vec![away], &[]), now).is_empty());
    let back = change(false, ConditionKind::BackendAway, "b", "refused");
    let back = status("a", vec![back], &[]);
    assert_eq!(printed(&mut shown, &back, now), ["backend back: b"]);
    assert!(printed(&mut shown, &back, now).is_empty());
}

#[test]
fn a_model_that_the_start_has_named_is_printed_when_it_is_ready() {
    let now = Instant::now();
    let later = now.checked_add(SETTLING).unwrap_or(now);
    let unready = ConditionKind::ModelUnready;
    let warnings = [format!("{MODEL}: no server: refused")];
    let ready = [format!("ready again: {MODEL}")];
    // The host reports it, and then its end.
    let mut shown = PrintedChanges::default();
    shown.note_warned(&warnings, now);
    let begins = change(true, unready, MODEL, "no server");
    let begins = status("a", vec![begins], &[(unready, MODEL)]);
    assert!(printed(&mut shown, &begins, now).is_empty());
    let ends = status("a", vec![change(false, unready, MODEL, "")], &[]);
    assert_eq!(printed(&mut shown, &ends, now), ready);
    // It is ready before the host has looked twice.
    let mut shown = PrintedChanges::default();
    shown.note_warned(&warnings, now);
    let nothing = status("a", Vec::new(), &[]);
    assert!(printed(&mut shown, &nothing, now).is_empty());
    assert_eq!(printed(&mut shown, &nothing, later), ready);
    assert!(printed(&mut shown, &nothing, later).is_empty());
}

#[test]
fn a_model_is_not_ready_while_one_of_its_causes_holds() {
    let now = Instant::now();
    let (unready, rejected) = (ConditionKind::ModelUnready, ConditionKind::ModelRejected);
    let mut shown = PrintedChanges::default();
    let begins = status("a", vec![change(true, unready, MODEL, "no server")], &[]);
    printed(&mut shown, &begins, now);
    let changes = vec![
        change(true, rejected, MODEL, "another digest"),
        change(false, unready, MODEL, ""),
    ];
    let expected = [format!("model files rejected: {MODEL}: another digest")];
    assert_eq!(
        printed(&mut shown, &status("a", changes, &[]), now),
        expected
    );
}

#[test]
fn what_a_restarted_host_reports_again_is_printed_once() {
    let now = Instant::now();
    let later = now.checked_add(SETTLING).unwrap_or(now);
    let (away, blocked) = (ConditionKind::BackendAway, ConditionKind::ClientBlocked);
    let mut shown = PrintedChanges::default();
    let begins = vec![
        change(true, away, "b", "refused"),
        change(true, blocked, "c", "until noon"),
    ];
    printed(&mut shown, &status("a", begins, &[]), now);
    let again = vec![change(true, blocked, "c", "until noon")];
    let restarted = status("b", again, &[(blocked, "c")]);
    assert!(printed(&mut shown, &restarted, later).is_empty());
    let settled = later.checked_add(SETTLING).unwrap_or(later);
    let quiet = status("b", Vec::new(), &[(blocked, "c")]);
    assert_eq!(printed(&mut shown, &quiet, settled), ["backend back: b"]);
    // A list that is cut proves no end.
    let mut cut = status("b", Vec::new(), &[]);
    cut.holding_counts.insert(blocked, 9);
    let much_later = settled.checked_add(SETTLING).unwrap_or(settled);
    assert!(printed(&mut shown, &cut, much_later).is_empty());
}

#[test]
fn changes_with_one_cause_share_a_printable_line() {
    let unready = ConditionKind::ModelUnready;
    let names = ["a", "b", "c", "d", "e", "f\u{1b}[2J"];
    let changes: Vec<_> = (names.iter())
        .map(|name| change(true, unready, name, "no\nserver"))
        .chain([change(true, unready, "z\u{1b}[2J", "another cause")])
        .collect();
    let lines = change_lines(&changes);
    let expected = [
        "2026-11-27T02:10:04Z not ready: a, b, c, d and 2 more: no\u{fffd}server",
        "2026-11-27T02:10:04Z not ready: z\u{fffd}[2J: another cause",
    ];
    assert_eq!(lines, expected);
    let alert = RecentAlert {
        rule: "volume".to_owned(),
        subject: "client c".to_owned(),
        what: "sent\u{9b}more".to_owned(),
        ..RecentAlert::default()
    };
    assert_eq!(
        alert_line(&alert),
        " alert volume: client c sent\u{fffd}more"
    );
}
