//! The lines about processes that end unexpectedly, and about their restarts.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tensorgate_cli_common::ui::{Ui, printable};

use crate::duration::total_ms;
use crate::stack::process_event::{ProcessEnd, ProcessEvent};

#[derive(Serialize)]
struct EndedLine<'a> {
    ended: &'a ProcessEnd,
    restarts_in_ms: u64,
}

#[derive(Serialize)]
struct RestartedLine<'a> {
    started_again: &'a str,
    took_ms: u64,
}

#[derive(Serialize)]
struct NotReadyLine<'a> {
    not_ready: &'a str,
    why: &'a str,
}

/// Prints the line of an event. `state` is the folder of the logs.
pub(super) fn print(ui: &Ui, event: &ProcessEvent, state: &Path) {
    match event {
        ProcessEvent::Ended(ended, delay) if ui.json => ui.json_line(&EndedLine {
            ended,
            restarts_in_ms: total_ms(*delay),
        }),
        ProcessEvent::Ended(ended, delay) => {
            let warning = ui.paint("1;31", "warning");
            ui.note(&format!("{warning}: {}", ended_line(ended, *delay, state)));
        }
        ProcessEvent::Restarted(process, took) if ui.json => ui.json_line(&RestartedLine {
            started_again: process,
            took_ms: total_ms(*took),
        }),
        ProcessEvent::Restarted(process, took) => {
            let process = printable(process);
            ui.note(&format!("{process} runs again ({} ms)", total_ms(*took)));
        }
        ProcessEvent::NotReady(process, why) if ui.json => ui.json_line(&NotReadyLine {
            not_ready: process,
            why,
        }),
        ProcessEvent::NotReady(process, why) => {
            let line = format!("{process} is not ready: {why}");
            ui.note(&format!("warning: {}", printable(&line)));
        }
    }
}

/// The unexpected end of a process, in one line.
fn ended_line(ended: &ProcessEnd, delay: Duration, state: &Path) -> String {
    let ProcessEnd {
        process,
        at: _,
        how,
        why,
        log,
        again: _,
    } = ended;
    let why = why.as_ref().map(|why| format!(": {why}"));
    let when = if delay.is_zero() {
        "at once".to_owned()
    } else {
        format!("in {} ms", total_ms(delay))
    };
    let log = log.as_ref().map(|log| {
        let log = state.join(log);
        format!("; its log is kept in {}", log.display())
    });
    printable(&format!(
        "{process} ended unexpectedly ({how}){}; it starts again {when}{}",
        why.unwrap_or_default(),
        log.unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_one_line_that_names_the_delay_and_the_kept_log() {
        let end = ProcessEnd {
            process: "host".to_owned(),
            how: "exit status: 101".to_owned(),
            why: Some("panicked\nat".to_owned()),
            log: Some("host.2.log".to_owned()),
            ..ProcessEnd::default()
        };
        for (delay_ms, when) in [(0, "at once"), (250, "in 250 ms")] {
            let line = ended_line(&end, Duration::from_millis(delay_ms), Path::new("/state"));
            assert_eq!(
                line,
                format!(
                    "host ended unexpectedly (exit status: 101): panicked\u{fffd}at; it starts again {when}; its log is kept in /state/host.2.log"
                )
            );
        }
    }
}
