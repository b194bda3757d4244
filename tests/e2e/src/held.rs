//! Requests that are begun and not ended, over one HTTP/2 connection. Each holds a permit (a slot
//! for a request in flight).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use tokio::net::TcpStream;

use crate::ask::{PATH, outcome};
use crate::policy;

/// Streams of one client, on a connection of their own.
pub struct Held {
    client: String,
    sender: SendRequest<Bytes>,
    streams: Vec<(ResponseFuture, SendStream<Bytes>)>,
}

impl Held {
    /// A connection without streams.
    ///
    /// # Panics
    ///
    /// If the gate accepts no connection.
    pub async fn none(gate: SocketAddr, client: &str) -> Self {
        let stream = TcpStream::connect(gate).await.unwrap();
        let (sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self {
            client: client.to_owned(),
            sender,
            streams: Vec::new(),
        }
    }

    /// Opens one more stream: its headers, and this much of its body.
    ///
    /// # Panics
    ///
    /// If the connection is gone.
    pub async fn begin(&mut self, body: &'static str, end: bool) {
        let request = http::Request::post(format!("http://g{PATH}"))
            .header("content-type", "application/json")
            .header("x-api-key", policy::key(&self.client))
            .body(())
            .unwrap();
        let mut ready = self.sender.clone().ready().await.unwrap();
        let (answer, mut rest) = ready.send_request(request, false).unwrap();
        if !body.is_empty() {
            rest.send_data(body.into(), end).unwrap();
        }
        self.streams.push((answer, rest));
    }

    /// Waits until the gate's filter has judged every stream that was begun or reset before. The
    /// gate reads a connection's frames in order. Envoy's own count of requests is no help: it
    /// changes before a filter sees the stream.
    ///
    /// # Panics
    ///
    /// If the connection is gone, or accepts no further request.
    pub async fn judged(&self) {
        let request = http::Request::get("http://g/nothing")
            .header("x-api-key", policy::key(&self.client))
            .body(())
            .unwrap();
        let mut ready = self.sender.clone().ready().await.unwrap();
        let (answer, _) = ready.send_request(request, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 404);
    }

    /// Resets every stream.
    pub fn reset(&mut self) {
        for (_, body) in &mut self.streams {
            body.send_reset(Reason::CANCEL);
        }
        self.streams.clear();
    }

    /// The streams themselves.
    pub fn take(&mut self) -> Vec<(ResponseFuture, SendStream<Bytes>)> {
        std::mem::take(&mut self.streams)
    }
}

/// How long a begun request holds its permit for certain: less than `timeout_ms` of each policy
/// whose permits are checked.
const MIN_PERMIT_TIME: Duration = Duration::from_millis(1_500);
/// How often a check begins again that took longer.
const ATTEMPTS: usize = 20;

/// Checks that a client has exactly so many permits. With all but one held, one more request
/// passes; with all held, none does; with all released, one does.
///
/// # Panics
///
/// If a permit is lost, or there is one too many.
pub async fn exact(gate: SocketAddr, client: &str, places: usize, what: &str) {
    for _ in 0..ATTEMPTS {
        let Some((all_but_one, all)) = outcomes_in_both_states(gate, client, places).await else {
            continue;
        };
        assert_eq!(all_but_one, ["ok"; 5], "{what}: all but one are held");
        assert_eq!(all, ["concurrency"; 5], "{what}: all are held");
        let seen = outcome(gate, client, &[]).await.unwrap();
        assert_eq!(seen, "ok", "{what}: none is held");
        return;
    }
    panic!("{what}: each time, the requests took longer than permits are held");
}

/// The outcomes of requests while all permits but one are held, and while all are. None if that
/// took so long that a busy gate may have ended the requests that hold them.
async fn outcomes_in_both_states(
    gate: SocketAddr,
    client: &str,
    places: usize,
) -> Option<(Vec<String>, Vec<String>)> {
    let began = Instant::now();
    let mut requests = Held::none(gate, client).await;
    for _ in 0..places - 1 {
        requests.begin("", false).await;
    }
    requests.judged().await;
    let all_but_one = outcomes(gate, client).await;
    requests.begin("", false).await;
    requests.judged().await;
    let all = outcomes(gate, client).await;
    let took = began.elapsed();
    requests.reset();
    requests.judged().await;
    (took < MIN_PERMIT_TIME).then_some((all_but_one, all))
}

/// The outcomes of five requests, one after the other.
async fn outcomes(gate: SocketAddr, client: &str) -> Vec<String> {
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        outcomes.push(outcome(gate, client, &[]).await.unwrap());
    }
    outcomes
}
