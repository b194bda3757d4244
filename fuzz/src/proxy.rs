//! Fuzz target: the gate in a proxy that calls back in any order, splits bodies anywhere and fails
//! any call.
//!
//! - There is at most one response, and nothing is forwarded after a rejection.
//! - A rejected request is never forwarded completely.
//! - A request that is forwarded to a host carries exactly one context of the gate's and none of a
//!   client's. Without a host it carries none.
//! - If the calls come in order, a request whose headers are forwarded first has its own body and
//!   no trailers, and a stream is forwarded unchanged, without a host in complete messages.
//! - Each input is run twice with different secrets. Log lines, properties, responses and forwarded
//!   data must be the same.

mod upstream;

use std::rc::Rc;

use libfuzzer_sys::arbitrary::{Result, Unstructured};
use tensorgate_filter_core::gate::Gate;
use tensorgate_filter_core::host::{
    Action, Field, Fields, HostFault, Level, LimitCallOutcome, Proxy, Shared, SharedStore, Verdict,
};
use tensorgate_filter_core::report::request_id::request_id;
use tensorgate_filter_core::root::{GateRoot, create_shared_state};
use tensorgate_identity::api_key::format_key;
use tensorgate_identity::{ConfirmationFault, Verifier, VerifyFault};
use tensorgate_in_memory_proxy::configuration;
use tensorgate_in_memory_proxy::{Limiter, Store};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::KeyMaterial;
use tensorgate_policy::{HeaderMode, Now};
use tensorgate_wire::Answer;
use tensorgate_wire::context::{HEADER, Key};

use upstream::{marked, unchanged};

use crate::support::{CONTEXT_KEY, KEYS, MAIN, NOW_UNIX_S, RATES, RAW, frame};

/// Keys of clients `scorer`, `reader` and `rate-1` in the vectors' policies. Each policy knows some
/// of them.
const CLIENT_KEYS: [&str; 3] = [KEYS[0], KEYS[1], "tg_JcF3NDuQ56QHz2eQO0oBseO5tXT1eukUp"];

/// The call that delivers a response of the rate-limit service.
const ANSWERED: u8 = 4;
/// The path of inference streams.
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// The context key of the second world.
const OTHER_CONTEXT_KEY: &str = "1f1e1d1c1b1a191817161514131211100f0e0d0c0b0a09080706050403020100";

/// ID of every call to a service: a request has at most one in flight.
const TOKEN: u32 = 1;

/// Gates and the secrets that they know. There are two worlds, equal except for the secrets. A
/// fuzzer sees compared strings and may put either secret into the caller's part of a request, so
/// what a gate outputs must be the same in both worlds.
struct World {
    /// One configured gate for each policy, with or without a host behind it. Its store holds what
    /// a run changes.
    roots: Vec<Rc<GateRoot>>,
    keys: [String; 3],
    context_key: &'static str,
}

thread_local! {
    static WORLDS: [World; 2] = [
        World::new(CLIENT_KEYS.map(str::to_owned), CONTEXT_KEY),
        World::new([[1; 20], [2; 20], [3; 20]].map(|random| format_key(&random)), OTHER_CONTEXT_KEY),
    ];
}

impl World {
    fn new(keys: [String; 3], context_key: &'static str) -> Self {
        let shared = shared_rates();
        // Without a host, messages of streams cannot wait for limits that gateways share.
        let without_streams = shared.replace("\"infer\", \"stream\"", "\"infer\"");
        let policies = [
            (MAIN, true),
            (RATES, true),
            (RAW, true),
            (shared.as_str(), true),
            (MAIN, false),
            (RATES, false),
            (RAW, false),
            (without_streams.as_str(), false),
        ];
        let policies = policies.map(|(policy, has_host)| {
            let mut policy = policy.to_owned();
            for (known, key) in CLIENT_KEYS.iter().zip(&keys) {
                policy = policy.replace(&digest(known), &digest(key));
            }
            (policy, has_host)
        });
        let roots = ["hold", "forward"].into_iter().flat_map(|headers| {
            policies.iter().map(move |(policy, has_host)| {
                let modes = format!(r#""headers": "{headers}", "host": {has_host}"#);
                let bundle =
                    format!(r#"{{"generation": "0123456789abcdef", {modes}, "policy": {policy}}}"#);
                let (root, _) = GateRoot::configure(
                    configuration(bundle).expect("a policy of the vectors"),
                    Some(context_key),
                )
                .expect("a policy of the vectors");
                Rc::new(root)
            })
        });
        let roots = roots.collect();
        Self {
            roots,
            keys,
            context_key,
        }
    }
}

/// The policy with rates, with the first grant's limit shared by gateways.
fn shared_rates() -> String {
    let service = r#""rate_limit_service": {"redis": {"url": "redis://127.0.0.1"}}, "grants""#;
    let shared = RATES.replacen("\"window_s\"", "\"scope\": \"global\", \"window_s\"", 1);
    shared.replacen("\"grants\"", service, 1)
}

fn digest(key: &str) -> String {
    tensorgate_identity::digest(key)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A proxy in which each call may fail.
struct Faulty {
    /// Which calls fail: one bit for each call, repeated.
    failing: u64,
    calls: u32,
    store: Store,
    headers: Vec<Field>,
    trailers: Vec<Field>,
    held: Vec<u8>,
    /// The current chunk of the response's body.
    answer_body: Vec<u8>,
    answers: usize,
    counted: usize,
    now: Now,
    entries: u64,
    /// The last request to the rate-limit service.
    asked: Vec<u8>,
    /// Number of times that the stream was resumed.
    resumed: usize,
    /// Log lines, properties and responses, in order.
    output: Vec<String>,
}

impl Faulty {
    fn call<T>(&mut self, call: &'static str, works: T) -> std::result::Result<T, HostFault> {
        let fails = self.failing >> (self.calls % 64) & 1 == 1;
        self.calls = self.calls.wrapping_add(1);
        if fails {
            Err(HostFault { call, status: 10 })
        } else {
            Ok(works)
        }
    }
}

impl SharedStore for Faulty {
    fn get(&mut self, key: &str) -> std::result::Result<Option<Shared>, HostFault> {
        let value = self.store.get(key);
        self.call("get_shared_data", value)?
    }

    fn swap(
        &mut self,
        key: &str,
        value: &[u8],
        token: u32,
    ) -> std::result::Result<bool, HostFault> {
        self.call("set_shared_data", ())?;
        self.store.swap(key, value, token)
    }

    fn put(&mut self, key: &str, value: &[u8]) -> std::result::Result<(), HostFault> {
        self.call("set_shared_data", ())?;
        self.store.put(key, value)
    }
}

impl Verifier for Faulty {
    /// The policies of this target have no tokens.
    fn verify(
        &mut self,
        _: &KeyMaterial,
        _: &[u8],
        _: &[u8],
    ) -> std::result::Result<bool, VerifyFault> {
        Err(VerifyFault("no signature is checked"))
    }
}

impl Proxy for Faulty {
    fn resume(&mut self) -> std::result::Result<(), HostFault> {
        self.call("continue_stream", ())?;
        self.resumed += 1;
        Ok(())
    }

    fn tick_soon(&mut self) {}

    fn request_headers(&mut self) -> std::result::Result<Fields, HostFault> {
        let headers = self.headers.iter().map(|(name, value)| (name, value));
        let headers = headers.collect();
        self.call("get_header_map_pairs", headers)
    }

    fn replace_request_headers(
        &mut self,
        fields: &[(&str, &str)],
    ) -> std::result::Result<(), HostFault> {
        self.call("set_header_map_pairs", ())?;
        self.headers = fields
            .iter()
            .map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()))
            .collect();
        Ok(())
    }

    fn set_request_header(
        &mut self,
        name: &str,
        value: &str,
    ) -> std::result::Result<(), HostFault> {
        self.call("replace_header_map_value", ())?;
        self.headers
            .retain(|(known, _)| known.as_slice() != name.as_bytes());
        self.headers
            .push((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        Ok(())
    }

    fn remove_request_header(&mut self, name: &str) -> std::result::Result<(), HostFault> {
        self.call("remove_header_map_value", ())?;
        self.headers
            .retain(|(known, _)| known.as_slice() != name.as_bytes());
        Ok(())
    }

    fn take_response_trailer(&mut self, _: &str) -> std::result::Result<Option<String>, HostFault> {
        self.call("get_header_map_value", None)
    }

    fn set_request_trailers(
        &mut self,
        fields: &[(&str, &str)],
    ) -> std::result::Result<(), HostFault> {
        let fields = fields.iter();
        let fields =
            fields.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        self.trailers = fields.collect();
        self.call("set_header_map_pairs", ())
    }

    fn request_body(
        &mut self,
        start: usize,
        max_bytes: usize,
    ) -> std::result::Result<Vec<u8>, HostFault> {
        let held = self.held.iter().skip(start);
        let body = held.take(max_bytes).copied().collect();
        self.call("get_buffer_bytes", body)
    }

    fn response_body(
        &mut self,
        start: usize,
        max_bytes: usize,
    ) -> std::result::Result<Vec<u8>, HostFault> {
        let body = self.answer_body.iter().skip(start);
        let body = body.take(max_bytes).copied().collect();
        self.call("get_buffer_bytes", body)
    }

    fn replace_request_body(&mut self, data: &[u8]) -> std::result::Result<(), HostFault> {
        self.held = data.to_vec();
        self.call("set_buffer_bytes", ())
    }

    fn respond(&mut self, answer: &Answer) -> std::result::Result<(), HostFault> {
        self.answers += 1;
        self.output.push(format!("{answer:?}"));
        self.call("send_local_response", ())
    }

    fn now(&mut self) -> std::result::Result<Now, HostFault> {
        let now = self.now;
        self.call("get_current_time", now)
    }

    fn source_address(&mut self) -> Option<String> {
        self.call("get_property", "127.0.0.1:50000".to_owned()).ok()
    }

    fn log(&mut self, _: Level, line: &str) {
        assert!(!line.contains('\n'), "one line: {line:?}");
        self.output.push(line.to_owned());
    }

    fn count(&mut self, _: Verdict) {
        self.counted += 1;
    }

    fn count_overload(&mut self, _: OverloadCause) {}

    fn count_shadow(&mut self, _: &str) {}

    fn call_rate_limit_service(
        &mut self,
        question: &[u8],
        _: u64,
    ) -> std::result::Result<u32, HostFault> {
        self.output.push(format!("{question:?}"));
        self.asked = question.to_vec();
        self.call("grpc_call", TOKEN)
    }

    fn count_limit_call(&mut self, _: LimitCallOutcome) {}

    fn count_unconfirmed(&mut self, _: ConfirmationFault) {}

    fn property(&mut self, _: &[&str]) -> std::result::Result<Option<Vec<u8>>, HostFault> {
        self.call("get_property", None)
    }

    fn set_property(&mut self, name: &str, value: &str) -> std::result::Result<(), HostFault> {
        self.output.push(format!("{name}: {value}"));
        self.call("set_property", ())
    }

    fn new_request_id(&mut self, _: Option<&Key>) -> String {
        // An id computed with the key would make every output depend on it.
        request_id(None, 0, 1)
    }

    fn next_sequence_number(&mut self) -> Option<String> {
        self.entries += 1;
        let entry = format!("{:016x}.{}", 0, self.entries);
        self.call("next_sequence_number", entry).ok()
    }
}

/// Runs one input.
pub fn run(data: &[u8]) {
    WORLDS.with(|worlds| {
        // Logs name a credential by a part of its digest.
        let names: Vec<String> = worlds
            .iter()
            .flat_map(|world| &world.keys)
            .filter_map(|key| digest(key).get(..16).map(str::to_owned))
            .collect();
        let [one, other] = worlds.each_ref().map(|world| {
            let mut output = Vec::new();
            // Running out of input is not a finding.
            let _ = play(&mut Unstructured::new(data), world, &mut output);
            for line in &mut output {
                for name in &names {
                    *line = line.replace(name, "(a key)");
                }
            }
            output
        });
        assert_eq!(one, other, "the output depends on a secret");
    });
}

fn play(data: &mut Unstructured<'_>, world: &World, output: &mut Vec<String>) -> Result<()> {
    let root = Rc::clone(data.choose(&world.roots)?);
    let mut store = Store::default();
    let now = Now {
        unix_s: NOW_UNIX_S,
        monotonic_ns: 0,
    };
    create_shared_state(&mut store, &root, now).expect("a store that works");
    let mut proxy = Faulty {
        // Most runs have a proxy without failures.
        failing: if data.ratio(3, 4)? {
            0
        } else {
            data.arbitrary()?
        },
        calls: 0,
        store,
        headers: Vec::new(),
        trailers: Vec::new(),
        held: Vec::new(),
        answer_body: Vec::new(),
        answers: 0,
        counted: 0,
        now: Now {
            unix_s: NOW_UNIX_S,
            monotonic_ns: data.arbitrary::<u32>()?.into(),
        },
        entries: 0,
        asked: Vec::new(),
        resumed: 0,
        output: Vec::new(),
    };
    let outcome = calls(data, world, root, &mut proxy);
    output.append(&mut proxy.output);
    outcome
}

fn calls(
    data: &mut Unstructured<'_>,
    world: &World,
    root: Rc<GateRoot>,
    proxy: &mut Faulty,
) -> Result<()> {
    let mut gate = Gate::new(Rc::clone(&root));
    let mut forwarded = false;
    let (headers, body) = request(data, &world.keys)?;
    let path = headers.iter().find(|(name, _)| name == b":path");
    let streams = path.is_some_and(|(_, path)| path == STREAM.as_bytes());
    let (mut sent, mut delivered) = (Vec::new(), Vec::new());
    let (mut ended, mut complete) = (false, false);
    // Whether the head was forwarded before the end of the request.
    let mut is_early = false;
    let forwards = root.headers() == HeaderMode::Forward;
    let context_key = root.has_host().then_some(world.context_key);
    proxy.headers = headers;
    let mut rest = body.as_slice();
    // Mostly in order, otherwise in any order.
    let ordered = data.ratio(7, 8)?;
    for turn in 0..data.int_in_range(1..=8_usize)? {
        // A response may come while a stream is sent.
        if streams && forwarded && data.arbitrary()? {
            proxy.answer_body = data.arbitrary::<&[u8]>()?.to_vec();
            let bytes = proxy.answer_body.len();
            gate.on_response_body(proxy, bytes);
        }
        // The rate-limit service may respond at any time.
        let kind = if gate.has_pending_call() && data.arbitrary()? {
            ANSWERED
        } else if !ordered {
            data.int_in_range(0..=3_u8)?
        } else if turn == 0 {
            0
        } else {
            data.int_in_range(1..=3)?
        };
        let last = kind != ANSWERED && data.arbitrary()?;
        let refused = proxy.answers > 0;
        let action = match kind {
            ANSWERED => {
                let answer = match data.int_in_range(0..=3_u8)? {
                    0 => Err(data.arbitrary()?),
                    1 => Ok(data.arbitrary::<&[u8]>()?.to_vec()),
                    _ => Limiter::default().answer(root.policy(), &proxy.asked, proxy.now),
                };
                let before = proxy.resumed;
                gate.on_rate_limit_response(proxy, TOKEN, answer);
                if proxy.resumed > before {
                    Action::Continue
                } else {
                    Action::Pause
                }
            }
            0 => gate.on_request_headers(proxy, last),
            3 => {
                if !ended {
                    proxy.trailers = vec![(b"x-trailer".to_vec(), b"1".to_vec())];
                }
                gate.on_request_trailers(proxy)
            }
            _ => {
                let take = data.int_in_range(0..=rest.len())?;
                let take = if last { rest.len() } else { take };
                let (piece, after) = rest.split_at(take);
                rest = after;
                // No proxy has data that came after the end of a stream.
                if !ended {
                    proxy.held.extend_from_slice(piece);
                    delivered.extend_from_slice(piece);
                }
                let held_bytes = proxy.held.len();
                gate.on_request_body(proxy, held_bytes, last)
            }
        };
        if refused {
            assert_eq!(action, Action::Pause, "continued after a response");
        }
        // After the end of a stream, only an answer of the rate-limit service releases held data.
        let releases = kind == ANSWERED || !ended;
        if action == Action::Continue && forwarded && !complete && releases {
            sent.append(&mut proxy.held);
        }
        ended |= last || kind == 3;
        if action == Action::Continue && !forwarded {
            forwarded = true;
            is_early = !ended;
            marked(&proxy.headers, context_key);
            // The signature of the context depends on a secret. `marked` has checked it.
            for (name, value) in &proxy.headers {
                if name != HEADER.as_bytes() {
                    proxy.output.push(format!("{name:?}: {value:?}"));
                }
            }
            assert_eq!(gate.record().reason, None);
            // The proxy forwards what it buffered.
            sent.append(&mut proxy.held);
        }
        if forwards && ordered && !streams && action == Action::Continue && ended && !complete {
            complete = true;
            assert!(!releases || sent == delivered, "another body is forwarded");
            assert!(
                proxy.trailers.is_empty(),
                "a trailer of the client is forwarded"
            );
            assert_eq!(proxy.answers, 0, "forwarded completely and rejected");
        }
        assert!(proxy.answers <= 1, "{} answers", proxy.answers);
        // A response resets a stream in flight, and a request whose headers were forwarded before
        // its end.
        let cut_off = streams || forwards || is_early || !(forwarded && proxy.answers > 0);
        assert!(cut_off, "forwarded and rejected");
        assert!(
            !(complete && proxy.answers > 0),
            "forwarded completely and rejected"
        );
    }
    // In another order data may come before headers that say that nothing follows.
    if streams && ordered {
        let is_accepted = forwarded && ended && proxy.answers == 0;
        unchanged(&delivered, &sent, root.has_host(), is_accepted);
    }
    // The access log may be written several times; the stream ends once.
    for _ in 0..data.int_in_range(0..=2)? {
        gate.on_log(proxy);
    }
    gate.on_done(proxy);
    // Without a host, each message of a stream is counted too.
    assert!(
        streams || proxy.counted <= 1,
        "counted {} times",
        proxy.counted
    );
    Ok(())
}

fn request(data: &mut Unstructured<'_>, keys: &[String; 3]) -> Result<(Vec<Field>, Vec<u8>)> {
    let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    let grpc = data.arbitrary()?;
    let path = if data.ratio(1, 8)? {
        data.arbitrary::<&str>()?
    } else if grpc {
        *data.choose(&[
            "/inference.GRPCInferenceService/ModelInfer",
            STREAM,
            "/inference.GRPCInferenceService/ModelReady",
            "/inference.GRPCInferenceService/ServerLive",
            "/inference.GRPCInferenceService/RepositoryModelLoad",
            "/grpc.health.v1.Health/Check",
        ])?
    } else {
        *data.choose(&[
            "/v2/models/vec/infer",
            "/v2/models/vec",
            "/v2/models/vec/ready",
            "/v2/models/png/infer",
            "/v2/health/live",
            "/v2",
            "/v2/repository/index",
        ])?
    };
    let method = *data.choose(&["POST", "POST", "POST", "GET", "PUT"])?;
    let mut headers = vec![
        field(":method", method),
        field(":path", path),
        field(":authority", "gate.example"),
        field(":scheme", "http"),
        field("x-request-id", "00000000-0000-4000-8000-000000000001"),
        field("x-api-key", data.choose(keys)?),
        field(
            "content-type",
            if grpc {
                "application/grpc"
            } else {
                data.choose(&["application/json", "image/png"])?
            },
        ),
    ];
    match data.int_in_range(0..=7)? {
        0 => {
            headers.remove(5);
        }
        1 => headers.push((
            data.arbitrary::<&[u8]>()?.to_vec(),
            data.arbitrary::<&[u8]>()?.to_vec(),
        )),
        2 => headers.push(field(HEADER, "v1.AAAA.AAAA")),
        3 => headers.push(field("x-forwarded-for", "10.0.0.1")),
        _ => {}
    }
    let body = match (data.int_in_range(0..=3)?, grpc) {
        (0, _) => data.arbitrary::<&[u8]>()?.to_vec(),
        (1, _) => Vec::new(),
        (_, true) => frame(
            b"\x0a\x03vec\x2a\x0e\x0a\x01x\x12\x04FP32\x1a\x01\x02\x3a\x08\0\0\x80\x3f\0\0\0\x40",
        ),
        (_, false) => {
            br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1,2]}]}"#.to_vec()
        }
    };
    Ok((headers, body))
}
