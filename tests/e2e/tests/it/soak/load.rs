//! Sends requests one after the other, as many at once as a kind has. Each is sent as soon as the
//! one before is answered. And the count of their outcomes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use tensorgate_client::grpc::{self, Call};
use tensorgate_client::{ClientError, Open, Reply, http1};
use tensorgate_tests::streams::{Streamed, messages};
use tensorgate_tests::{ask, policy};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";
/// Calls at once over one HTTP/2 connection.
const MULTIPLEXED: usize = 4;
/// The pause of a client that does not wait for answers. Without it that client would open all
/// connections that are allowed, and take all of the proxy's CPU time.
const GOES_AWAY_EVERY: Duration = Duration::from_millis(10);
/// How many wrong answers are shown whole.
const SHOWN: usize = 5;

/// One request, or one message of a stream.
#[derive(Clone)]
pub struct Ask {
    /// The bytes that are sent: HTTP/1.1 whole, or a message in its frame.
    pub bytes: Vec<u8>,
    /// The expected outcome, apart from those that any request may have.
    pub expected: &'static str,
}

/// How a kind's requests are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// On connections that stay open.
    Http1,
    /// Several at once on connections that stay open.
    Grpc,
    /// All of them as one stream of inferences, and then another such stream.
    Stream,
    /// By a client that goes away, each time at another point.
    Cancelled,
}

/// Requests of one kind.
pub struct Kind {
    pub name: &'static str,
    pub way: Way,
    pub at_once: usize,
    pub asks: Vec<Ask>,
    /// Outcomes that any of them may have, beside `overloaded`.
    pub also: &'static [&'static str],
}

impl Kind {
    /// Starts sending them.
    pub fn start(self, gate: SocketAddr, told: &Arc<Told>, load: &mut JoinSet<()>) {
        let kind = Arc::new(self);
        let tasks = match kind.way {
            Way::Grpc => kind.at_once / MULTIPLEXED,
            Way::Http1 | Way::Stream | Way::Cancelled => kind.at_once,
        };
        for number in 0..tasks {
            let (kind, told) = (Arc::clone(&kind), Arc::clone(told));
            load.spawn(async move {
                match kind.way {
                    Way::Http1 => kind.http1(gate, &told, number).await,
                    Way::Grpc => kind.grpc(gate, &told).await,
                    Way::Stream => kind.streams(gate, &told).await,
                    Way::Cancelled => kind.cancelled(gate, &told, number).await,
                }
            });
        }
    }

    async fn http1(&self, gate: SocketAddr, told: &Told, first: usize) {
        let mut kept: Option<TcpStream> = None;
        for ask in self.asks.iter().cycle().skip(first) {
            let mut stream = match kept.take() {
                Some(stream) => stream,
                None => TcpStream::connect(gate).await.unwrap(),
            };
            let reply = http1::on(&mut stream, &ask.bytes).await;
            let stays = |reply: &Reply| {
                let word = reply.header("connection").unwrap_or_default();
                !word.eq_ignore_ascii_case("close")
            };
            if reply.as_ref().is_ok_and(stays) {
                kept = Some(stream);
            }
            told.tell(self, ask, &outcome(&reply), || format!("{reply:?}"));
        }
    }

    async fn grpc(&self, gate: SocketAddr, told: &Told) {
        let mut client = connect(gate).await;
        loop {
            for ask in &self.asks {
                let call = call(&ask.bytes);
                let calls = (0..MULTIPLEXED).map(|_| {
                    let (client, call) = (client.clone(), call.clone());
                    async move { grpc::on(client, &call).await }
                });
                let replies = calls.collect::<JoinSet<_>>().join_all().await;
                for reply in &replies {
                    told.tell(self, ask, &outcome(reply), || format!("{reply:?}"));
                }
                if replies.iter().any(Result::is_err) {
                    client = connect(gate).await;
                }
            }
        }
    }

    async fn streams(&self, gate: SocketAddr, told: &Told) {
        let bytes: Vec<u8> = self.asks.iter().flat_map(|ask| ask.bytes.clone()).collect();
        loop {
            let fields = call(b"").fields;
            let reply = async {
                let mut stream = Open::new(gate, STREAM, &fields).await?;
                stream.send(&bytes, true).await;
                stream.ended().await
            };
            let reply = reply.await;
            let answers = reply.as_ref().ok().and_then(|it| messages(&it.body).ok());
            let answers = answers.unwrap_or_default();
            let whole = answers.len() == self.asks.len();
            for (number, ask) in self.asks.iter().enumerate() {
                let outcome = match answers.get(number) {
                    Some(answer) if whole => Streamed::outcome(answer),
                    // Rejected as a whole, or broken off.
                    _ => outcome(&reply),
                };
                told.tell(self, ask, &outcome, || format!("{reply:?}: {answers:?}"));
            }
        }
    }

    /// Goes away within the head, within the body, or after the whole request: by closing, by a
    /// reset, or in the middle of a stream.
    async fn cancelled(&self, gate: SocketAddr, told: &Told, first: usize) {
        for (number, ask) in self.asks.iter().cycle().enumerate() {
            match (number + first) % 6 {
                cut @ 0..=2 => {
                    let mut stream = TcpStream::connect(gate).await.unwrap();
                    let bytes = ask.bytes.len();
                    let end = [bytes / 3, bytes - 10, bytes][cut];
                    // A connection that the other side has closed meanwhile accepts no more.
                    let _ = stream.write_all(&ask.bytes[..end]).await;
                }
                cut @ 3..=4 => {
                    let mut ready = connect(gate).await.ready().await.unwrap();
                    let request = http::Request::post(format!("http://g{}", ask::PATH))
                        .header("content-type", "application/json")
                        .header("x-api-key", policy::key("scorer"))
                        .body(())
                        .unwrap();
                    let (_, mut body) = ready.send_request(request, false).unwrap();
                    body.send_data(ask::VALID.into(), cut == 4).unwrap();
                    // The frames are sent before the reset.
                    let _ = ready.ready().await;
                    body.send_reset(h2::Reason::CANCEL);
                }
                _ => {
                    let fields = call(b"").fields;
                    let mut stream = Open::new(gate, STREAM, &fields).await.unwrap();
                    stream
                        .send(&grpc::frame(&ask::message("x")).repeat(3), false)
                        .await;
                    stream.reset();
                }
            }
            told.tell(self, ask, "gone", String::new);
            tokio::time::sleep(GOES_AWAY_EVERY).await;
        }
    }
}

async fn connect(gate: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(gate).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn call(frame: &[u8]) -> Call {
    Call {
        path: INFER.into(),
        fields: vec![(b"x-api-key".to_vec(), policy::key("scorer").into_bytes())],
        pieces: vec![frame.to_vec()],
        trailers: None,
    }
}

/// `ok`, a rejection's reason, or any other outcome.
fn outcome(reply: &Result<Reply, ClientError>) -> String {
    let reply = match reply {
        Ok(reply) => reply,
        Err(error) => return format!("no reply: {error}"),
    };
    match (reply.status, reply.grpc_status()) {
        (200, None | Some(0)) => "ok".to_owned(),
        (status, code) => reply.reason().unwrap_or_else(|| match code {
            Some(code) => format!("grpc-status {code}"),
            None => format!("status {status}"),
        }),
    }
}

/// The outcomes of requests.
pub struct Told {
    counts: Mutex<BTreeMap<(&'static str, String), u64>>,
    /// Outcomes that no table lists, in full.
    wrong: Mutex<Vec<String>>,
}

impl Told {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            counts: Mutex::default(),
            wrong: Mutex::default(),
        })
    }

    fn tell(&self, kind: &Kind, ask: &Ask, outcome: &str, whole: impl Fn() -> String) {
        let may =
            outcome == ask.expected || outcome == "overloaded" || kind.also.contains(&outcome);
        if !may {
            let mut wrong = self.wrong.lock().unwrap();
            let shown = wrong.len() < SHOWN;
            let said = if shown { whole() } else { String::new() };
            wrong.push(format!(
                "{}: {outcome}, not {}: {said}",
                kind.name, ask.expected
            ));
        }
        let key = (kind.name, outcome.to_owned());
        *self.counts.lock().unwrap().entry(key).or_default() += 1;
    }

    /// How many requests had that outcome.
    pub fn count(&self, wanted: &str) -> u64 {
        let counts = self.counts.lock().unwrap();
        let those = counts.iter().filter(|((_, outcome), _)| outcome == wanted);
        those.map(|(_, count)| count).sum()
    }

    /// The state in a few words.
    pub fn line(&self) -> String {
        let all: u64 = self.counts.lock().unwrap().values().sum();
        let (ok, overloaded) = (self.count("ok"), self.count("overloaded"));
        let wrong = self.wrong.lock().unwrap().len();
        format!("{all:>9} sent {ok:>9} ok {overloaded:>9} overloaded {wrong:>4} wrong")
    }

    /// Each kind's outcomes, one line each.
    pub fn table(&self) -> String {
        let counts = self.counts.lock().unwrap();
        let lines = counts
            .iter()
            .map(|((kind, outcome), count)| format!("{kind:<10} {outcome:<24} {count:>10}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// # Panics
    ///
    /// If any outcome is not in its kind's table.
    pub fn keeps_to_the_table(&self) {
        let wrong = self.wrong.lock().unwrap();
        assert!(
            wrong.is_empty(),
            "{} answers: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(SHOWN)]
        );
    }
}
