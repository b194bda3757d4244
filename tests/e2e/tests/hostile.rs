//! Hostile handlers behind the whole gate: each breaks its own bound, its caller is told calmly, the log says which bound it was, and
//! a neighbour's requests are answered all the while.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::net::SocketAddr;

use tensorgate_client::Reply;
use tensorgate_client::http1::{self, Framing};
use tensorgate_policy::raw::{Accepts, ByteSize, Chain, Handler, Policy};
use tensorgate_tests::{Stack, ask, policy};

/// A handler's file and what the host's log must say of its calls.
const HOSTILE: [(&str, &str); 3] = [
    ("hostile_loop", "fuel"),
    ("hostile_memory_bomb", "memory"),
    ("hostile_wrong_shape", "breaks the contract: shape"),
];

/// Calls of each hostile handler, and of the neighbour while they run.
const CALLS: usize = 4;
const NEIGHBOURS: usize = 24;

/// The plain model, and beside it, behind each hostile handler, one that wants an image of what the plain one takes.
fn besieged() -> Policy {
    let mut policy = policy::vectors_policy("raw.json");
    let inputs = policy.models.get("vec").unwrap().inputs.clone();
    let images = policy.models.get("digits-png").unwrap().clone();
    for (name, _) in HOSTILE {
        let handler = Handler {
            component: Some(format!("{name}.wasm")),
            sha256: None,
            fuel: Some(50_000_000),
            memory_bytes: Some(ByteSize(8 << 20)),
            timeout_ms: Some(5_000),
            ..Handler::default()
        };
        policy.handlers.insert(name.to_owned(), handler);
        let mut model = images.clone();
        model.preprocess = Some(Chain(vec![name.to_owned()]));
        model.accepts = Some(Accepts {
            inputs: inputs.clone(),
            raw: None,
        });
        policy.models.insert(name.to_owned(), model);
        for grant in &mut policy.grants {
            grant.models.push(name.to_owned());
        }
    }
    policy
}

async fn call(gate: SocketAddr, model: &str) -> Reply {
    let path = format!("/v2/models/{model}/infer");
    let fields = ask::fields(&policy::key("scorer"));
    http1::send(
        gate,
        "POST",
        &path,
        &fields,
        ask::GOOD.as_bytes(),
        Framing::Length,
    )
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_handlers_are_contained_while_a_neighbour_is_answered() {
    let stack = Stack::start("hostile", besieged()).await;
    let gate = stack.gate;
    let attacks: Vec<_> = HOSTILE
        .into_iter()
        .flat_map(|(name, _)| [name; CALLS])
        .map(|name| tokio::spawn(async move { (name, call(gate, name).await) }))
        .collect();
    for n in 0..NEIGHBOURS {
        let reply = call(gate, "vec").await;
        assert_eq!(reply.status, 200, "neighbour {n}: {reply:?}");
    }
    for attack in attacks {
        let (name, reply) = attack.await.unwrap();
        assert_eq!(reply.status, 500, "{name}: {reply:?}");
        assert_eq!(reply.reason().as_deref(), Some("handler-fault"), "{name}");
        let said = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(!said.contains("hostile"), "{name}: {said}");
    }
    let log = stack.log("host.log");
    for (name, cause) in HOSTILE {
        let told = log
            .lines()
            .any(|line| line.contains(name) && line.contains(cause));
        assert!(told, "{name}: the log does not say {cause:?}:\n{log}");
    }
    assert_eq!(
        stack.backend.seen().len(),
        NEIGHBOURS,
        "nothing of a hostile handler reached the backend"
    );
}
