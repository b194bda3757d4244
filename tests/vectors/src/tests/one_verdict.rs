//! One tensor, every encoding, one verdict and one cost: random contracts and requests. Each is
//! sent in every spelling that can express it, whole and in pieces.
//!
//! The seeds are fixed, so that a failure can be reproduced. The encoders are the vectors' own and
//! share no code with the decoders.

mod files;
mod rules;

use std::collections::BTreeMap;

use crate::{Coding as Compressed, RawRequest, Spelling, spell};
use serde_json::{Value, json};
use tensorgate_policy::decision::{BodyPlan, decide_body, decide_head, decide_message};
use tensorgate_policy::request::{
    Boundary, CallerDigests, Coding, ContentType, Encoding, Head, Identity, Operation, Operations,
    Proofs, Protocol, Route,
};
use tensorgate_policy::{
    ChargeOutcome, Datatype, Decision, Denial, InferRequest, Policy, Reason, RequestHash, Step,
};
use tensorgate_policy_compiler::{raw, validate};
use tensorgate_wire::stream_event::Event;
use tensorgate_wire::{BodyStream, addressee, decode, expand};

use rules::{Rule, request, rules, spoil};

/// Requests per run.
const CASES: u64 = 6_000;
/// How many times each of them is split differently.
const CUTS: usize = 4;

/// SplitMix64: the same numbers everywhere for one seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'t, T>(&mut self, list: &'t [T]) -> &'t T {
        &list[self.below(list.len())]
    }
}

fn policy(rules: &[Rule]) -> Policy {
    let inputs: Vec<Value> = rules.iter().map(Rule::input).collect();
    // A model with values that JSON without datatypes cannot express may not be called by it.
    let half = |rule: &Rule| matches!(rule.datatype, Datatype::Fp16 | Datatype::Bf16);
    let untyped = [
        Protocol::TfRest,
        Protocol::TorchRest,
        Protocol::TorchGrpc,
        Protocol::Json,
    ];
    let protocols: Vec<&str> = Protocol::ALL
        .iter()
        // It has no tensors.
        .filter(|protocol| **protocol != Protocol::OpenAi)
        .filter(|protocol| !untyped.contains(protocol) || !rules.iter().any(half))
        .map(|protocol| protocol.name())
        .collect();
    let document = json!({
        "version": 1,
        // Equal values compress better than anything else.
        "listen": {"limits": {"max_expansion": 1_032}},
        "clients": {"c": {"api_keys": [{"sha256": "00".repeat(32)}]}},
        "backends": {"b": {"kind": "open-inference", "endpoints": ["http://127.0.0.1:8001"], "max_in_flight": 1, "queue": 1, "timeout_ms": 1000}},
        "models": {"m": {
            "backend": "b", "versions": ["1"], "protocols": protocols, "inputs": inputs,
            "encodings": ["gzip", "deflate"],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [1]}],
            "parameters": {"priority": {"int": [0, 10]}},
            "json": if protocols.contains(&"json") { template(rules) } else { Value::Null },
        }},
        "grants": [{
            "name": "g", "clients": ["c"], "models": ["m"], "operations": ["infer", "stream"],
            "cost": {"elements": 1_000_000, "bytes": 1_000_000, "window_s": 60},
        }],
    });
    let raw: raw::Policy = serde_json::from_value(document).unwrap();
    validate::validate(&raw)
        .map(|(policy, _)| policy)
        .unwrap_or_else(|faults| panic!("{faults:?}"))
}

/// The model's own JSON. Inputs have names that must be escaped, at different depths, one in rows.
/// Bytes are in base64 for every second input.
fn template(rules: &[Rule]) -> Value {
    let place = |(index, rule): (usize, &Rule)| {
        let depth = ["", "/b/*/~01", "/b/~01"]
            .iter()
            .cycle()
            .nth(index)
            .unwrap();
        let pointer = format!("/a~1{index}{depth}");
        let coded = rule.datatype == Datatype::Bytes && index % 2 == 1;
        let place = if coded {
            json!({"pointer": pointer, "bytes": "base64"})
        } else {
            json!(pointer)
        };
        (rule.name.clone(), place)
    };
    let inputs: serde_json::Map<_, _> = rules.iter().enumerate().map(place).collect();
    json!({"route": "/m", "inputs": inputs, "outputs": {"y": ""}})
}

/// The outcome of a request: its tensors by name and what they cost, or why it was rejected.
type Verdict = Result<(Vec<(String, Vec<u8>)>, Cost), (Reason, Option<String>)>;

/// Elements and bytes.
type Cost = (u64, u64);

fn refused(denial: Denial) -> (Reason, Option<String>) {
    (denial.reason, denial.field)
}

fn tensors(request: &InferRequest<'_>) -> Vec<(String, Vec<u8>)> {
    let data = |input: &tensorgate_policy::Tensor<'_>| input.data.clone().unwrap().into_vec();
    request
        .inputs
        .iter()
        .map(|input| (input.name.to_string(), data(input)))
        .collect()
}

/// The charge for the head: nothing is charged by the request.
fn spent(charge: &tensorgate_policy::Charge) -> ChargeOutcome {
    panic!("{charge:?}")
}

fn cost(charge: &tensorgate_policy::Charge) -> Cost {
    match charge.limit_charges.as_slice() {
        [elements, bytes] => (elements.amount, bytes.amount),
        limit_charges => panic!("{limit_charges:?}"),
    }
}

/// The content type that a request declares, where it decides how the body is read.
fn content_type(request: &RawRequest) -> ContentType<'static> {
    let declared = |(name, value): &(Vec<u8>, Vec<u8>)| {
        let value = str::from_utf8(value).unwrap();
        let boundary = value.strip_prefix("multipart/form-data; boundary=")?;
        (name == b"content-type").then(|| Boundary::new(boundary).unwrap())
    };
    match request.headers.iter().find_map(declared) {
        Some(boundary) => ContentType::Form(boundary),
        None if request.protocol.is_grpc() => ContentType::Grpc,
        None => ContentType::Absent,
    }
}

/// The content encoding that a request declares.
fn encoding(request: &RawRequest) -> Encoding {
    let field = if request.protocol.is_grpc() {
        "grpc-encoding"
    } else {
        "content-encoding"
    };
    let said = |(name, _): &&(Vec<u8>, Vec<u8>)| name == field.as_bytes();
    match request.headers.iter().find(said).map(|(_, value)| &**value) {
        None => Encoding::Identity,
        Some(b"gzip") => Encoding::Coded(Coding::Gzip),
        Some(b"deflate") => Encoding::Coded(Coding::Deflate),
        Some(other) => panic!("{other:?}"),
    }
}

/// The decision up to its body.
fn begin(policy: &Policy, request: &RawRequest) -> (Decision, BodyPlan) {
    let length = request
        .headers
        .iter()
        .find(|(name, _)| name == b"inference-header-content-length");
    let rest = !request.protocol.is_grpc();
    let head = Head {
        header_bytes: 100,
        header_count: 5,
        ambiguous: None,
        identity: Identity::Client("c".into()),
        proofs: Proofs::NONE,
        withheld: Operations::default(),
        caller: CallerDigests::default(),
        request_hash: RequestHash::default(),
        route: Route::Model {
            protocol: request.protocol,
            operation: match request.is_stream() {
                true => Operation::Stream,
                false => Operation::Infer,
            },
            model: rest.then(|| "m".into()),
            version: None,
        },
        query: None,
        chunked: false,
        content_type: content_type(request),
        encoding: encoding(request),
        json_length: length.map(|(_, value)| str::from_utf8(value).unwrap().parse().unwrap()),
        content_length: None,
        end_of_stream: false,
    };
    match decide_head(policy, &head, spent) {
        (decision, Step::ReadBody(plan)) => (decision, plan),
        (decision, Step::ReadMessages(plan)) => (decision.of_message(), plan),
        (_, step) => panic!("{step:?}"),
    }
}

fn held(policy: &Policy, request: &RawRequest) -> Verdict {
    let (mut decision, plan) = begin(policy, request);
    let format = plan.format;
    let body = expand(&plan, request.body.as_slice()).map_err(refused)?;
    let whom = addressee(format, &body).map_err(refused)?;
    match decide_body(&mut decision, policy, request.body.len(), whom, spent) {
        Step::Decode => {}
        step => panic!("{step:?}"),
    }
    let decoded = decode(format, &body, decision.read_by(policy)).map_err(refused)?;
    let mut paid = None;
    let spend = |charge: &tensorgate_policy::Charge| {
        assert_eq!(paid.replace(cost(charge)), None, "charged twice");
        ChargeOutcome::CHARGED
    };
    match decide_message(&mut decision, policy, &decoded, spend) {
        Step::Forward => Ok((tensors(&decoded), paid.expect("charged"))),
        Step::Deny(denial) => Err(refused(denial)),
        step => panic!("{step:?}"),
    }
}

/// The same in pieces, split at random positions.
fn in_pieces(policy: &Policy, request: &RawRequest, random: &mut Random) -> Verdict {
    let (mut decision, plan) = begin(policy, request);
    let mut stream = BodyStream::new(plan.format, request.body.len() + 1, None).unwrap();
    let mut told = Vec::new();
    let mut coming = Vec::new();
    let mut paid = None;
    let mut sink = |event: Event<'_>| {
        let step = match event {
            Event::Head {
                request: head,
                elements,
                body_bytes,
            } => {
                assert_eq!(body_bytes, request.body.len());
                told = tensors(head);
                let places = elements.iter().enumerate();
                coming = places
                    .filter(|(_, place)| **place != tensorgate_policy::contract::Elements::Inline)
                    .map(|(index, _)| index)
                    .rev()
                    .collect();
                let whom =
                    head.model
                        .as_deref()
                        .map(|model| tensorgate_policy::decision::Addressee {
                            model: model.into(),
                            version: None,
                            streams: false,
                        });
                match decide_body(&mut decision, policy, body_bytes, whom, spent) {
                    Step::Decode => {}
                    step => panic!("{step:?}"),
                }
                let step = match decision.message(policy, head) {
                    Step::Check => decision.check_head(policy, head, elements),
                    step => step,
                };
                match step {
                    Step::Charge(charge) => {
                        assert_eq!(paid.replace(cost(&charge)), None, "charged twice");
                        decision.charged(policy, ChargeOutcome::CHARGED)
                    }
                    step => step,
                }
            }
            Event::Part(part) => {
                use tensorgate_policy::contract::Part;
                match part {
                    Part::Chunk(piece) => told[*coming.last().unwrap()].1.extend_from_slice(piece),
                    Part::End => drop(coming.pop()),
                    Part::Begin { .. } => {}
                }
                decision.pass(policy, part)
            }
        };
        match step {
            Step::Forward => Ok(()),
            Step::Deny(denial) => Err(denial),
            step => panic!("{step:?}"),
        }
    };
    let mut rest = request.body.as_slice();
    while !rest.is_empty() {
        let most = if random.one_in(2) { 3 } else { rest.len() };
        let (piece, after) = rest.split_at(1 + random.below(most.min(rest.len())));
        stream.feed(piece, &mut sink).map_err(refused)?;
        rest = after;
    }
    stream.end().map_err(refused)?;
    match decision.passed() {
        Step::Forward => Ok((told, paid.expect("charged"))),
        step => panic!("{step:?}"),
    }
}

/// A verdict as it would be if the size of `BYTES` were known when they are charged. Over gRPC in
/// pieces it is not. The charge is then the whole body, at most what the contract allows, and never
/// less than the real size.
fn as_if_known(verdict: Verdict, request: &RawRequest, rules: &[Rule]) -> Verdict {
    let (tensors, (elements, bytes)) = verdict?;
    let unknown = rules.iter().any(|rule| rule.datatype == Datatype::Bytes);
    let carried: usize = tensors.iter().map(|(_, data)| data.len()).sum();
    let carried = (carried as u64).max(1);
    if request.protocol == Protocol::OipGrpc && unknown {
        assert!((carried..=request.body.len() as u64).contains(&bytes));
        return Ok((tensors, (elements, carried)));
    }
    Ok((tensors, (elements, bytes)))
}

#[test]
fn one_request_gets_one_verdict_in_every_encoding_whole_or_in_pieces() {
    let mut seen = BTreeMap::<&str, (usize, usize)>::new();
    let mut said = BTreeMap::<Spelling, usize>::new();
    let mut made = BTreeMap::<String, usize>::new();
    for seed in 0..CASES {
        let mut random = Random(seed);
        let rules = rules(&mut random);
        for kind in rules.iter().flat_map(Rule::kinds) {
            *made.entry(kind).or_default() += 1;
        }
        let policy = policy(&rules);
        let mut request = request(&mut random, &rules);
        let fault = if random.one_in(4) {
            None
        } else {
            spoil(&mut random, &rules, &mut request)
        };
        let inputs: Vec<_> = rules.iter().map(Rule::taken).collect();
        let spelled = spell(&request, &inputs, &template(&rules)).unwrap();
        let mut verdicts: Vec<(String, Verdict)> = Vec::new();
        for (spelling, raw) in &spelled {
            *said.entry(*spelling).or_default() += 1;
            verdicts.push((spelling.name().to_owned(), held(&policy, raw)));
            let coding = *random.pick(&[Compressed::Gzip, Compressed::Deflate]);
            let mut coded = raw.clone();
            coding.apply(&mut coded).unwrap();
            let name = format!("{} in {coding:?}", spelling.name());
            verdicts.push((name, held(&policy, &coded)));
            if matches!(spelling, Spelling::OipRestBinary | Spelling::OipGrpcRaw) {
                for _ in 0..CUTS {
                    let name = format!("{} in pieces", spelling.name());
                    let verdict = in_pieces(&policy, raw, &mut random);
                    verdicts.push((name, as_if_known(verdict, raw, &rules)));
                }
            }
        }
        // JSON and typed contents must reject, with the right reason, the datatypes that only raw
        // form can carry.
        let raw_only = rules
            .iter()
            .any(|rule| matches!(rule.datatype, Datatype::Fp16 | Datatype::Bf16));
        let raw = |name: &str| {
            ["binary", "raw", "stream", "tf-grpc"]
                .iter()
                .any(|form| name.contains(form))
        };
        let (reference, others): (Vec<_>, Vec<_>) =
            verdicts.iter().partition(|(name, _)| raw(name));
        let (_, expected) = reference
            .first()
            .unwrap_or_else(|| panic!("{seed}: nothing raw can say {request}"));
        assert_eq!(
            expected.is_ok(),
            fault.is_none(),
            "{seed}: {fault:?} {expected:?} {request}"
        );
        for (name, verdict) in reference.iter().chain(others.iter().filter(|_| !raw_only)) {
            assert_eq!(verdict, expected, "{seed}: {name}, {fault:?}: {request}");
        }
        let count = seen.entry(fault.unwrap_or("nothing wrong")).or_default();
        *count = (count.0 + 1, count.1 + verdicts.len());
    }
    // A generator that stopped making some kind of request, or a spelling that stopped expressing
    // them, would test nothing any more.
    assert!(
        said.len() == Spelling::ALL.len() && said.values().all(|requests| *requests >= 50),
        "{said:?}"
    );
    assert!(
        made.len() == 15 && made.values().all(|rules| *rules >= 50),
        "of 15 kinds of rules, each at least 50 times: {made:?}"
    );
    assert_eq!(seen.len(), 14, "{seen:?}");
    assert!(
        seen.values()
            .all(|(cases, verdicts)| *cases >= 10 && verdicts / cases >= 10),
        "{seen:?}"
    );
}
