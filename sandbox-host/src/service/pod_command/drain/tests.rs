//! Tests of `pod drain` against a socket that answers as Envoy's admin interface does.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

use super::*;

/// An admin interface whose counters are `open` in turn, and the last of them from then on.
struct Admin {
    socket: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Admin {
    fn start(name: &str, open: &'static [(u64, u64)]) -> Self {
        let file = format!("tg-drain-{name}-{}.sock", std::process::id());
        let socket = std::env::temp_dir().join(file);
        drop(fs::remove_file(&socket));
        let listener = UnixListener::bind(&socket).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let written = Arc::clone(&requests);
        std::thread::spawn(move || {
            let mut looks = 0_usize;
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 1024];
                let read = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..read]).into_owned();
                let line = request.lines().next().unwrap_or_default().to_owned();
                let body = if line.starts_with("GET /stats") {
                    let (connections, requests) = open[looks.min(open.len() - 1)];
                    looks += 1;
                    format!("{COUNTERS}cx_active: {connections}\n{COUNTERS}rq_active: {requests}\n")
                } else {
                    "OK\n".to_owned()
                };
                written.lock().unwrap().push(line);
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                let answer = format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        Self { socket, requests }
    }

    fn drain(&self, time: &str) -> Result<(), String> {
        let socket = self.socket.to_str().unwrap();
        let words = [
            "--admin-socket",
            socket,
            "--leave-seconds",
            "0",
            "--seconds",
            time,
        ];
        run(&words.map(OsString::from))
    }

    /// The requests that change something.
    fn changes(&self) -> Vec<String> {
        let requests = self.requests.lock().unwrap();
        let changes = requests.iter().filter(|line| line.starts_with("POST "));
        changes.cloned().collect()
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.socket));
    }
}

#[test]
fn it_ends_with_the_last_connection_and_closes_the_listeners_last() {
    // A kept connection between two requests is no reason to end.
    let admin = Admin::start("ends", &[(2, 1), (1, 0), (0, 0)]);
    let started = Instant::now();
    assert_eq!(admin.drain("60"), Ok(()));
    assert!(started.elapsed() < Duration::from_secs(30));
    let expected = [
        "POST /healthcheck/fail HTTP/1.1",
        "POST /drain_listeners HTTP/1.1",
    ];
    assert_eq!(admin.changes(), expected);
    let requests = admin.requests.lock().unwrap();
    assert!(
        requests
            .last()
            .unwrap()
            .starts_with("POST /drain_listeners")
    );
    assert_eq!(requests.len(), 5, "{requests:?}");
}

#[test]
fn it_ends_when_the_time_is_over_and_lists_what_is_cut_off() {
    let busy = Admin::start("busy", &[(3, 2)]);
    let error = busy.drain("0").unwrap_err();
    assert!(error.starts_with("2 requests are still active"), "{error}");
    // Nothing is lost with connections that have no request.
    assert_eq!(Admin::start("idle", &[(3, 0)]).drain("0"), Ok(()));
}

#[test]
fn a_refusal_cannot_steer_a_terminal() {
    let file = format!("tg-drain-refuses-{}.sock", std::process::id());
    let socket = std::env::temp_dir().join(file);
    drop(fs::remove_file(&socket));
    let listener = UnixListener::bind(&socket).unwrap();
    let answering = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        let answer = "HTTP/1.1 503 \u{1b}[2J\u{202e}Busy\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let envoy = Envoy { socket };
    let error = envoy.ask("POST", "/a").unwrap_err().to_string();
    assert_eq!(error, "POST /a: HTTP/1.1 503 \u{fffd}[2J\u{fffd}Busy");
    answering.join().unwrap();
    fs::remove_file(&envoy.socket).unwrap();
}

#[test]
fn an_envoy_that_does_not_answer_is_an_error() {
    let missing = Envoy {
        socket: "/nonexistent/admin.sock".into(),
    };
    let error = missing.drain(Duration::ZERO).unwrap_err();
    assert!(error.starts_with("/nonexistent/admin.sock: "), "{error}");
    assert_eq!(Open::from_page("http.gate.downstream_cx_active: 1\n"), None);
    assert_eq!(
        Open::from_page("http.stats.downstream_cx_active: 1\n"),
        None
    );
    assert!(seconds(OsStr::new("-1")).is_err() && seconds(OsStr::new("a")).is_err());
}
