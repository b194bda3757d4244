//! What died, and when: the unexpected ends of a gate's processes.

use std::path::Path;

use tensorgate_cli_common::ui::{Ui, printable};

use crate::stack::gate_changes::seconds;
use crate::stack::process_event::ProcessEnd;

/// Prints the ends, the last one first.
pub(super) fn print_ends(ui: &Ui, ends: &[ProcessEnd], state: Option<&Path>) {
    for end in ends.iter().rev() {
        ui.line(&printable(&described(end, state)));
    }
}

fn described(end: &ProcessEnd, state: Option<&Path>) -> String {
    let ProcessEnd {
        process,
        at,
        how,
        why,
        log,
        again,
    } = end;
    let why = why.as_ref().map(|why| format!(": {why}"));
    let again = match again {
        Some(time) => format!("runs again since {}", seconds(time)),
        None => "does not run again yet".to_owned(),
    };
    let log = log.as_ref().map(|log| {
        let log = state.map_or_else(|| Path::new(log).to_owned(), |state| state.join(log));
        format!("; log: {}", log.display())
    });
    let at = seconds(at);
    format!(
        "ended: {process} at {at} ({how}){}; {again}{}",
        why.unwrap_or_default(),
        log.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_one_line_with_its_time_cause_and_log() {
        let killed = ProcessEnd {
            process: "host".to_owned(),
            at: "2026-01-01T00:00:00.123456Z".to_owned(),
            how: "signal: 9 (SIGKILL)".to_owned(),
            log: Some("host.1.log".to_owned()),
            again: Some("2026-01-01T00:00:01Z".to_owned()),
            ..ProcessEnd::default()
        };
        let lost = ProcessEnd {
            why: Some("cannot start: no world".to_owned()),
            log: None,
            again: None,
            ..killed.clone()
        };
        for (end, expected) in [
            (
                killed,
                "ended: host at 2026-01-01T00:00:00Z (signal: 9 (SIGKILL)); runs again since 2026-01-01T00:00:01Z; log: /state/host.1.log",
            ),
            (
                lost,
                "ended: host at 2026-01-01T00:00:00Z (signal: 9 (SIGKILL)): cannot start: no world; does not run again yet",
            ),
        ] {
            assert_eq!(described(&end, Some(Path::new("/state"))), expected);
        }
    }
}
