//! What `up` prints about a step that takes long, so that it is not silent meanwhile.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use tensorgate_settings::admin::COMPILING_HANDLER;
use tokio::time::{Instant, timeout};

/// Time after which a step is named.
const NOTICEABLE: Duration = Duration::from_secs(1);

/// Runs a step. If it takes noticeable time, `print` gets its name.
pub async fn run_named<T>(name: &str, print: &dyn Fn(&str), step: impl Future<Output = T>) -> T {
    let mut step = pin!(step);
    match timeout(NOTICEABLE, step.as_mut()).await {
        Ok(done) => done,
        Err(_) => {
            print(&format!("{name} …"));
            step.await
        }
    }
}

/// The start of a process.
pub struct StartProgress {
    name: String,
    began: Instant,
    printed: BTreeSet<String>,
}

impl StartProgress {
    /// A process with this name, which starts now.
    pub fn new(name: &str, now: Instant) -> Self {
        Self {
            name: name.to_owned(),
            began: now,
            printed: BTreeSet::new(),
        }
    }

    /// The lines to print: each handler that the host compiles, or else the process. `why` is the
    /// process's own report of why it is not ready.
    pub fn lines(&mut self, why: &str, now: Instant) -> Vec<String> {
        if now.duration_since(self.began) < NOTICEABLE {
            return Vec::new();
        }
        let causes = why.split("; ");
        let handlers = causes.filter(|cause| cause.starts_with(COMPILING_HANDLER));
        let mut lines: Vec<_> = handlers.map(|cause| format!("{cause} …")).collect();
        if lines.is_empty() && self.printed.is_empty() {
            lines.push(format!("starting {} …", self.name));
        }
        lines.retain(|line| self.printed.insert(line.clone()));
        lines
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "tests")]

    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_process_is_named_once_and_so_is_each_handler_that_it_compiles() {
        let began = Instant::now();
        let mut progress = StartProgress::new("host", began);
        let none: [&str; 0] = [];
        let mut check = |after_ms: u64, why: &str, expected: &[&str]| {
            let now = began + Duration::from_millis(after_ms);
            assert_eq!(progress.lines(why, now), expected, "{after_ms} {why}");
        };
        let compiling = "HTTP/1.1 503 Service Unavailable: compiling handlers";
        check(999, &format!("{compiling}; compiling handler a"), &none);
        check(1_000, "not accepting connections", &["starting host …"]);
        check(1_100, compiling, &none);
        let two = format!("{compiling}; compiling handler a; compiling handler b");
        let lines = ["compiling handler a …", "compiling handler b …"];
        check(1_200, &two, &lines);
        check(1_300, &two, &none);
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_long_step_is_named() {
        let printed = RefCell::new(Vec::new());
        let print = |line: &str| printed.borrow_mut().push(line.to_owned());
        let wait = |ms| tokio::time::sleep(Duration::from_millis(ms));
        run_named("short", &print, wait(999)).await;
        run_named("long", &print, wait(1_500)).await;
        assert_eq!(*printed.borrow(), ["long …"]);
    }
}
