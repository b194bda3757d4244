//! Fuzz target: a stream of messages, as a client sends it and in a gate's signed envelopes.
//!
//! Splitting it differently must give the same messages, and the reader must not ask for more than
//! the longest message. Behind a gate, a message without an envelope must be rejected.

use tensorgate_policy::Reason;
use tensorgate_wire::context::{EnvelopeCodec, Key, MessageEnvelope, Refusal};
use tensorgate_wire::messages::{Messages, NextMessage, framed};

use crate::support::CONTEXT_KEY;

/// The longest message with its frame.
const MAX_BYTES: usize = 96;
/// A frame's header, the longest envelope and the longest message.
const MOST_WANTED: usize = 5 + (16 << 10) + MAX_BYTES;

/// The result of a stream: its frames, an empty one for each rejected message, and the fault that
/// ended it.
type Read = (Vec<Vec<u8>>, Option<Reason>);

/// Runs one input: the way it is split, then the stream.
pub fn run(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else {
        return;
    };
    let step = usize::from(cut) + 1;
    let client = || Messages::from_client(MAX_BYTES);
    let (frames, fault) = read(client(), stream, stream.len().max(1));
    assert_eq!(read(client(), stream, step), (frames.clone(), fault));
    assert!(frames.iter().all(|frame| frame.len() <= MAX_BYTES));
    assert!(
        stream.starts_with(&frames.concat()),
        "the messages differ from the input"
    );

    let (nothing, fault) = read(Messages::from_gate(marker(), MAX_BYTES), stream, step);
    assert!(
        nothing.is_empty(),
        "a message without an envelope was accepted"
    );
    assert!(stream.is_empty() || fault.is_some());

    // A gate's envelopes give the same messages. Flipping any bit of an envelope ends the stream
    // there.
    let mut gate = marker();
    let mut marked = Vec::new();
    let mut expected = Vec::new();
    for frame in &frames {
        if frame.len() % 3 == 0 {
            let refusal = Refusal::of(tensorgate_policy::Denial::new(Reason::Shape, "no"), false);
            marked.extend(framed(
                &gate.write(&MessageEnvelope::Refused(Box::new(refusal))),
            ));
            expected.push(Vec::new());
        }
        // Some messages are sent ahead of their result, in two parts.
        let sent_ahead = cut & 2 == 2;
        if sent_ahead {
            let (first, second) = frame.split_at(frame.len() / 2);
            for part in [first, second] {
                let bytes = part.len();
                marked.extend(framed(&gate.write(&MessageEnvelope::Ahead { bytes })));
                marked.extend_from_slice(part);
            }
        }
        let mark = gate.write(&MessageEnvelope::Message {
            checked: cut & 1 == 1,
            quotas: Vec::new(),
        });
        let start = marked.len();
        marked.extend(framed(&mark));
        let end = marked.len();
        if !sent_ahead {
            marked.extend_from_slice(frame);
        }
        expected.push(frame.clone());
        let at = start + (usize::from(cut) % (end - start));
        let mut changed = marked.clone();
        changed[at] ^= 1;
        let (kept, fault) = read(Messages::from_gate(marker(), MAX_BYTES), &changed, step);
        assert!(fault.is_some() && kept.len() < expected.len());
    }
    let host = Messages::from_gate(marker(), MAX_BYTES);
    assert_eq!(read(host, &marked, step), (expected, None));
}

fn marker() -> EnvelopeCodec {
    let key = Key::from_hex(CONTEXT_KEY).expect("a key");
    EnvelopeCodec::new(&key, "v5.AAAA.signature")
}

fn read(mut messages: Messages, stream: &[u8], step: usize) -> Read {
    let (mut from, mut came, mut taken) = (0, 0, Vec::new());
    loop {
        match messages.take(&stream[from..came]) {
            Err(denial) => return (taken, Some(denial.reason)),
            Ok(NextMessage::Incomplete(bytes)) => {
                assert!(bytes > came - from && bytes <= MOST_WANTED, "{bytes}");
                if came == stream.len() {
                    let fault = messages.end(came - from).err();
                    return (taken, fault.map(|denial| denial.reason));
                }
                came = (came + step).min(stream.len());
            }
            Ok(NextMessage::Message { frame, used, .. }) => {
                taken.push(frame.into_owned());
                from += used;
            }
            Ok(NextMessage::Ahead { used }) => from += used,
            Ok(NextMessage::Refused { used, .. }) => {
                taken.push(Vec::new());
                from += used;
            }
        }
    }
}
