//! Tokens on a real Envoy: the host reserves them before a request goes on, and gives unused ones
//! back when its answer has ended. Over HTTP/1.1 and HTTP/2, whole and in pieces. What clients and
//! backends write into fields of the gate's names reaches no one.

use tensorgate_client::http1::{self, Framing};
use tensorgate_client::stand_in::openai::Act;
use tensorgate_client::{Fields, Reply, grpc};
use tensorgate_policy_compiler::raw::Policy;
use tensorgate_tests::stack::threads::until_active;
use tensorgate_tests::{Lease, Stack, ask, policy};
use tensorgate_wire::context::RELEASE_TRAILER;

const CHAT: &str = "/v1/chat/completions";
/// The quota of a window.
const HELD: u64 = 210;
/// The most tokens that a request can use: 64 for a conversation, 16 for its message, its two
/// bytes, and 16 generated ones.
const RESERVED: u64 = 98;
/// The tokens that an answer of the stand-in reports as used: whole, and in pieces.
const USED: [u64; 2] = [6, 7];

/// The vectors' policy, with 210 tokens a month for a client, and with answers in pieces allowed.
fn tokens() -> Policy {
    let mut policy = policy::vectors_policy("openai.json");
    let grant = policy.grants.iter_mut();
    let mut grant = grant.filter(|grant| grant.name.as_deref() == Some("tokens"));
    let operations = &mut grant.next().unwrap().operations;
    *operations = vec!["infer".to_owned(), "stream".to_owned()];
    let model = policy.models.get_mut("plain").unwrap();
    let chat = model.openai.as_mut().unwrap().chat.as_mut().unwrap();
    chat.stream = true;
    policy
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

/// A client's request: two tokens of text, with further header fields (`more`), and over HTTP/2
/// with `trailers` too.
#[derive(Clone)]
struct Request {
    client: &'static str,
    version: Version,
    stream: bool,
    more: Fields,
    trailers: Option<Fields>,
}

impl Request {
    fn new(client: &'static str, version: Version, stream: bool) -> Self {
        Self {
            client,
            version,
            stream,
            more: Vec::new(),
            trailers: None,
        }
    }

    async fn send(self, stack: &Stack) -> Reply {
        let body = serde_json::json!({
            "model": "plain", "stream": self.stream, "messages": [{"role": "user", "content": "hi"}]
        });
        let body = body.to_string().into_bytes();
        let mut fields = ask::fields(&policy::key(self.client));
        fields.extend(self.more);
        match self.version {
            Version::Http1 => {
                let framing = Framing::Length;
                http1::send(stack.gate, "POST", CHAT, &fields, &body, framing)
                    .await
                    .unwrap()
            }
            Version::Http2 => {
                let uri = format!("http://{}{CHAT}", stack.gate);
                let mut request = http::Request::post(uri).body(()).unwrap();
                *request.headers_mut() = grpc::map(&fields).unwrap();
                grpc::send_as_is(stack.gate, request, &[body], self.trailers.as_ref())
                    .await
                    .unwrap()
            }
        }
    }

    /// Sends it, reads its whole answer, and checks that no field of ours is in it.
    async fn answer_without_our_fields(self, stack: &Stack) -> Reply {
        let reply = self.send(stack).await;
        let ours = |(name, _): &&(Vec<u8>, Vec<u8>)| name.starts_with(b"x-tensorgate");
        let told = reply.headers.iter().chain(&reply.trailers).find(ours);
        assert_eq!(told, None, "the client is told what is between us");
        reply
    }

    /// How many times it passes until it is rejected.
    async fn passes(self, stack: &Stack) -> u64 {
        for passed in 0..HELD {
            let reply = self.clone().answer_without_our_fields(stack).await;
            if reply.status != 200 {
                let text = String::from_utf8_lossy(&reply.body);
                assert!(text.contains("cost-exceeded"), "{reply:?}");
                return passed;
            }
        }
        panic!("it is never refused");
    }
}

/// How many requests pass when each uses so many of its reserved tokens.
const fn settled(used: u64) -> u64 {
    1 + (HELD - RESERVED) / used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unused_tokens_are_refunded() {
    for chain in ["gate", "auth,rate-limit,tensor-guard"] {
        let stack = Lease::with_chain(tokens(), chain).await;
        for (client, version, stream) in [
            ("cost-9", Version::Http1, false),
            ("cost-10", Version::Http2, false),
            ("cost-13", Version::Http1, true),
            ("cost-14", Version::Http2, true),
        ] {
            let passed = Request::new(client, version, stream).passes(&stack).await;
            let expected = settled(USED[usize::from(stream)]);
            assert_eq!(passed, expected, "{chain}: {version:?}, {stream}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_reserved_during_an_answer_and_stay_charged_if_it_breaks_off() {
    let stack = Lease::of(tokens()).await;
    let piece = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"a\"}}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}\n\n";
    for (client, version, act) in [
        ("cost-9", Version::Http1, Act::Hang),
        ("cost-10", Version::Http2, Act::Hang),
        (
            "cost-13",
            Version::Http1,
            Act::EventsAndHang(format!("{piece}{usage}")),
        ),
        (
            "cost-14",
            Version::Http2,
            Act::EventsAndHang(format!("{piece}{usage}")),
        ),
    ] {
        let stream = !matches!(act, Act::Hang);
        stack.backend.openai.set(act);
        let request = Request::new(client, version, stream);
        {
            let first = request.clone().send(&stack);
            let second = request.clone().send(&stack);
            let both = async { tokio::join!(first, second) };
            let third = async {
                until_active(&stack, 2).await;
                ask::met("both are there", || stack.backend.openai.open() >= 2).await;
                request.clone().send(&stack).await
            };
            tokio::select! {
                early = both => panic!("they were answered: {early:?}"),
                reply = third => assert_eq!(reply.status, 429, "{reply:?}"),
            }
            // Both clients leave.
        }
        until_active(&stack, 0).await;
        stack.backend.openai.set(Act::Answer);
        assert_eq!(request.passes(&stack).await, 0, "{version:?}, {stream}");
    }
    // An answer that its server ends too early, although it has reported its usage.
    let request = Request::new("cost-5", Version::Http2, true);
    let act = Act::Events(format!("{piece}{usage}"));
    stack.backend.openai.set(act);
    assert_eq!(request.passes(&stack).await, HELD / RESERVED);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_of_the_gates_names_from_outside_reach_no_one() {
    let stack = Lease::of(tokens()).await;
    let (name, value) = (RELEASE_TRAILER, "host.v11;1.0.0;AAAA");
    let field = || vec![(name.as_bytes().to_vec(), value.as_bytes().to_vec())];
    // Clients: such a head is ambiguous, and such trailers do not go on.
    for version in [Version::Http1, Version::Http2] {
        let request = Request {
            more: field(),
            ..Request::new("cost-9", version, false)
        };
        let reply = request.send(&stack).await;
        let text = String::from_utf8_lossy(&reply.body);
        assert!(text.contains("ambiguous-request"), "{reply:?}");
    }
    let request = Request {
        trailers: Some(field()),
        ..Request::new("cost-10", Version::Http2, false)
    };
    let reply = request.answer_without_our_fields(&stack).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    // Backends: in the head, in a trailer and in the answer.
    let answer = serde_json::json!({
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}],
        name: value,
    });
    let events = format!(
        "data: {}\n\ndata: [DONE]\n\n",
        serde_json::json!({"choices": [{"index": 0, "delta": {"content": "a"}}], name: value})
    );
    for (client, stream, kind, text) in [
        ("cost-13", false, "application/json", answer.to_string()),
        ("cost-14", true, "text/event-stream", events),
    ] {
        let raw = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{name}: {value}\r\ntransfer-encoding: chunked\r\ntrailer: {name}\r\n\r\n\
             {:x}\r\n{text}\r\n0\r\n{name}: {value}\r\n\r\n",
            text.len()
        );
        stack.backend.openai.set(Act::Raw(raw));
        let request = Request::new(client, Version::Http2, stream);
        let reply = request.answer_without_our_fields(&stack).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        assert!(!String::from_utf8_lossy(&reply.body).contains(name));
    }
}
