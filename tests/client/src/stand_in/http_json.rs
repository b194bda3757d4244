//! A stand-in for a server with its own JSON, written by hand over sockets. The test chooses its
//! answers, and it records requests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test support: a failure here is a failed test and says where"
)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stand_in::{read, write};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How it answers a request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Answers with this status and body.
    Say(u16, String),
    /// The same after this time.
    Slow(Duration, String),
    /// Answers with a part of the declared length, and closes.
    BreakOff,
    /// Closes the connection without a byte of an answer.
    Close,
    /// Never answers.
    Hang,
}

/// A request as it was received.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and header fields, lower-cased.
    pub head: String,
    /// The body.
    pub text: String,
}

struct State {
    act: Act,
    ready: bool,
    asked: usize,
    seen: Vec<Seen>,
    open: usize,
}

/// A running stand-in; stops when dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Starts one.
    pub async fn start(act: Act) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), act).await
    }

    /// The same at an address of the test's choice.
    pub async fn start_at(address: SocketAddr, act: Act) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            act,
            ready: true,
            asked: 0,
            seen: Vec::new(),
            open: 0,
        }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            // Its connections end with the server.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            task,
        }
    }

    /// Its address as a policy writes it.
    pub fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how it answers from now on.
    pub fn set(&self, act: Act) {
        self.state.lock().unwrap().act = act;
    }

    /// Changes its readiness from now on.
    pub fn set_ready(&self, ready: bool) {
        self.state.lock().unwrap().ready = ready;
    }

    /// How often its readiness was requested.
    pub fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }

    /// Every request so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// Requests that are being answered.
    pub fn open(&self) -> usize {
        self.state.lock().unwrap().open
    }
}

impl Seen {
    /// The body as JSON.
    pub fn body(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut bytes = Vec::new();
    while let Some((head, body)) = read(&mut stream, &mut bytes).await {
        if !respond(&mut stream, (head, body), &state).await {
            return;
        }
    }
}

/// Responds to a request. Returns whether the connection can carry another one.
async fn respond(
    stream: &mut TcpStream,
    (head, body): (String, Vec<u8>),
    state: &Mutex<State>,
) -> bool {
    let Ok(text) = String::from_utf8(body) else {
        return false;
    };
    if head.starts_with("get /readyz ") {
        let ready = {
            let mut state = state.lock().unwrap();
            state.asked += 1;
            state.ready
        };
        write(stream, if ready { 200 } else { 503 }, "{}").await;
        return true;
    }
    let act = {
        let mut state = state.lock().unwrap();
        state.seen.push(Seen { head, text });
        state.open += 1;
        state.act.clone()
    };
    let is_kept = matches!(act, Act::Say(..) | Act::Slow(..));
    match act {
        Act::Say(status, text) => write(stream, status, &text).await,
        Act::Slow(time, text) => {
            tokio::time::sleep(time).await;
            write(stream, 200, &text).await;
        }
        Act::BreakOff => {
            let head =
                b"HTTP/1.1 200 x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
            drop(stream.write_all(head).await);
        }
        Act::Close => {}
        // Until the other side has closed.
        Act::Hang => drop(stream.read(&mut [0; 1]).await),
    }
    state.lock().unwrap().open -= 1;
    is_kept
}
