//! Fuzz target: streaming validation of a body in chunks, in the two encodings that support it.
//!
//! - Each way of splitting the body must give the same result.
//! - The result must equal that of the decoder of whole bodies.
//! - The decision must accept the chunks exactly if it accepts the whole body, with the same
//!   elements.
//!
//! The input: flags, the model, the way it is split, two bytes (a bound of the head, or the length
//! of the JSON), and the body.

use tensorgate_policy::contract::{Elements, Part};
use tensorgate_policy::decision::{
    Addressee, BodyFormat, decide_body, decide_head, decide_message,
};
use tensorgate_policy::request::{
    CallerDigests, ContentType, Encoding, Head, Identity, Operation, Operations, Proofs, Protocol,
    Route,
};
use tensorgate_policy::{
    Charge, ChargeOutcome, Decision, Denial, InferRequest, Policy, Reason, RequestHash, Step,
};
use tensorgate_wire::stream_event::Event;
use tensorgate_wire::{BodyStream, addressee, decode};

use crate::support::{POLICIES, check_body_denial, frame};

/// Number of models in the vectors' main policy that accept tensors.
const MAIN: usize = 9;
/// Those models, followed by the models of the policy on tensor contents.
pub const MODELS: [&str; 30] = [
    "vec",
    "digits",
    "pair",
    "types",
    "ranges",
    "loose",
    "text",
    "grid",
    "narrow",
    "planes",
    "table",
    "pixels",
    "small",
    "narrowed",
    "codes",
    "greatest",
    "grades",
    "steps",
    "lively",
    "not-constant",
    "dense",
    "named",
    "unicode",
    "language",
    "plate",
    "plain",
    "link",
    "picture",
    "sound",
    "answers",
];
/// A bound larger than any input of a fuzzer.
const ROOM: usize = 1 << 20;

/// The parts of an input.
struct Play<'a> {
    format: BodyFormat,
    model: &'static str,
    body: &'a [u8],
    max_head_bytes: usize,
    declared: Option<u64>,
}

/// The output of a stream, independent of the splits: the head, and the elements of each tensor.
#[derive(Clone, Debug, Default, PartialEq)]
struct StreamOutput {
    head: String,
    tensors: Vec<(String, Vec<u8>)>,
    body_bytes: usize,
}

/// The policy that has the model.
fn policy(play: &Play<'_>) -> &'static Policy {
    let main = MODELS.iter().take(MAIN).any(|model| *model == play.model);
    &POLICIES[if main { 0 } else { 4 }]
}

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((&[flags, model, cuts, low, high], rest)) = data.split_first_chunk() else {
        return;
    };
    let number = usize::from(u16::from_le_bytes([low, high]));
    let grpc = flags & 1 == 1;
    // Half of the inputs get a valid frame. The other half test its flag and length.
    let framed = if grpc && flags & 2 == 0 {
        frame(rest)
    } else {
        rest.to_vec()
    };
    let play = Play {
        format: if grpc {
            BodyFormat::OipGrpcInfer
        } else {
            BodyFormat::OipBinary { json_bytes: number }
        },
        model: MODELS
            .get(usize::from(model) % MODELS.len())
            .copied()
            .unwrap_or_default(),
        max_head_bytes: if grpc && flags & 4 != 0 { number } else { ROOM },
        declared: match flags >> 3 & 3 {
            0 => Some(framed.len()),
            1 => Some(framed.len().saturating_add(1)),
            _ => None,
        }
        .and_then(|bytes| u64::try_from(bytes).ok()),
        body: &framed,
    };
    let chunks = split(play.body, cuts);
    let bytes: Vec<&[u8]> = play.body.chunks(1).collect();

    let whole = stream_output(&play, &[play.body]);
    assert_eq!(stream_output(&play, &chunks), whole, "random chunks");
    assert_eq!(stream_output(&play, &bytes), whole, "single bytes");
    compare_with_decoder(&play, &whole);

    let verdict = decide_chunks(&play, &[play.body]);
    assert_eq!(
        decide_chunks(&play, &chunks),
        verdict,
        "verdict of random chunks"
    );
    assert_eq!(
        decide_chunks(&play, &bytes),
        verdict,
        "verdict of single bytes"
    );
    compare_with_decision(&play, &verdict);
}

/// Chunks of lengths drawn from a seed; some are empty.
fn split(mut body: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut state = u32::from(seed).wrapping_mul(0x9e37_79b9) | 1;
    let mut chunks = Vec::new();
    while !body.is_empty() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let most = if state & 0x100 == 0 { 8 } else { 200 };
        let length = usize::try_from(state >> 16).unwrap_or_default() % most;
        let (chunk, rest) = body.split_at(length.min(body.len()));
        chunks.push(chunk);
        body = rest;
    }
    chunks
}

/// The output of the stream, with a check of its order; or its rejection.
fn stream_output(play: &Play<'_>, chunks: &[&[u8]]) -> Result<StreamOutput, Denial> {
    let mut stream = BodyStream::new(play.format, play.max_head_bytes, play.declared)
        .expect("an encoding that can be streamed");
    let mut output = StreamOutput::default();
    let mut coming = Vec::new();
    let mut open = None::<usize>;
    let mut heads = 0;
    let mut sink = |event: Event<'_>| {
        match event {
            Event::Head {
                request,
                elements,
                body_bytes,
            } => {
                heads += 1;
                output = head(request, body_bytes);
                coming = inputs_after_head(elements);
            }
            Event::Part(Part::Begin { bytes }) => {
                assert_eq!(open, None, "a tensor within a tensor");
                open = Some(bytes);
            }
            Event::Part(Part::Chunk(chunk)) => {
                let tensor = *coming.last().expect("a tensor that was announced");
                let left = open.as_mut().expect("a tensor that has begun");
                assert!(!chunk.is_empty(), "an empty chunk");
                *left = left.checked_sub(chunk.len()).expect("no more than it said");
                if let Some((_, data)) = output.tensors.get_mut(tensor) {
                    data.extend_from_slice(chunk);
                }
            }
            Event::Part(Part::End) => {
                assert_eq!(open.take(), Some(0), "a tensor cut short");
                assert!(coming.pop().is_some());
            }
        }
        Ok(())
    };
    let mut fed = chunks
        .iter()
        .try_for_each(|chunk| stream.feed(chunk, &mut sink));
    if fed.is_ok() {
        fed = stream.end();
    }
    assert!(heads <= 1, "{heads} heads");
    match fed {
        Ok(()) => {
            assert!(heads == 1 && open.is_none() && coming.is_empty());
            Ok(output)
        }
        Err(denial) => {
            assert!(
                stream.feed(b"x", &mut |_| Ok(())).is_err() && stream.end().is_err(),
                "a later chunk did not return the rejection"
            );
            if denial.reason != Reason::BodyTooLarge {
                check_body_denial(&denial);
            }
            Err(denial)
        }
    }
}

/// The fields of a head, and the data in it.
fn head(request: &InferRequest<'_>, body_bytes: usize) -> StreamOutput {
    let mut bare = request.clone();
    let tensors = bare.inputs.iter_mut().map(|input| {
        let data = std::mem::replace(&mut input.data, Ok(Vec::new().into()));
        (input.name.to_string(), data.unwrap_or_default().into_vec())
    });
    StreamOutput {
        tensors: tensors.collect(),
        head: format!("{bare:?}"),
        body_bytes,
    }
}

/// The inputs whose elements follow the head, in reverse order.
fn inputs_after_head(elements: &[Elements]) -> Vec<usize> {
    let mut coming: Vec<usize> = (0..elements.len())
        .filter(|index| elements.get(*index) != Some(&Elements::Inline))
        .collect();
    coming.reverse();
    coming
}

/// Whether a valid body may be rejected when it is streamed. Its head may exceed the bound, or its
/// declared length may be wrong. Or a message has fields after the raw contents, which cannot be
/// checked before the raw contents are forwarded.
fn may_be_refused(play: &Play<'_>, denial: &Denial) -> bool {
    let declared_right = play
        .declared
        .is_none_or(|bytes| usize::try_from(bytes).is_ok_and(|bytes| bytes == play.body.len()));
    denial.reason == Reason::BodyTooLarge
        || !declared_right
        || play.format == BodyFormat::OipGrpcInfer
            && !raw_is_last(play.body.get(5..).unwrap_or_default())
}

/// Whether the raw contents come last. The message was accepted, so it has only length-delimited
/// fields.
fn raw_is_last(mut message: &[u8]) -> bool {
    let mut raw = false;
    while let [tag, rest @ ..] = message {
        let last = rest.iter().take_while(|byte| **byte > 127).count();
        let (length, rest) = rest.split_at((last + 1).min(rest.len()));
        let length = length
            .iter()
            .rev()
            .fold(0, |length, byte| length << 7 | usize::from(byte & 0x7f));
        message = rest.get(length..).unwrap_or_default();
        if raw && *tag >> 3 != 7 {
            return false;
        }
        raw |= *tag >> 3 == 7;
    }
    true
}

fn compare_with_decoder(play: &Play<'_>, stream: &Result<StreamOutput, Denial>) {
    let decoded = decode(play.format, play.body, &[]);
    match (stream, &decoded) {
        (Ok(stream), Ok(decoded)) => {
            let whole = head(decoded, play.body.len());
            assert_eq!(stream.head, whole.head);
            assert_eq!(stream.body_bytes, play.body.len());
            for (index, input) in decoded.inputs.iter().enumerate() {
                // Elements that the decoder could not read are missing here. The stream leaves them
                // to the contract.
                if input.data.is_ok() {
                    assert_eq!(stream.tensors.get(index), whole.tensors.get(index));
                }
            }
        }
        (Ok(_), Err(denial)) => panic!("accepted in chunks, rejected whole: {denial:?}"),
        (Err(denial), Ok(_)) => assert!(
            may_be_refused(play, denial),
            "accepted whole, rejected in chunks: {denial:?}"
        ),
        (Err(_), Err(_)) => {}
    }
}

fn charge(_: &Charge) -> ChargeOutcome {
    ChargeOutcome::CHARGED
}

/// The decision before its body.
fn begin(play: &Play<'_>) -> Decision {
    let (protocol, content_type, json_length) = match play.format {
        BodyFormat::OipBinary { json_bytes } => (
            Protocol::OipRest,
            ContentType::Absent,
            u64::try_from(json_bytes).ok(),
        ),
        _ => (Protocol::OipGrpc, ContentType::Grpc, None),
    };
    let head = Head {
        header_bytes: 100,
        header_count: 5,
        ambiguous: None,
        identity: Identity::Client("scorer".into()),
        proofs: Proofs::NONE,
        withheld: Operations::default(),
        caller: CallerDigests::default(),
        request_hash: RequestHash::default(),
        route: Route::Model {
            protocol,
            operation: Operation::Infer,
            model: (protocol == Protocol::OipRest).then(|| play.model.into()),
            version: None,
        },
        query: None,
        chunked: false,
        content_type,
        encoding: Encoding::Identity,
        json_length,
        content_length: None,
        end_of_stream: false,
    };
    match decide_head(policy(play), &head, charge) {
        (decision, Step::ReadBody(plan)) => {
            assert_eq!(plan.format, play.format);
            decision
        }
        (_, step) => panic!("{step:?}"),
    }
}

fn outcome(step: Step) -> Result<(), Denial> {
    match step {
        Step::Forward => Ok(()),
        Step::Deny(denial) => Err(denial),
        step => panic!("{step:?}"),
    }
}

fn held(play: &Play<'_>) -> Result<Vec<(String, Vec<u8>)>, Denial> {
    let policy = policy(play);
    let mut decision = begin(play);
    let addressee = addressee(play.format, play.body)?;
    match decide_body(&mut decision, policy, play.body.len(), addressee, charge) {
        Step::Decode => {}
        step => return outcome(step).map(|()| Vec::new()),
    }
    let decoded = decode(play.format, play.body, &[])?;
    outcome(decide_message(&mut decision, policy, &decoded, charge))?;
    Ok(head(&decoded, play.body.len()).tensors)
}

fn decide_chunks(play: &Play<'_>, chunks: &[&[u8]]) -> Result<Vec<(String, Vec<u8>)>, Denial> {
    let policy = policy(play);
    let mut decision = begin(play);
    let mut stream = BodyStream::new(play.format, play.max_head_bytes, play.declared)
        .expect("an encoding that can be streamed");
    let mut output = StreamOutput::default();
    let mut coming = Vec::new();
    let mut sink = |event: Event<'_>| match event {
        Event::Head {
            request,
            elements,
            body_bytes,
        } => {
            output = head(request, body_bytes);
            coming = inputs_after_head(elements);
            let addressee = match play.format {
                BodyFormat::OipGrpcInfer => request.model.as_deref().map(|model| Addressee {
                    model: model.into(),
                    version: request.version.as_deref().map(Into::into),
                    streams: false,
                }),
                _ => None,
            };
            match decide_body(&mut decision, policy, body_bytes, addressee, charge) {
                Step::Decode => {}
                step => return outcome(step),
            }
            let step = match decision.message(policy, request) {
                Step::Check => decision.check_head(policy, request, elements),
                step => step,
            };
            outcome(match step {
                Step::Charge(_) => decision.charged(policy, ChargeOutcome::CHARGED),
                step => step,
            })
        }
        Event::Part(part) => {
            match part {
                Part::Chunk(chunk) => {
                    if let Some((_, data)) = coming
                        .last()
                        .and_then(|tensor: &usize| output.tensors.get_mut(*tensor))
                    {
                        data.extend_from_slice(chunk);
                    }
                }
                Part::End => drop(coming.pop()),
                Part::Begin { .. } => {}
            }
            outcome(decision.pass(policy, part))
        }
    };
    chunks
        .iter()
        .try_for_each(|chunk| stream.feed(chunk, &mut sink))?;
    stream.end()?;
    outcome(decision.passed())?;
    Ok(output.tensors)
}

/// Compares whether the body is rejected. The reasons may differ if there are several faults: a
/// buffered body reports the first by precedence, a streamed one the first in the stream.
fn compare_with_decision(play: &Play<'_>, stream: &Result<Vec<(String, Vec<u8>)>, Denial>) {
    let whole = held(play);
    match (stream, &whole) {
        (Ok(stream), Ok(whole)) => assert_eq!(stream, whole),
        (Ok(_), Err(denial)) => panic!("allowed in chunks, rejected whole: {denial:?}"),
        (Err(denial), Ok(_)) => assert!(
            may_be_refused(play, denial),
            "allowed whole, rejected in chunks: {denial:?}"
        ),
        (Err(_), Err(_)) => {}
    }
}
