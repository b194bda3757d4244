//! Every kind of backend × every way in which one fails. The caller gets the right answer, and no
//! detail of the backend. Nothing is left behind at either end. A healthy server beside it gets the
//! requests, and everything works again as soon as the fault is over.

use std::time::Duration;

use serde_json::json;
use tensorgate_client::stand_in::{http_json as own, openai as stand_in};
use tensorgate_wire::proto::ModelInferResponse;
use tonic::Code;

use crate::support;
use crate::support::served;
use support::backend::{Act, Backend};
use support::{Answer, PATIENCE, Running, start, until};

/// A fault of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Slow,
    Hung,
    Dying,
    Busy,
    Rejecting,
    Failing,
    WrongShape,
    TooLarge,
    NotANumber,
    WrongId,
}

/// What a caller gets. And how many of twenty requests may fail at a backend when one of its two
/// servers has the fault.
const TABLE: [(Fault, u16, &str, usize); 10] = [
    (Fault::Slow, 200, "", 0),
    (Fault::Hung, 504, "backend-timeout", 1),
    (Fault::Dying, 503, "backend-unavailable", 1),
    (Fault::Busy, 503, "backend-unavailable", 1),
    (Fault::Rejecting, 400, "backend-rejected", 1),
    (Fault::Failing, 502, "backend-fault", 1),
    (Fault::WrongShape, 502, "backend-fault", 1),
    (Fault::TooLarge, 502, "backend-fault", 1),
    (Fault::NotANumber, 502, "backend-fault", 1),
    (Fault::WrongId, 502, "backend-fault", 1),
];

/// The kinds of remote backend.
const KINDS: [&str; 5] = [
    "open-inference",
    "tf-serving",
    "torchserve",
    "openai",
    "http-json",
];
/// The answer of servers with their own JSON, and of TorchServe's handlers.
const GOOD: &str = r#"{"y":[1.0],"z":[1]}"#;

/// Whether a kind of server can have a fault. In their own JSON, and in TorchServe's protocol,
/// answers do not name their model.
fn has(kind: &str, fault: Fault) -> bool {
    fault != Fault::WrongId || !["torchserve", "http-json"].contains(&kind)
}

/// Whether a kind's servers have a process that can die, with persistent connections.
fn dies(kind: &str) -> bool {
    ["open-inference", "tf-serving", "torchserve"].contains(&kind)
}

/// The timeout for a server that hangs.
const PATIENCE_MS: u64 = 1_500;
/// What no caller may read.
const SECRETS: [&str; 4] = ["127.0.0.1", "secret", "at-backend", "contract"];

/// An address whose port no other process gets while it is closed.
fn own_address() -> std::net::SocketAddr {
    ([127, 0, 0, 1], tensorgate_client::run::free_port()).into()
}

/// A server of one kind.
enum Server {
    Inference(Backend),
    Served(served::Served, bool),
    OpenAi(stand_in::OpenAi),
    Own(own::Server),
}

impl Server {
    async fn start(kind: &str) -> Self {
        match kind {
            "openai" => Self::OpenAi(stand_in::OpenAi::start(["vec-at-backend".to_owned()]).await),
            "http-json" => Self::Own(own::Server::start(own(200, GOOD)).await),
            "tf-serving" => Self::Served(served::Served::start_at(own_address()), false),
            "torchserve" => Self::Served(served::Served::start_at(own_address()), true),
            _ => Self::Inference(Backend::start_at(Act::Answer, own_address())),
        }
    }

    fn uri(&self) -> String {
        match self {
            Self::Inference(server) => server.uri(),
            Self::Served(server, _) => server.uri(),
            Self::Own(server) => server.uri(),
            Self::OpenAi(server) => format!("http://{}", server.address),
        }
    }

    /// Requests that it is working on.
    fn inside(&self) -> usize {
        match self {
            Self::Inference(server) => server.inside(),
            Self::Served(server, _) => server.inside(),
            Self::Own(server) => server.open(),
            Self::OpenAi(server) => server.open(),
        }
    }

    /// Whether it has received a request, if it receives none before its first health check.
    fn was_asked(&self) -> bool {
        match self {
            Self::Inference(server) => server.begun() > 0,
            Self::Served(server, _) => server.begun() > 0,
            Self::OpenAi(_) | Self::Own(_) => true,
        }
    }

    fn fail(&self, fault: Fault) {
        match self {
            Self::Inference(server) => server.set(inference(fault)),
            Self::Served(server, torch) => server.set(by_grpc(fault, *torch)),
            Self::Own(server) => server.set(own_json(fault)),
            Self::OpenAi(server) => server.set(openai(fault)),
        }
    }

    /// Dies during the call in progress and restarts, if its kind has a process that can die.
    async fn die(&mut self) {
        let address = match self {
            Self::Inference(server) => server.address,
            Self::Served(server, _) => server.address,
            Self::OpenAi(_) | Self::Own(_) => return,
        };
        match self {
            Self::Inference(server) => server.die(),
            Self::Served(server, _) => server.die(),
            Self::OpenAi(_) | Self::Own(_) => {}
        }
        until("the port is free", || {
            std::net::TcpListener::bind(address).is_ok()
        })
        .await;
        match self {
            Self::Inference(server) => *server = Backend::start_at(Act::Answer, address),
            Self::Served(server, _) => *server = served::Served::start_at(address),
            Self::OpenAi(_) | Self::Own(_) => {}
        }
    }

    fn cure(&self) {
        match self {
            Self::Inference(server) => server.set(Act::Answer),
            Self::Served(server, _) => server.set(served::Act::Answer),
            Self::Own(server) => server.set(own(200, GOOD)),
            Self::OpenAi(server) => server.set(stand_in::Act::Answer),
        }
    }
}

fn inference(fault: Fault) -> Act {
    type Change = fn(&mut ModelInferResponse);
    let change: Change = match fault {
        Fault::Slow => return Act::Slow(Duration::from_millis(50)),
        Fault::Hung | Fault::Dying => return Act::Never,
        Fault::Busy => return Act::Refuse(Code::Unavailable),
        Fault::Rejecting => return Act::Refuse(Code::InvalidArgument),
        Fault::Failing => return Act::Refuse(Code::Internal),
        Fault::WrongShape => |answer| answer.outputs[0].shape = vec![3],
        Fault::TooLarge => |answer| answer.raw_output_contents[0] = vec![0; 1 << 20].into(),
        Fault::NotANumber => {
            |answer| answer.raw_output_contents[0] = f32::NAN.to_le_bytes().to_vec().into()
        }
        Fault::WrongId => |answer| answer.id = "another".to_owned(),
    };
    Act::Change(Box::new(change))
}

fn own(status: u16, text: &str) -> own::Act {
    own::Act::Say(status, text.to_owned())
}

/// A wrong answer of a server with its own JSON.
fn wrong_json(fault: Fault) -> String {
    match fault {
        Fault::WrongShape => format!(r#"{{"y":{:?},"z":[1]}}"#, [1; 9]),
        Fault::TooLarge => format!(r#"{{"y":[{}1],"z":[1]}}"#, "1,".repeat(1 << 19)),
        Fault::NotANumber => r#"{"y":[NaN],"z":[1]}"#.to_owned(),
        _ => unreachable!("{fault:?} is no answer"),
    }
}

fn own_json(fault: Fault) -> own::Act {
    match fault {
        Fault::Slow => own::Act::Slow(Duration::from_millis(50), GOOD.to_owned()),
        Fault::Hung => own::Act::Hang,
        Fault::Dying => own::Act::BreakOff,
        Fault::Busy => own(503, "secret"),
        Fault::Rejecting => own(400, "secret"),
        Fault::Failing => own(500, "secret"),
        _ => own(200, &wrong_json(fault)),
    }
}

fn by_grpc(fault: Fault, torch: bool) -> served::Act {
    use served::{Act, PredictResponse, TensorProto, TensorShape};
    type Change = fn(&mut PredictResponse);
    fn y(answer: &mut PredictResponse) -> &mut TensorProto {
        answer.outputs.get_mut("y").unwrap()
    }
    let change: Change = match fault {
        Fault::Slow => return Act::Slow(Duration::from_millis(50)),
        Fault::Hung | Fault::Dying => return Act::Never,
        Fault::Busy => return Act::Refuse(Code::Unavailable),
        Fault::Rejecting => return Act::Refuse(Code::InvalidArgument),
        Fault::Failing => return Act::Refuse(Code::Internal),
        _ if torch => return Act::Prediction(wrong_json(fault).into_bytes()),
        // TensorFlow itself would repeat the last element.
        Fault::WrongShape => |answer| y(answer).tensor_shape = Some(TensorShape::of(&[3])),
        Fault::TooLarge => |answer| y(answer).float_val = vec![0.0; 1 << 20],
        Fault::NotANumber => |answer| y(answer).float_val = vec![f32::NAN],
        Fault::WrongId => |answer| {
            if let Some(spec) = &mut answer.model_spec {
                spec.name = "another".to_owned();
            }
        },
    };
    Act::Predicted(Box::new(change))
}

fn openai(fault: Fault) -> stand_in::Act {
    use stand_in::Act;
    let vectors = |vectors: &[(u32, &str)]| {
        let vector = |(index, numbers): &(u32, &str)| {
            format!(r#"{{"object":"embedding","index":{index},"embedding":[{numbers}]}}"#)
        };
        let data: Vec<_> = vectors.iter().map(vector).collect();
        let usage = r#"{"prompt_tokens":5,"total_tokens":5}"#;
        let data = data.join(",");
        Act::Say(
            200,
            format!(r#"{{"object":"list","model":"x","data":[{data}],"usage":{usage}}}"#),
        )
    };
    match fault {
        Fault::Slow => Act::Slow(Duration::from_millis(50)),
        Fault::Hung => Act::Hang,
        Fault::Dying => Act::Break,
        Fault::Busy => Act::Say(503, "secret".to_owned()),
        Fault::Rejecting => Act::Say(400, "secret".to_owned()),
        Fault::Failing => Act::Say(500, "secret".to_owned()),
        Fault::WrongShape => vectors(&[(0, "1"), (1, "1")]),
        Fault::TooLarge => vectors(&[(0, &"1,".repeat(1 << 19))]),
        Fault::NotANumber => vectors(&[(0, "1e999")]),
        Fault::WrongId => vectors(&[(1, "1")]),
    }
}

/// A host with one model, `vec`, at these servers.
async fn host(kind: &str, servers: &[&Server], timeout_ms: u64) -> Running {
    let uris: Vec<_> = servers.iter().map(|server| server.uri()).collect();
    let outliers = json!({"consecutive_failures": 1, "base_ejection_s": 3600});
    let settings = json!({"kind": kind, "endpoints": uris, "timeout_ms": timeout_ms, "outlier_detection": outliers});
    let mut policy = support::policy("", json!({}), settings);
    if kind == "openai" {
        policy["models"]["vec"] = json!({
            "backend": "b", "backend_model": "vec-at-backend", "versions": ["7"], "protocols": ["openai"],
            "openai": {"embeddings": {"max_item_bytes": 100}, "max_answer_bytes": 4096}
        });
    }
    if ["tf-serving", "torchserve", "http-json"].contains(&kind) {
        policy["models"]["vec"]["parameters"] = json!({});
    }
    if kind == "http-json" {
        policy["models"]["vec"]["json"] =
            json!({"route": "/classify", "inputs": {"x": "/x"}, "outputs": {"y": "/y", "z": "/z"}});
    }
    let running = start(policy).await;
    running.ready().await;
    for server in servers {
        match server {
            Server::Inference(server) => {
                until("each was looked at", || server.looked() >= 1).await;
            }
            Server::Served(server, _) => {
                until("each was looked at", || server.looked() >= 1).await;
            }
            Server::OpenAi(_) | Server::Own(_) => {}
        }
    }
    running
}

async fn ask(kind: &str, running: &Running) -> Answer {
    if kind == "openai" {
        let body = json!({"model": "vec", "input": "a"}).to_string();
        return running.gate.call("POST", "/v1/embeddings", body).await;
    }
    running.gate.infer(&[1.0]).await
}

/// Sends a request to a server with this fault.
async fn ask_failing(kind: &str, running: &Running, server: &mut Server, fault: Fault) -> Answer {
    server.fail(fault);
    let dying = async {
        if fault == Fault::Dying && dies(kind) {
            until("the call is there", || server.inside() == 1).await;
            server.die().await;
        }
    };
    tokio::join!(ask(kind, running), dying).0
}

fn verdict(answer: &Answer) -> (u16, String) {
    let reason = match answer.status {
        200 => String::new(),
        _ => answer.reason(),
    };
    (answer.status, reason)
}

/// Waits until all resources of the requests are released.
async fn left(running: &Running, server: &Server) {
    let gauge = "tensorgate_host_backend_in_flight{backend=\"b\"} 0\n";
    until("no place is held", || running.metrics().contains(gauge)).await;
    until("the server works on nothing", || server.inside() == 0).await;
}

#[tokio::test]
async fn every_fault_of_every_backend_has_its_answer_and_releases_all_resources() {
    for kind in KINDS {
        for (fault, status, reason, _) in TABLE {
            if !has(kind, fault) {
                continue;
            }
            let timeout_ms = if fault == Fault::Hung {
                PATIENCE_MS
            } else {
                20_000
            };
            let mut server = Server::start(kind).await;
            let running = host(kind, &[&server], timeout_ms).await;
            let answer = ask_failing(kind, &running, &mut server, fault).await;
            assert_eq!(
                verdict(&answer),
                (status, reason.to_owned()),
                "{kind} {fault:?}: {answer:?}"
            );
            let told = String::from_utf8(answer.body.to_vec()).unwrap();
            for secret in SECRETS {
                assert!(!told.contains(secret), "{kind} {fault:?}: {told}");
            }
            left(&running, &server).await;
            // The only server is never ejected. One that was gone is probed first.
            server.cure();
            running.ready().await;
            let answer = ask(kind, &running).await;
            assert_eq!(answer.status, 200, "{kind} {fault:?}, cured: {answer:?}");
            running.stop().await;
        }
    }
}

#[tokio::test]
async fn a_healthy_server_beside_a_failing_one_gets_the_requests() {
    for kind in KINDS {
        for (fault, _, _, most) in TABLE {
            // Another test covers dying servers: here one would have to die each time.
            if !has(kind, fault) || (fault == Fault::Dying && dies(kind)) {
                continue;
            }
            let timeout_ms = if fault == Fault::Hung {
                PATIENCE_MS
            } else {
                20_000
            };
            let (failing, good) = (Server::start(kind).await, Server::start(kind).await);
            let running = host(kind, &[&failing, &good], timeout_ms).await;
            // While one of them has no probe result, the other gets all requests.
            let asking = async {
                while !(failing.was_asked() && good.was_asked()) {
                    assert_eq!(ask(kind, &running).await.status, 200);
                }
            };
            tokio::time::timeout(PATIENCE, asking).await.unwrap();
            failing.fail(fault);
            let mut refused = Vec::new();
            for _ in 0..20 {
                let answer = ask(kind, &running).await;
                if answer.status != 200 {
                    refused.push(answer);
                }
            }
            assert!(
                refused.len() <= most,
                "{kind} {fault:?}: {} of 20 refused, {:?}",
                refused.len(),
                refused.last()
            );
            left(&running, &failing).await;
            running.stop().await;
        }
    }
}

#[tokio::test]
async fn a_caller_that_leaves_ends_its_call_at_every_kind_of_backend() {
    for kind in KINDS {
        let server = Server::start(kind).await;
        let running = host(kind, &[&server], 20_000).await;
        server.fail(Fault::Hung);
        tokio::select! {
            answer = ask(kind, &running) => assert_eq!(answer.status, 0, "there is no response"),
            () = until("the call is there", || server.inside() == 1) => {}
        }
        left(&running, &server).await;
        server.cure();
        assert_eq!(ask(kind, &running).await.status, 200, "{kind}");
        running.stop().await;
    }
}
