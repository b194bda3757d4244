//! `pod drain`: ends what an Envoy has, before the kubelet sends it SIGTERM. At that signal Envoy
//! cuts off every request.
//!
//! 1. Wait until proxies have learnt that the pod leaves. Envoy serves as before.
//! 2. Fail Envoy's health check. Each answer of HTTP/1.1 then has `Connection: close`, and each
//!    connection of HTTP/2 gets GOAWAY. Envoy still accepts connections, and closes them alike.
//! 3. Wait until no connection of a client is left, or the time is over. Connections without
//!    requests count, because one may begin at any time; Envoy closes them after `idle_ms`.
//! 4. Close the listeners, and wait until the last entries of the access log are sent.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tensorgate_policy::values::safe_text::printable_prefix;

use super::{exchange, values};

/// Prefix of the counters of the clients' listener.
const COUNTERS: &str = "http.gate.downstream_";
/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Time between two looks at the counters.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// The most of a status line that is printed, bytes.
const MAX_LINE_BYTES: usize = 200;
/// Time for the last entries of the access log, which Envoy does not send at its end: several
/// intervals of the rendered `buffer_flush_interval`.
const LAST_ENTRIES: Duration = Duration::from_millis(500);

/// Drains an Envoy.
///
/// # Errors
/// The arguments are wrong, Envoy does not answer, or requests are left that its end cuts off.
pub(super) fn run(arguments: &[OsString]) -> Result<(), String> {
    let names = ["--admin-socket", "--leave-seconds", "--seconds"];
    let [socket, leave, time] = values(arguments, names)?;
    let envoy = Envoy {
        socket: PathBuf::from(socket),
    };
    sleep(seconds(&leave)?);
    envoy.drain(seconds(&time)?)
}

fn seconds(text: &OsStr) -> Result<Duration, String> {
    let seconds = text.to_str().and_then(|text| text.parse::<u64>().ok());
    let seconds = seconds.ok_or_else(|| format!("{}: not a number of seconds", text.display()))?;
    Ok(Duration::from_secs(seconds))
}

/// What clients have open at an Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    connections: u64,
    requests: u64,
}

impl Open {
    /// Reads both counters of a page.
    fn from_page(page: &str) -> Option<Self> {
        let counter = |name: &str| {
            page.lines().find_map(|line| {
                let value = line.strip_prefix(COUNTERS)?.strip_prefix(name)?;
                value.strip_prefix(": ")?.trim_end().parse::<u64>().ok()
            })
        };
        Some(Self {
            connections: counter("cx_active")?,
            requests: counter("rq_active")?,
        })
    }
}

/// The admin interface of an Envoy.
struct Envoy {
    socket: PathBuf,
}

impl Envoy {
    /// Drains it for at most `time`.
    fn drain(&self, time: Duration) -> Result<(), String> {
        let started = Instant::now();
        let mut failing = false;
        let left = loop {
            // Envoy's main thread may be busy, so each failure is tried again.
            let health = if failing {
                Ok(())
            } else {
                self.ask("POST", "/healthcheck/fail").map(drop)
            };
            failing = health.is_ok();
            let open = health.and_then(|()| self.open());
            if matches!(open, Ok(Open { connections: 0, .. })) {
                break open;
            }
            let remaining = time.saturating_sub(started.elapsed());
            if remaining.is_zero() {
                break open;
            }
            sleep(remaining.min(POLL_INTERVAL));
        };
        let closed = self.ask("POST", "/drain_listeners").map(drop);
        sleep(LAST_ENTRIES);
        match left.and_then(|open| closed.map(|()| open)) {
            Ok(Open { requests: 0, .. }) => Ok(()),
            Ok(Open { requests, .. }) => Err(format!(
                "{requests} requests are still active after {} s, and end with Envoy",
                time.as_secs()
            )),
            Err(error) => Err(format!("{}: {error}", self.socket.display())),
        }
    }

    fn open(&self) -> io::Result<Open> {
        let page = self.ask(
            "GET",
            "/stats?filter=^http\\.gate\\.downstream_(cx|rq)_active$",
        )?;
        Open::from_page(&page).ok_or_else(|| io::Error::other("the counters are missing"))
    }

    /// Sends a request. Returns the body of a 200 response.
    fn ask(&self, method: &str, path: &str) -> io::Result<String> {
        let headers = "host: localhost\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let request = format!("{method} {path} HTTP/1.1\r\n{headers}");
        let socket: &Path = &self.socket;
        let answer = exchange(socket, request.as_bytes(), TIMEOUT)?;
        if answer.status == 200 {
            return Ok(String::from_utf8_lossy(&answer.body).into_owned());
        }
        let line = answer.head.lines().next().unwrap_or_default();
        let line = printable_prefix(line, MAX_LINE_BYTES);
        Err(io::Error::other(format!("{method} {path}: {line}")))
    }
}

#[cfg(test)]
mod tests;
