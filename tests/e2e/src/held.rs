//! Requests that are begun and not ended, over one HTTP/2 connection. Each holds a permit (a slot
//! for a request in flight).

use std::net::SocketAddr;

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

/// Checks that a client has exactly so many permits. With all but one held, one more request
/// passes; with all held, none does; with all released, one does.
///
/// # Panics
///
/// If a permit is lost, or there is one too many.
pub async fn exact(gate: SocketAddr, client: &str, places: usize, what: &str) {
    let mut held = Held::none(gate, client).await;
    for _ in 0..places - 1 {
        held.begin("", false).await;
    }
    held.judged().await;
    for _ in 0..5 {
        let seen = outcome(gate, client, &[]).await.unwrap();
        assert_eq!(seen, "ok", "{what}: all but one are held");
    }
    held.begin("", false).await;
    held.judged().await;
    for _ in 0..5 {
        let seen = outcome(gate, client, &[]).await.unwrap();
        assert_eq!(seen, "concurrency", "{what}: all are held");
    }
    held.reset();
    held.judged().await;
    let seen = outcome(gate, client, &[]).await.unwrap();
    assert_eq!(seen, "ok", "{what}: none is held");
}
