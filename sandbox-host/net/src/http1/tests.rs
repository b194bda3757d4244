//! Desynchronised answers, one test for each rule of reuse and repetition. A server plays a script
//! over real sockets: what it writes is chosen byte for byte.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "tests"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use tensorgate_base::client_key::ClientKey;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::client::{Http1Client, SendError};
use super::connection::{CloseCause, ConnectionEvent, Observe, Reuse};
use crate::dialer::Dialer;

/// What the server does next on a connection.
#[derive(Clone)]
enum Step {
    /// Reads a request to its end.
    Read,
    /// Reads no more than the head of a request.
    ReadHead,
    /// Writes these bytes.
    Write(&'static str),
    /// Waits for the test.
    Wait(Arc<Notify>),
    /// Ends the connection with a reset.
    Reset,
}
use Step::{Read, ReadHead, Reset, Wait, Write};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const SECRET: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret";

#[derive(Debug, Default)]
struct Events(Mutex<Vec<ConnectionEvent>>);

impl Observe for Events {
    fn observe(&self, event: ConnectionEvent) {
        self.0.lock().unwrap().push(event);
    }
}

struct Running {
    client: Http1Client,
    events: Arc<Events>,
    _server: tokio::task::JoinHandle<()>,
}

/// Starts a server whose connections play these scripts in order. More connections are refused by
/// silence, so that a test that opens too many fails.
async fn start(scripts: impl IntoIterator<Item = Vec<Step>>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    let mut scripts: VecDeque<_> = scripts.into_iter().collect();
    let server = tokio::spawn(async move {
        while let Some(script) = scripts.pop_front() {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(play(stream, script));
        }
        drop(listener);
    });
    let events = Arc::new(Events::default());
    let observer = Arc::clone(&events) as Arc<dyn Observe>;
    Running {
        client: Http1Client::new(Dialer::new(&uri, None).unwrap(), observer),
        events,
        _server: server,
    }
}

async fn play(mut stream: TcpStream, script: Vec<Step>) {
    let mut bytes = Vec::new();
    for step in script {
        match step {
            Read | ReadHead => {
                let end = loop {
                    if let Some(at) = bytes.windows(4).position(|it| it == b"\r\n\r\n") {
                        break at + 4;
                    }
                    if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                };
                if matches!(step, ReadHead) {
                    continue;
                }
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head
                    .lines()
                    .find_map(|it| it.strip_prefix("content-length: "));
                let end = end + length.map_or(0, |it| it.parse().unwrap());
                while bytes.len() < end {
                    if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                bytes.drain(..end);
            }
            Write(text) => drop(stream.write_all(text.as_bytes()).await),
            Wait(until) => until.notified().await,
            Reset => {
                let _ = stream.set_zero_linger();
                return;
            }
        }
    }
    // Stays open until the client closes: no test passes because the server has closed.
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

impl Running {
    /// Sends a request and reads its answer.
    async fn send(&self, body: Bytes) -> Result<String, SendError> {
        self.send_with(body, Reuse::Shared).await
    }

    async fn send_with(&self, body: Bytes, reuse: Reuse) -> Result<String, SendError> {
        let head = Request::post("/").header("host", "a").body(()).unwrap();
        let exchange = async {
            let mut answer = self.client.send(&head, body, reuse).await?;
            let mut text = Vec::new();
            while let Some(data) = answer.body.data().await {
                match data {
                    Ok(data) => text.extend_from_slice(&data),
                    Err(error) => return Err(SendError::Broken(error)),
                }
            }
            drop(answer);
            Ok(String::from_utf8(text).unwrap())
        };
        tokio::time::timeout(Duration::from_secs(10), exchange)
            .await
            .unwrap()
    }

    fn count(&self, event: ConnectionEvent) -> usize {
        self.events
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|it| **it == event)
            .count()
    }

    /// Checks how often connections were opened and reused.
    fn check(&self, opened: usize, reused: usize, what: &str) {
        let counts = (
            self.count(ConnectionEvent::Opened),
            self.count(ConnectionEvent::Reused),
        );
        assert_eq!(counts, (opened, reused), "{what}: {:?}", self.events);
    }

    async fn until(&self, event: ConnectionEvent) {
        let reached = async {
            while self.count(event) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reached)
            .await
            .unwrap();
    }
}

fn body() -> Bytes {
    Bytes::from_static(b"{}")
}

/// More than all socket buffers hold, so that it is not sent before the server reads it.
fn large() -> Bytes {
    Bytes::from(vec![b' '; 32 << 20])
}

/// The first answer passes, and the next request has a connection of its own.
async fn check_not_reused(what: &str, answer: &'static str, expected: &str) {
    let running = start([vec![Read, Write(answer)], vec![Read, Write(OK)]]).await;
    assert_eq!(running.send(body()).await.unwrap(), expected, "{what}");
    assert_eq!(running.send(body()).await.unwrap(), "ok", "{what}");
    running.check(2, 0, what);
}

/// The first answer is refused, and the next request has a connection of its own.
async fn check_refused(what: &str, answer: &'static str) {
    let running = start([vec![Read, Write(answer)], vec![Read, Write(OK)]]).await;
    let error = running.send(body()).await.unwrap_err();
    let is_final = matches!(error, SendError::Broken(_) | SendError::Ambiguous(_));
    assert!(is_final, "{what}: {error:?}");
    assert_eq!(running.send(body()).await.unwrap(), "ok", "{what}");
    running.check(2, 0, what);
}

#[tokio::test]
async fn complete_answers_share_a_connection() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let empty = "HTTP/1.1 204 x\r\n\r\n";
    let script = [OK, chunked, empty, OK].into_iter();
    let running = start([script.flat_map(|it| [Read, Write(it)]).collect()]).await;
    for expected in ["ok", "ok", "", "ok"] {
        assert_eq!(running.send(body()).await.unwrap(), expected);
    }
    running.check(1, 3, "four answers");
}

#[tokio::test]
async fn an_answer_whose_end_is_uncertain_ends_its_connection() {
    for (what, answer) in [
        (
            "closes",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
        ),
        (
            "an old version",
            "HTTP/1.0 200 OK\r\ncontent-length: 2\r\nconnection: keep-alive\r\n\r\nok",
        ),
        (
            "equal lengths",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok",
        ),
    ] {
        check_not_reused(what, answer, "ok").await;
    }
    check_not_reused(
        "a length of nothing",
        "HTTP/1.1 204 x\r\ncontent-length: 6\r\n\r\nsecret",
        "",
    )
    .await;
}

#[tokio::test]
async fn an_ambiguous_answer_is_refused() {
    for (what, answer) in [
        (
            "both framings",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "lengths that differ",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        ),
        (
            "a signed length",
            "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
        ),
        (
            "another coding",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "chunked twice",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "a chunk that lies",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n",
        ),
        (
            "another protocol",
            "HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: a\r\n\r\n",
        ),
        ("no HTTP", "hello\r\n\r\n"),
    ] {
        check_refused(what, answer).await;
    }
}

#[tokio::test]
async fn a_surplus_answer_reaches_no_other_request() {
    // In one write with the first answer: a length that is too short, and a second answer.
    for surplus in [
        concat!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", "x"),
        concat!(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecret"
        ),
    ] {
        let running = start([vec![Read, Write(surplus)], vec![Read, Write(OK)]]).await;
        for _ in 0..2 {
            assert_eq!(running.send(body()).await.unwrap(), "ok");
        }
        running.check(2, 0, surplus);
    }
}

#[tokio::test]
async fn an_answer_to_an_idle_connection_ends_it() {
    let go = Arc::new(Notify::new());
    let script = vec![Read, Write(OK), Wait(Arc::clone(&go)), Write(SECRET)];
    let running = start([script, vec![Read, Write(OK)]]).await;
    assert_eq!(running.send(body()).await.unwrap(), "ok");
    go.notify_one();
    running
        .until(ConnectionEvent::Closed(CloseCause::Unsolicited))
        .await;
    assert_eq!(running.send(body()).await.unwrap(), "ok");
    running.check(2, 0, "idle");
}

#[tokio::test]
async fn an_early_answer_over_a_kept_connection_is_refused() {
    let script = vec![Read, Write(OK), ReadHead, Write(SECRET)];
    let running = start([script, vec![Read, Write(OK)]]).await;
    assert_eq!(running.send(body()).await.unwrap(), "ok");
    let error = running.send(large()).await.unwrap_err();
    assert!(matches!(error, SendError::Early), "{error:?}");
    assert_eq!(running.send(body()).await.unwrap(), "ok");
    running.check(2, 1, "early");
}

#[tokio::test]
async fn an_early_answer_over_a_new_connection_passes_and_ends_it() {
    let too_large = "HTTP/1.1 413 x\r\ncontent-length: 2\r\n\r\nno";
    let running = start([vec![ReadHead, Write(too_large)], vec![Read, Write(OK)]]).await;
    assert_eq!(running.send(large()).await.unwrap(), "no");
    assert_eq!(running.send(body()).await.unwrap(), "ok");
    running.check(2, 0, "early");
}

#[tokio::test]
async fn informational_heads_end_the_connection_and_are_bounded() {
    for status in ["100 Continue", "103 Early Hints"] {
        let answer = format!("HTTP/1.1 {status}\r\n\r\n{OK}").leak();
        check_not_reused(status, answer, "ok").await;
    }
    let flood = "HTTP/1.1 103 x\r\n\r\n".repeat(100_000).leak();
    check_refused("a flood", flood).await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let long = format!(
        "HTTP/1.1 200 OK\r\na: {}\r\ncontent-length: 0\r\n\r\n",
        "a".repeat(40 << 10)
    );
    check_refused("long", long.leak()).await;
    let many = format!(
        "HTTP/1.1 200 OK\r\n{}content-length: 0\r\n\r\n",
        "a: b\r\n".repeat(64)
    );
    check_refused("many", many.leak()).await;
}

#[tokio::test]
async fn a_kept_connection_that_breaks_without_an_answer_is_an_error_of_its_own() {
    let running = start([vec![Read, Write(OK), Read, Reset]]).await;
    assert_eq!(running.send(body()).await.unwrap(), "ok");
    let error = running.send(body()).await.unwrap_err();
    assert!(matches!(error, SendError::ClosedKept(_)), "{error:?}");
    let running = start([vec![Read, Reset]]).await;
    let error = running.send(body()).await.unwrap_err();
    assert!(matches!(error, SendError::Closed(_)), "{error:?}");
}

#[tokio::test]
async fn a_part_of_an_answer_is_never_taken_for_no_answer() {
    for part in [
        "H",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 103 x\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no",
    ] {
        let first = vec![Read, Write(OK), Read, Write(part), Reset];
        let running = start([first]).await;
        assert_eq!(running.send(body()).await.unwrap(), "ok");
        let error = running.send(body()).await.unwrap_err();
        // A reset may overtake the bytes: then nothing was read.
        let is_right = matches!(error, SendError::Broken(_) | SendError::ClosedKept(_));
        assert!(is_right, "{part}: {error:?}");
        running.check(1, 1, part);
    }
}

#[tokio::test]
async fn a_request_that_is_left_closes_its_connection() {
    let running = start([vec![Read], vec![Read, Write(OK)]]).await;
    let head = Request::post("/").header("host", "a").body(()).unwrap();
    let sent = running.client.send(&head, body(), Reuse::Shared);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), sent)
            .await
            .is_err()
    );
    assert_eq!(running.send(body()).await.unwrap(), "ok");
    running.check(2, 0, "left");
}

#[tokio::test]
async fn a_body_that_is_not_read_ends_its_connection() {
    let running = start([vec![Read, Write(OK)], vec![Read, Write(OK)]]).await;
    let head = Request::post("/").header("host", "a").body(()).unwrap();
    let answer = running
        .client
        .send(&head, body(), Reuse::Shared)
        .await
        .unwrap();
    drop(answer);
    assert_eq!(
        running.count(ConnectionEvent::Closed(CloseCause::Unread)),
        1
    );
    assert_eq!(running.send(body()).await.unwrap(), "ok");
    running.check(2, 0, "unread");
}

#[tokio::test]
async fn a_probe_uses_no_kept_connection_and_leaves_none() {
    let running = start([
        vec![Read, Write(OK)],
        vec![Read, Write(OK)],
        vec![Read, Write(OK)],
    ])
    .await;
    running.send_with(body(), Reuse::Never).await.unwrap();
    running.send(body()).await.unwrap();
    running.send_with(body(), Reuse::Never).await.unwrap();
    running.check(3, 0, "probes");
}

/// A connection of a server that answers its first request a second time, once the next request was
/// sent. No rule can tell that answer from the next request's own.
fn answers_twice() -> Vec<Step> {
    vec![Read, Write(OK), Read, Write(SECRET)]
}

fn client(name: &str) -> Reuse {
    Reuse::OfClient(ClientKey::from_name(Some(name)))
}

#[tokio::test]
async fn a_second_answer_over_a_shared_connection_is_believed() {
    let running = start([answers_twice()]).await;
    assert_eq!(running.send(body()).await.unwrap(), "ok");
    assert_eq!(running.send(body()).await.unwrap(), "secret");
    running.check(1, 1, "shared");
}

#[tokio::test]
async fn a_second_answer_reaches_no_other_client_where_each_has_its_connections() {
    let running = start([answers_twice(), answers_twice()]).await;
    let send = |reuse| running.send_with(body(), reuse);
    assert_eq!(send(client("a")).await.unwrap(), "ok");
    assert_eq!(send(client("b")).await.unwrap(), "ok", "another's");
    running.check(2, 0, "two clients");
    // Each gets its own second answer, and nothing of the other's.
    assert_eq!(send(client("a")).await.unwrap(), "secret");
    assert_eq!(send(client("b")).await.unwrap(), "secret");
    running.check(2, 2, "the same clients");
}

#[tokio::test]
async fn a_connection_of_all_clients_is_not_one_clients_and_the_reverse() {
    let once = || vec![Read, Write(OK)];
    let running = start([once(), once()]).await;
    running.send_with(body(), client("a")).await.unwrap();
    running.send(body()).await.unwrap();
    running.check(2, 0, "both kinds");
}

#[tokio::test]
async fn a_second_answer_is_not_read_where_a_connection_carries_one_request() {
    let running = start([answers_twice(), answers_twice()]).await;
    for _ in 0..2 {
        let answer = running.send_with(body(), Reuse::Never).await;
        assert_eq!(answer.unwrap(), "ok");
    }
    running.check(2, 0, "one request each");
}

/// Many clients have no more idle connections together than one has.
#[tokio::test]
async fn connections_of_many_clients_are_bounded_together() {
    const CLIENTS: usize = 80;
    let running = start((0..CLIENTS).map(|_| vec![Read, Write(OK)])).await;
    for number in 0..CLIENTS {
        let reuse = client(&number.to_string());
        running.send_with(body(), reuse).await.unwrap();
    }
    let idle = CLIENTS
        - running.count(ConnectionEvent::Closed(CloseCause::Surplus))
        - running.count(ConnectionEvent::Closed(CloseCause::Idle));
    assert!(idle <= 64, "{:?}", running.events);
    running.check(CLIENTS, 0, "many clients");
}

#[tokio::test]
async fn a_failed_endpoint_keeps_no_idle_connection() {
    let running = start([vec![Read, Write(OK)], vec![Read, Write(OK)]]).await;
    running.send(body()).await.unwrap();
    running.client.close_idle();
    running.send(body()).await.unwrap();
    running.check(2, 0, "cleared");
}

/// A connection that ends without an answer was idle for too long only if it ends soon.
#[tokio::test]
async fn a_kept_connection_that_ends_late_has_failed_at_its_request() {
    let until = Arc::new(Notify::new());
    let late = vec![Read, Write(OK), Read, Wait(Arc::clone(&until)), Reset];
    let running = start([late]).await;
    running.send(body()).await.unwrap();
    let late = async {
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        until.notify_one();
    };
    let (answer, ()) = tokio::join!(running.send(body()), late);
    assert!(matches!(answer, Err(SendError::Closed(_))), "{answer:?}");
}

/// The time for which it may be idle begins when the end of the answer arrived.
#[tokio::test]
async fn a_slow_reader_makes_no_connection_younger() {
    let running = start([vec![Read, Write(OK)], vec![Read, Write(OK)]]).await;
    let head = Request::post("/").header("host", "a").body(()).unwrap();
    let mut answer = running
        .client
        .send(&head, body(), Reuse::Shared)
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    while answer.body.data().await.is_some() {}
    drop(answer);
    assert_eq!(
        running.count(ConnectionEvent::Closed(CloseCause::Idle)),
        1,
        "{:?}",
        running.events
    );
    running.send(body()).await.unwrap();
    running.check(2, 0, "a slow reader");
}

#[tokio::test]
async fn a_caller_that_leaves_is_counted() {
    let until = Arc::new(Notify::new());
    let running = start([vec![Read, Wait(until)]]).await;
    let sent = tokio::time::timeout(Duration::from_millis(50), running.send(body()));
    sent.await.unwrap_err();
    assert_eq!(
        running.count(ConnectionEvent::Closed(CloseCause::Unread)),
        1
    );
}

/// Tasks that read the end of an unused answer are in no request's bounds.
#[tokio::test]
async fn few_unused_answers_are_read_at_the_same_time() {
    let scripts =
        (0..100).map(|_| vec![Read, Write("HTTP/1.1 500 x\r\ncontent-length: 2\r\n\r\n")]);
    let running = start(scripts).await;
    let head = Request::post("/").header("host", "a").body(()).unwrap();
    for _ in 0..100 {
        let answer = running.client.send(&head, body(), Reuse::Shared).await;
        let answer = answer.unwrap();
        let time = Duration::from_secs(5);
        answer.body.drain(answer.lease, 16, time);
    }
    let closed = running.count(ConnectionEvent::Closed(CloseCause::Unread));
    assert_eq!(closed, 100 - 64, "{:?}", running.events);
}
