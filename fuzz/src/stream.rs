//! A body in pieces, in the two forms that can pass so. However it is cut it tells the same; what is told is what the decoder of whole bodies
//! reads; and the decision lets it through in pieces where it lets it through whole, with the same elements.
//!
//! The input: flags, the model, how it is cut, two bytes of a bound (of the head) or of the JSON's length, and the body.

use tensorgate_policy::contract::{Elements, Part};
use tensorgate_policy::decision::{
    Addressee, BodyFormat, decide_body, decide_head, decide_message,
};
use tensorgate_policy::request::{
    ContentType, Encoding, Head, Identity, Operation, Operations, Proofs, Protocol, Route,
};
use tensorgate_policy::{
    Charge, ChargeOutcome, Decision, Denial, InferRequest, Policy, Reason, RequestHash, Step,
};
use tensorgate_wire::stream::Event;
use tensorgate_wire::{BodyStream, addressee, decode};

use crate::support::{POLICIES, check_body_denial, frame};

/// Models of the vectors' main policy that take tensors.
const MAIN: usize = 9;
/// These, and behind them those of the policy about what tensors may hold.
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
/// More than any input of a fuzzer.
const ROOM: usize = 1 << 20;

/// How an input asks to be played.
struct Play<'a> {
    format: BodyFormat,
    model: &'static str,
    body: &'a [u8],
    max_head_bytes: usize,
    declared: Option<u64>,
}

/// What a stream told, whatever the cuts: the head, and every tensor's elements.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
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
    // A frame of its own mostly: its flag and length are tried by the other half.
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
    let pieces = cut(play.body, cuts);
    let bytes: Vec<&[u8]> = play.body.chunks(1).collect();

    let whole = told(&play, &[play.body]);
    assert_eq!(told(&play, &pieces), whole, "cut by chance");
    assert_eq!(told(&play, &bytes), whole, "byte by byte");
    beside_the_decoder(&play, &whole);

    let verdict = in_pieces(&play, &[play.body]);
    assert_eq!(in_pieces(&play, &pieces), verdict, "judged, cut by chance");
    assert_eq!(in_pieces(&play, &bytes), verdict, "judged byte by byte");
    beside_the_decision(&play, &verdict);
}

/// Pieces of lengths drawn from a seed, an empty one now and then.
fn cut(mut body: &[u8], seed: u8) -> Vec<&[u8]> {
    let mut state = u32::from(seed).wrapping_mul(0x9e37_79b9) | 1;
    let mut pieces = Vec::new();
    while !body.is_empty() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        let most = if state & 0x100 == 0 { 8 } else { 200 };
        let length = usize::try_from(state >> 16).unwrap_or_default() % most;
        let (piece, rest) = body.split_at(length.min(body.len()));
        pieces.push(piece);
        body = rest;
    }
    pieces
}

/// What the stream tells, in what order it may; or its refusal.
fn told(play: &Play<'_>, pieces: &[&[u8]]) -> Result<Told, Denial> {
    let mut stream = BodyStream::new(play.format, play.max_head_bytes, play.declared)
        .expect("a form that can pass in pieces");
    let mut told = Told::default();
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
                told = head(request, body_bytes);
                coming = behind(elements);
            }
            Event::Part(Part::Begin { bytes }) => {
                assert_eq!(open, None, "a tensor within a tensor");
                open = Some(bytes);
            }
            Event::Part(Part::Chunk(piece)) => {
                let tensor = *coming.last().expect("a tensor that was announced");
                let left = open.as_mut().expect("a tensor that has begun");
                assert!(!piece.is_empty(), "an empty piece");
                *left = left.checked_sub(piece.len()).expect("no more than it said");
                if let Some((_, data)) = told.tensors.get_mut(tensor) {
                    data.extend_from_slice(piece);
                }
            }
            Event::Part(Part::End) => {
                assert_eq!(open.take(), Some(0), "a tensor cut short");
                assert!(coming.pop().is_some());
            }
        }
        Ok(())
    };
    let mut fed = pieces
        .iter()
        .try_for_each(|piece| stream.feed(piece, &mut sink));
    if fed.is_ok() {
        fed = stream.end();
    }
    assert!(heads <= 1, "{heads} heads");
    match fed {
        Ok(()) => {
            assert!(heads == 1 && open.is_none() && coming.is_empty());
            Ok(told)
        }
        Err(denial) => {
            assert!(
                stream.feed(b"x", &mut |_| Ok(())).is_err() && stream.end().is_err(),
                "a refusal that did not last"
            );
            if denial.reason != Reason::BodyTooLarge {
                check_body_denial(&denial);
            }
            Err(denial)
        }
    }
}

/// All that a head says, and the data that came with it.
fn head(request: &InferRequest<'_>, body_bytes: usize) -> Told {
    let mut bare = request.clone();
    let tensors = bare.inputs.iter_mut().map(|input| {
        let data = std::mem::replace(&mut input.data, Ok(Vec::new().into()));
        (
            input.name.to_string(),
            data.unwrap_or_default().into_owned(),
        )
    });
    Told {
        tensors: tensors.collect(),
        head: format!("{bare:?}"),
        body_bytes,
    }
}

/// Which inputs' elements come behind the head, the last of them first.
fn behind(elements: &[Elements]) -> Vec<usize> {
    let mut coming: Vec<usize> = (0..elements.len())
        .filter(|index| elements.get(*index) != Some(&Elements::Inline))
        .collect();
    coming.reverse();
    coming
}

/// Whether a body that is right as a whole may all the same be refused in pieces: its head is beyond the bound, its declared length is another
/// one, or it is a message with fields behind the raw contents, which cannot be judged before these have passed.
fn may_be_refused(play: &Play<'_>, denial: &Denial) -> bool {
    let declared_right = play
        .declared
        .is_none_or(|bytes| usize::try_from(bytes).is_ok_and(|bytes| bytes == play.body.len()));
    denial.reason == Reason::BodyTooLarge
        || !declared_right
        || play.format == BodyFormat::OipGrpcInfer
            && !raw_is_last(play.body.get(5..).unwrap_or_default())
}

/// Of a message that was accepted, so that it is nothing but fields with a length.
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

fn beside_the_decoder(play: &Play<'_>, stream: &Result<Told, Denial>) {
    let decoded = decode(play.format, play.body, &[]);
    match (stream, &decoded) {
        (Ok(stream), Ok(decoded)) => {
            let whole = head(decoded, play.body.len());
            assert_eq!(stream.head, whole.head);
            assert_eq!(stream.body_bytes, play.body.len());
            for (index, input) in decoded.inputs.iter().enumerate() {
                // Elements that the decoder could not read it has none of; the stream leaves those to the contract.
                if input.data.is_ok() {
                    assert_eq!(stream.tensors.get(index), whole.tensors.get(index));
                }
            }
        }
        (Ok(_), Err(denial)) => panic!("passes in pieces, not whole: {denial:?}"),
        (Err(denial), Ok(_)) => assert!(
            may_be_refused(play, denial),
            "passes whole, not in pieces: {denial:?}"
        ),
        (Err(_), Err(_)) => {}
    }
}

fn spent(_: &Charge) -> ChargeOutcome {
    ChargeOutcome::CHARGED
}

/// The decision up to its body.
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
        request_hash: RequestHash::default(),
        route: Route::Model {
            protocol,
            operation: Operation::Infer,
            model: (protocol == Protocol::OipRest).then(|| play.model.into()),
            version: None,
        },
        content_type,
        encoding: Encoding::Identity,
        json_length,
        content_length: None,
        end_of_stream: false,
    };
    match decide_head(policy(play), &head, spent) {
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
    let whom = addressee(play.format, play.body)?;
    match decide_body(&mut decision, policy, play.body.len(), whom, spent) {
        Step::Decode => {}
        step => return outcome(step).map(|()| Vec::new()),
    }
    let decoded = decode(play.format, play.body, &[])?;
    outcome(decide_message(&mut decision, policy, &decoded, spent))?;
    Ok(head(&decoded, play.body.len()).tensors)
}

fn in_pieces(play: &Play<'_>, pieces: &[&[u8]]) -> Result<Vec<(String, Vec<u8>)>, Denial> {
    let policy = policy(play);
    let mut decision = begin(play);
    let mut stream = BodyStream::new(play.format, play.max_head_bytes, play.declared)
        .expect("a form that can pass in pieces");
    let mut told = Told::default();
    let mut coming = Vec::new();
    let mut sink = |event: Event<'_>| match event {
        Event::Head {
            request,
            elements,
            body_bytes,
        } => {
            told = head(request, body_bytes);
            coming = behind(elements);
            let whom = match play.format {
                BodyFormat::OipGrpcInfer => request.model.as_deref().map(|model| Addressee {
                    model: model.into(),
                    version: request.version.as_deref().map(Into::into),
                    streams: false,
                }),
                _ => None,
            };
            match decide_body(&mut decision, policy, body_bytes, whom, spent) {
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
                Part::Chunk(piece) => {
                    if let Some((_, data)) = coming
                        .last()
                        .and_then(|tensor: &usize| told.tensors.get_mut(*tensor))
                    {
                        data.extend_from_slice(piece);
                    }
                }
                Part::End => drop(coming.pop()),
                Part::Begin { .. } => {}
            }
            outcome(decision.pass(policy, part))
        }
    };
    pieces
        .iter()
        .try_for_each(|piece| stream.feed(piece, &mut sink))?;
    stream.end()?;
    outcome(decision.passed())?;
    Ok(told.tensors)
}

/// Of several faults a held body is told the first of the table, a passing one the first to pass: whether it is refused is what agrees.
fn beside_the_decision(play: &Play<'_>, stream: &Result<Vec<(String, Vec<u8>)>, Denial>) {
    let whole = held(play);
    match (stream, &whole) {
        (Ok(stream), Ok(whole)) => assert_eq!(stream, whole),
        (Ok(_), Err(denial)) => panic!("let through in pieces, refused whole: {denial:?}"),
        (Err(denial), Ok(_)) => assert!(
            may_be_refused(play, denial),
            "let through whole, refused in pieces: {denial:?}"
        ),
        (Err(_), Err(_)) => {}
    }
}
