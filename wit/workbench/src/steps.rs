//! Progress of long commands on standard error: a line when a step begins, and one with its time
//! when it ends, with and without a terminal.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::Ui;

/// When the lines of a step are printed.
#[derive(Clone, Copy)]
struct Pace {
    /// A step that ends before this time prints nothing.
    first: Duration,
    /// The time between two lines of a step that still runs.
    next: Duration,
}

/// Runs a step of a command. `usual` is how long it takes as a rule, or empty. With `--json`,
/// nothing is printed.
///
/// # Errors
/// The step's failure.
pub fn step<T>(
    ui: &Ui,
    what: &str,
    usual: &str,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    if ui.json {
        return work();
    }
    let pace = Pace {
        first: Duration::from_millis(500),
        next: Duration::from_secs(30),
    };
    let usual = if usual.is_empty() {
        String::new()
    } else {
        format!(" ({usual})")
    };
    timed(&|line: &str| ui.note(line), pace, what, &usual, work)
}

/// Runs a step, and prints its lines from another thread while it runs.
fn timed<T>(
    print: &(impl Fn(&str) + Sync),
    pace: Pace,
    what: &str,
    usual: &str,
    work: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let started = Instant::now();
    let (ended, running) = channel();
    let (result, is_named) = std::thread::scope(|scope| {
        let lines = scope.spawn(move || {
            let is_named = runs_for(pace.first, &running);
            if is_named {
                print(&format!("{what}{usual} …"));
                while runs_for(pace.next, &running) {
                    let seconds = started.elapsed().as_secs();
                    print(&format!("{what}: not done after {seconds} s"));
                }
            }
            is_named
        });
        let result = work();
        drop(ended);
        (result, lines.join().unwrap_or_default())
    });
    if is_named {
        let how = if result.is_ok() { "done" } else { "failed" };
        let seconds = started.elapsed().as_secs_f64();
        print(&format!("{what}: {how} after {seconds:.1} s"));
    }
    result
}

/// Whether a step runs for this time.
fn runs_for(time: Duration, running: &Receiver<()>) -> bool {
    running.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::sync::Mutex;

    use super::*;

    /// The lines of a step that ends once it has printed as many.
    fn lines(first: Duration, count: usize, result: Result<(), Failure>) -> Vec<String> {
        let lines = Mutex::new(Vec::new());
        let print = |line: &str| lines.lock().unwrap().push(line.to_owned());
        let pace = Pace {
            first,
            next: Duration::from_millis(1),
        };
        let _ = timed(&print, pace, "installing", " (a minute)", || {
            while lines.lock().unwrap().len() < count {
                std::thread::sleep(pace.next);
            }
            result
        });
        lines.into_inner().unwrap()
    }

    #[test]
    fn a_step_names_itself_its_end_and_its_time_unless_it_is_short() {
        assert_eq!(lines(Duration::from_secs(3_600), 0, Ok(())), [""; 0]);
        for (result, end) in [
            (Ok(()), "installing: done after "),
            (Err(Failure::No), "installing: failed after "),
        ] {
            let lines = lines(Duration::ZERO, 2, result);
            assert_eq!(lines.first().unwrap(), "installing (a minute) …");
            let later = lines.get(1).unwrap();
            assert!(later.starts_with("installing: not done after "), "{later}");
            let last = lines.last().unwrap();
            assert!(last.starts_with(end) && last.ends_with(" s"), "{last}");
        }
    }
}
