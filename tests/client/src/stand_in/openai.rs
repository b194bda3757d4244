//! A stand-in for a server of OpenAI's API, written by hand over sockets. It answers as such a
//! server would, or as a test chooses, and records requests.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "test support: a failure here is a failed test and says where"
)]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stand_in::{read, write};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How it answers a request.
#[derive(Clone, Debug, Default)]
pub enum Act {
    /// Answers as the API defines.
    #[default]
    Answer,
    /// Answers with this status and body.
    Say(u16, String),
    /// Answers with these events, as they are.
    Events(String),
    /// Answers with these events, and does not end.
    EventsAndHang(String),
    /// Answers with these bytes, including the head.
    Raw(String),
    /// Never answers.
    Hang,
    /// Answers after this time.
    Slow(Duration),
    /// Breaks the connection.
    Break,
}

/// A request as it was received.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Request line and header fields, lower-cased.
    pub head: String,
    /// The body.
    pub body: Value,
}

#[derive(Default)]
struct State {
    models: BTreeSet<String>,
    act: Act,
    /// The usage that its own whole answers report, if not the usual one.
    usage: Option<Value>,
    seen: Vec<Seen>,
    open: usize,
}

/// A running stand-in; stops when dropped.
pub struct OpenAi {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    server: tokio::task::JoinHandle<()>,
}

impl OpenAi {
    /// Starts one that serves these models.
    pub async fn start(models: impl IntoIterator<Item = String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            models: models.into_iter().collect(),
            ..State::default()
        }));
        let shared = Arc::clone(&state);
        let server = tokio::spawn(async move {
            // Its connections end with the server.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self {
            address,
            state,
            server,
        }
    }

    /// Changes how it answers from now on.
    pub fn set(&self, act: Act) {
        self.state.lock().unwrap().act = act;
    }

    /// How many tokens its own whole answers report from now on, one of them generated; `None`:
    /// they report nothing.
    pub fn count(&self, tokens: Option<u64>) {
        self.state.lock().unwrap().usage = Some(tokens.map_or(Value::Null, usage));
    }

    /// Every document so far, in order.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    /// Documents that are being answered.
    pub fn open(&self) -> usize {
        self.state.lock().unwrap().open
    }
}

impl Drop for OpenAi {
    fn drop(&mut self) {
        self.server.abort();
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
    let (act, models, usage) = {
        let state = state.lock().unwrap();
        (state.act.clone(), state.models.clone(), state.usage.clone())
    };
    if head.starts_with("get /v1/models ") {
        let data: Vec<_> = models.iter().map(|id| json!({"id": id})).collect();
        let list = json!({"object": "list", "data": data});
        write(stream, 200, &list.to_string()).await;
        return true;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    {
        let mut state = state.lock().unwrap();
        let (head, body) = (head.clone(), body.clone());
        state.seen.push(Seen { head, body });
        state.open += 1;
    }
    if let Act::Slow(time) = act {
        tokio::time::sleep(time).await;
    }
    let is_kept = !matches!(
        act,
        Act::EventsAndHang(_) | Act::Raw(_) | Act::Hang | Act::Break
    );
    match act {
        Act::Answer if body["stream"] == true => events(stream, &pieces(&body)).await,
        Act::Events(text) => events(stream, &text).await,
        Act::EventsAndHang(text) => {
            drop(stream.write_all(chunked(&text).as_bytes()).await);
            drop(stream.read(&mut [0; 1]).await);
        }
        Act::Answer | Act::Slow(_) => {
            let mut answer = answer(&head, &body);
            if let Some(usage) = usage {
                answer["usage"] = usage;
            }
            write(stream, 200, &answer.to_string()).await
        }
        Act::Say(status, text) => write(stream, status, &text).await,
        Act::Raw(text) => {
            drop(stream.write_all(text.as_bytes()).await);
            drop(stream.shutdown().await);
        }
        // Until the other side has closed.
        Act::Hang => drop(stream.read(&mut [0; 1]).await),
        Act::Break => {}
    }
    state.lock().unwrap().open -= 1;
    is_kept
}

/// An answer in pieces, without its last chunk.
fn chunked(text: &str) -> String {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\nserver: stand-in\r\ntransfer-encoding: chunked\r\n\r\n";
    // An empty chunk is the last one.
    let chunk = match text.len() {
        0 => String::new(),
        bytes => format!("{bytes:x}\r\n{text}\r\n"),
    };
    head.to_owned() + &chunk
}

async fn events(stream: &mut TcpStream, text: &str) {
    let answer = format!("{}0\r\n\r\n", chunked(text));
    drop(stream.write_all(answer.as_bytes()).await);
}

/// The usage of an answer of one token, or of none.
fn usage(tokens: u64) -> Value {
    let completion = tokens.min(1);
    json!({"prompt_tokens": tokens - completion, "completion_tokens": completion, "total_tokens": tokens})
}

/// An answer in pieces as such servers give it.
pub fn pieces(asked: &Value) -> String {
    let chunk = |choices: Value, usage: Value| {
        let chunk = json!({"id": "theirs-1", "object": "chat.completion.chunk", "created": 1_780_000_000, "model": asked["model"],
            "system_fingerprint": "their-build", "choices": choices, "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let piece = |delta: Value, reason: Value| {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": reason, "stop_reason": null});
        chunk(json!([choice]), Value::Null)
    };
    let counts = json!({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7});
    [
        piece(json!({"role": "assistant", "content": ""}), Value::Null),
        ": ping\n\n".to_owned(),
        piece(json!({"content": "hel"}), Value::Null),
        piece(json!({"content": "lo"}), json!("stop")),
        chunk(json!([]), counts),
        "data: [DONE]\n\n".to_owned(),
    ]
    .concat()
}

/// An answer as such servers give it, with what they add to the API.
pub fn answer(head: &str, asked: &Value) -> Value {
    let many = |name: &str| asked[name].as_array().map_or(1, Vec::len);
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6, "prompt_tokens_details": null});
    let around = |object: &str, choices: Vec<Value>| {
        json!({"id": "theirs-1", "object": object, "created": 1_780_000_000, "model": asked["model"],
            "system_fingerprint": "their-build", "choices": choices, "usage": usage, "kv_transfer_params": null})
    };
    let n = usize::try_from(asked["n"].as_u64().unwrap_or(1)).unwrap();
    if head.starts_with("post /v1/embeddings ") {
        let vector = match asked["encoding_format"].as_str() {
            Some("base64") => json!("AACAPwAAAEA="),
            _ => json!([1.0, 2.0]),
        };
        let data: Vec<_> = (0..many("input"))
            .map(|index| json!({"object": "embedding", "index": index, "embedding": vector}))
            .collect();
        json!({"id": "theirs-1", "object": "list", "model": asked["model"], "data": data,
            "usage": {"prompt_tokens": 5, "total_tokens": 5}})
    } else if head.starts_with("post /v1/completions ") {
        let choices = (0..many("prompt") * n)
            .map(|index| json!({"index": index, "text": "upon", "logprobs": null, "finish_reason": "stop", "stop_reason": null}))
            .collect();
        around("text_completion", choices)
    } else {
        let message = json!({"role": "assistant", "content": "hello", "reasoning_content": null, "tool_calls": []});
        let choices = (0..n)
            .map(|index| json!({"index": index, "message": message, "logprobs": null, "finish_reason": "stop"}))
            .collect();
        around("chat.completion", choices)
    }
}
