//! The load generator: a fixed number of connections with one request at a time on each.
//! Connections stay open over all rounds of a target. Every target uses the same client, so the
//! client's cost is the same for all.

mod connection;
pub mod open_loop;

use std::cell::Cell;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::outcome::{Outcome, failure};
use crate::tls::Trust;
use connection::Connection;

/// The address that requests are sent to.
#[derive(Clone, Debug)]
pub enum Address {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A TCP port with TLS.
    Tls(SocketAddr, Trust),
    /// A Unix socket.
    Unix(PathBuf),
}

/// The protocol on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.1, keep-alive.
    One,
    /// HTTP/2 without TLS.
    Two,
}

/// The expected response. Anything else is a failure of the bench and counts in no figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// This status.
    Status(u16),
    /// Status 200 and `grpc-status` 0.
    Grpc,
}

/// One request.
#[derive(Clone, Debug)]
pub struct Shot {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
}

impl Shot {
    /// A request with a body, or a GET if the body is empty.
    pub fn new(method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Outcome<Self> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(
                HeaderName::from_bytes(name.as_bytes())?,
                HeaderValue::from_str(value)?,
            );
        }
        Ok(Self {
            method,
            path: path.to_owned(),
            headers: map,
            body,
        })
    }

    /// Length of the body, bytes.
    pub const fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// The same request with a compressed body.
    pub fn compressed(mut self) -> Outcome<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&self.body)?;
        self.body = Bytes::from(encoder.finish()?);
        self.with("content-encoding", "gzip")
    }

    /// The same request with one header field added or replaced.
    pub fn with(mut self, name: &str, value: &str) -> Outcome<Self> {
        self.headers.insert(
            HeaderName::from_bytes(name.as_bytes())?,
            HeaderValue::from_str(value)?,
        );
        Ok(self)
    }
}

/// The result of a volley.
#[derive(Clone, Debug, Default)]
pub struct Volley {
    /// Time from sending to the last byte of the response, microseconds, sorted.
    pub latencies_us: Vec<f64>,
    /// Number of unexpected responses.
    pub failed: usize,
    /// Description of the first unexpected response.
    pub first_failure: Option<String>,
    /// Duration of the volley.
    pub wall: Duration,
}

impl Volley {
    /// A quantile of the latencies, microseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        crate::figures::quantile(&self.latencies_us, share)
    }
}

/// A client with its connections.
pub struct Client {
    address: Address,
    http: Http,
    expect: Expect,
    connections: Vec<Option<Connection>>,
}

impl Client {
    /// A client with this many connections, which are opened on first use.
    pub fn new(address: Address, http: Http, expect: Expect, connections: usize) -> Self {
        Self {
            address,
            http,
            expect,
            connections: std::iter::repeat_with(|| None).take(connections).collect(),
        }
    }

    /// The address that it sends to.
    pub const fn address(&self) -> &Address {
        &self.address
    }

    /// Sends `count` requests, taken in turn from `shots`, beginning at `first`. Fails if any
    /// response is unexpected.
    pub async fn volley(&mut self, shots: &[Shot], first: usize, count: usize) -> Outcome<Volley> {
        let volley = self.volley_with_failures(shots, first, count).await?;
        match &volley.first_failure {
            None => Ok(volley),
            Some(text) => failure(format!(
                "{} of {count} requests had an unexpected response; the first: {text}",
                volley.failed
            )),
        }
    }

    /// Sends a volley and counts unexpected responses instead of failing.
    pub async fn volley_with_failures(
        &mut self,
        shots: &[Shot],
        first: usize,
        count: usize,
    ) -> Outcome<Volley> {
        for connection in &mut self.connections {
            if connection.as_ref().is_none_or(Connection::is_closed) {
                *connection = Some(Connection::open(&self.address, self.http).await?);
            }
        }
        let next = Rc::new(Cell::new(0_usize));
        let started = Instant::now();
        let expect = self.expect;
        let sequences = self.connections.iter_mut().flatten().map(|connection| {
            let next = Rc::clone(&next);
            async move {
                let mut own = Volley::default();
                loop {
                    let turn = next.get();
                    if turn >= count {
                        return own;
                    }
                    next.set(turn.saturating_add(1));
                    let at = first
                        .saturating_add(turn)
                        .checked_rem(shots.len())
                        .unwrap_or_default();
                    let Some(shot) = shots.get(at) else {
                        return own;
                    };
                    let began = Instant::now();
                    match connection.ask(shot, expect).await {
                        Ok(()) => own
                            .latencies_us
                            .push(began.elapsed().as_secs_f64() * 1_000_000.0),
                        Err(error) => {
                            own.failed = own.failed.saturating_add(1);
                            own.first_failure.get_or_insert_with(|| error.to_string());
                            if connection.is_closed() {
                                return own;
                            }
                        }
                    }
                }
            }
        });
        let mut all = Volley::default();
        for own in together(sequences).await {
            all.latencies_us.extend(own.latencies_us);
            all.failed = all.failed.saturating_add(own.failed);
            all.first_failure = all.first_failure.or(own.first_failure);
        }
        all.wall = started.elapsed();
        all.latencies_us.sort_by(f64::total_cmp);
        Ok(all)
    }
}

/// Runs futures concurrently on this thread.
async fn together<F: Future<Output = Volley>>(futures: impl Iterator<Item = F>) -> Vec<Volley> {
    let mut running: Vec<_> = futures.map(|future| Some(Box::pin(future))).collect();
    let mut done = Vec::with_capacity(running.len());
    std::future::poll_fn(move |context| {
        for slot in &mut running {
            if let Some(future) = slot
                && let std::task::Poll::Ready(volley) = future.as_mut().poll(context)
            {
                done.push(volley);
                *slot = None;
            }
        }
        if running.iter().all(Option::is_none) {
            std::task::Poll::Ready(std::mem::take(&mut done))
        } else {
            std::task::Poll::Pending
        }
    })
    .await
}
