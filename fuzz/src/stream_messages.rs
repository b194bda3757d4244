//! Fuzz target: a stream of messages as a client frames them.
//!
//! Splitting it differently must give the same messages, and the reader must not ask for more than
//! the longest message.

use tensorgate_policy::Reason;
use tensorgate_wire::messages::{Messages, NextMessage};

/// The longest message with its frame.
const MAX_BYTES: usize = 96;

/// The result of a stream: its frames, and the fault that ended it.
type Read = (Vec<Vec<u8>>, Option<Reason>);

/// Runs one input: the way it is split, then the stream.
pub fn run(data: &[u8]) {
    let Some((&cut, stream)) = data.split_first() else {
        return;
    };
    let (frames, fault) = read(stream, stream.len().max(1));
    let step = usize::from(cut) + 1;
    assert_eq!(read(stream, step), (frames.clone(), fault));
    assert!(frames.iter().all(|frame| frame.len() <= MAX_BYTES));
    let read = frames.concat();
    assert!(stream.starts_with(&read), "the messages differ");
    assert_eq!(fault.is_none(), read.len() == stream.len(), "{fault:?}");
}

fn read(stream: &[u8], step: usize) -> Read {
    let messages = Messages::new(MAX_BYTES);
    let (mut from, mut received, mut frames) = (0, 0, Vec::new());
    loop {
        match messages.take(&stream[from..received]) {
            Err(denial) => return (frames, Some(denial.reason)),
            Ok(NextMessage::Incomplete(bytes)) => {
                assert!(bytes > received - from && bytes <= MAX_BYTES, "{bytes}");
                if received == stream.len() {
                    let fault = messages.end(received - from).err();
                    return (frames, fault.map(|denial| denial.reason));
                }
                received = (received + step).min(stream.len());
            }
            Ok(NextMessage::Message { frame }) => {
                frames.push(frame.to_vec());
                from += frame.len();
            }
        }
    }
}
