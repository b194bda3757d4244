//! A host that is killed under load, several times. Every request that it had answered has one line
//! in its audit log, with that answer. The log's chain is intact, and the next host continues it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tensorgate_audit::files::Paths;
use tensorgate_audit::verify::verify;
use tensorgate_wire::context::{Context, HEADER};
use tokio::net::UnixStream;

use crate::support;
use crate::support::spawned;
use spawned::Spawned;
use support::backend::{Act, Backend};
use support::{GENERATION, INFER, context, folder, infer_body, key, policy, until};

/// Clients that send one request after another.
const CLIENTS: usize = 8;
/// How often the host is killed, and how many requests it answers before each.
const KILLS: usize = 3;
const BEFORE: usize = 60;

/// The answers that clients got, by request id.
type Answers = BTreeMap<String, u16>;

/// One request over a connection of its own; nothing if there is no response.
async fn ask(socket: &Path, id: &str, x: f32) -> Option<u16> {
    let stream = UnixStream::connect(socket).await.ok()?;
    let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.ok()?;
    let connection = tokio::spawn(connection);
    let context = Context {
        request_id: id.to_owned(),
        ..context("POST", INFER)
    };
    let request = Request::post(INFER)
        .header("host", "tensorgate")
        .header("x-request-id", id)
        .header("content-type", "application/json")
        .header(HEADER, context.sign(&key()))
        .body(Full::new(Bytes::from(infer_body(&[x]))));
    let response = sender.send_request(request.unwrap()).await.ok()?;
    let status = response.status().as_u16();
    let whole = response.into_body().collect().await;
    connection.abort();
    // A client that has read only the head has not got an answer.
    whole.ok().map(|_| status)
}

/// Sends requests until the host is gone. Every second one is a request that the host rejects.
async fn client(socket: PathBuf, number: usize, answered: Arc<AtomicUsize>) -> (Answers, usize) {
    let (mut answers, mut unanswered) = (Answers::new(), 0);
    for turn in 0_usize.. {
        if answered.load(Ordering::SeqCst) == usize::MAX {
            break;
        }
        let id = format!("8f1a2b3c-0000-4000-8000-{number:04}{turn:08}");
        let x = if turn % 2 == 0 { 1.0 } else { 1_000.0 };
        match ask(&socket, &id, x).await {
            Some(status) => {
                answers.insert(id, status);
                // The last one stops all clients: its mark stays.
                let count = |count: usize| (count != usize::MAX).then(|| count + 1);
                let _ = answered.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count);
            }
            None => {
                unanswered += 1;
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        }
    }
    (answers, unanswered)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_of_a_killed_host_is_in_its_log_and_the_next_host_continues_it() {
    let backend = Backend::start(Act::Answer);
    let there = folder();
    for name in ["root", "run"] {
        std::fs::create_dir(there.join(name)).unwrap();
    }
    Spawned::bundle(
        &there,
        GENERATION,
        &policy(&backend.uri(), json!({}), json!({})),
    );
    let socket = there.join("run/host.sock");
    let answered = Arc::new(AtomicUsize::new(0));
    let mut hosts = Vec::new();
    let start = || {
        let mut host = Spawned::start(there.clone(), "best-effort");
        host.line("tensorgate-host is ready");
        // Its log is drained, as a service manager would.
        let mut lines = host.take_log();
        std::thread::spawn(move || while lines.next().is_some_and(|line| line.is_ok()) {});
        host
    };
    hosts.push(start());
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(socket.clone(), number, Arc::clone(&answered))))
        .collect();
    for kill in 1..=KILLS + 1 {
        let enough = answered.load(Ordering::SeqCst) + BEFORE;
        until("requests are answered", || {
            answered.load(Ordering::SeqCst) >= enough
        })
        .await;
        if kill <= KILLS {
            let host = hosts.last_mut().unwrap();
            host.child.kill().unwrap();
            host.child.wait().unwrap();
            hosts.push(start());
        }
    }
    answered.store(usize::MAX, Ordering::SeqCst);
    let (mut answers, mut unanswered) = (Answers::new(), 0);
    for client in clients {
        let (more, none) = client.await.unwrap();
        answers.extend(more);
        unanswered += none;
    }
    // The last host, too: its answers are not only in its memory.
    let host = hosts.last_mut().unwrap();
    host.child.kill().unwrap();
    host.child.wait().unwrap();

    let log = there.join("run/audit/decisions.jsonl");
    let text = std::fs::read_to_string(&log).unwrap();
    let mut told: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let (mut opened, mut torn) = (0, 0);
    for line in text.lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            torn += 1;
            continue;
        };
        if line["type"] == "open" {
            opened += 1;
        }
        if line["type"] == "decision" {
            let id = line["request_id"].as_str().unwrap_or_default().to_owned();
            let status = line["status"].as_u64().unwrap();
            told.entry(id).or_default().push(status);
        }
    }
    assert!(torn <= 1, "the last host's last line at most: {torn}");
    assert_eq!(opened, KILLS + 1, "each host goes on with the same log");
    let good = answers.values().filter(|status| **status == 200).count();
    println!(
        "{} answered, {good} of them well, {unanswered} not, {} on lines",
        answers.len(),
        told.len()
    );
    assert!(good > BEFORE && answers.len() - good > BEFORE, "both kinds");
    for (id, status) in &answers {
        assert_eq!(
            told.get(id).map(Vec::as_slice),
            Some(&[u64::from(*status)][..]),
            "{id}"
        );
    }
    // The chain covers complete lines. A killed host may leave half a line, which the next one cuts
    // off.
    hosts.push(start());
    let last = hosts.last_mut().unwrap();
    last.comes_to(200).await;
    last.child.kill().unwrap();
    last.child.wait().unwrap();
    let report = verify(&Paths::new(&log), None).unwrap();
    assert!(
        report.faults.is_empty() && report.more_faults == 0,
        "{report:?}"
    );
}
