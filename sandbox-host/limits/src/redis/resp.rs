//! The part of the Redis protocol (RESP2) that is used here: commands, and replies of one line or
//! one string. Any other reply, or one that is too long, ends the connection.

use bytes::{Buf as _, BytesMut};
use tensorgate_policy::values::safe_text::push_quoted;

/// The longest line in bytes: an error text or a number.
const MAX_LINE_BYTES: usize = 512;
/// The longest string in bytes: the whole list of blocked clients.
const MAX_TEXT_BYTES: usize = 65_536;
/// The end of a line.
const END: &[u8; 2] = b"\r\n";

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+OK`, or a string.
    Text(Vec<u8>),
    /// `-ERR …`.
    Error(String),
}

/// A malformed reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyFault {
    #[error("a reply of an unexpected type")]
    Kind,
    #[error("a reply of more than {MAX_TEXT_BYTES} bytes")]
    TooLong,
    #[error("a reply without a valid end")]
    Form,
}

/// Appends a command.
pub fn command<'a>(to: &mut BytesMut, words: impl ExactSizeIterator<Item = &'a [u8]>) {
    to.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        to.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        to.extend_from_slice(word);
        to.extend_from_slice(END);
    }
}

/// Removes the next complete reply from the front.
pub fn take(from: &mut BytesMut) -> Result<Option<Reply>, ReplyFault> {
    let Some((kind, rest)) = from.split_first() else {
        return Ok(None);
    };
    let kind = *kind;
    if !matches!(kind, b'+' | b'-' | b'$') {
        return Err(ReplyFault::Kind);
    }
    let looked_at = rest.get(..MAX_LINE_BYTES).unwrap_or(rest);
    let Some(length) = looked_at.windows(END.len()).position(|two| two == END) else {
        return if rest.len() < MAX_LINE_BYTES {
            Ok(None)
        } else {
            Err(ReplyFault::TooLong)
        };
    };
    let line = rest.get(..length).unwrap_or_default().to_vec();
    // The kind, the line and its end.
    let head = length.saturating_add(1).saturating_add(END.len());
    match kind {
        b'+' => {
            from.advance(head);
            Ok(Some(Reply::Text(line)))
        }
        b'-' => {
            from.advance(head);
            let mut text = String::new();
            for c in String::from_utf8_lossy(&line).chars() {
                push_quoted(&mut text, c);
            }
            Ok(Some(Reply::Error(text)))
        }
        _ => text(from, head, &line),
    }
}

/// Reads `$length`, the string, and its end.
fn text(from: &mut BytesMut, head: usize, line: &[u8]) -> Result<Option<Reply>, ReplyFault> {
    let length = std::str::from_utf8(line)
        .ok()
        .filter(|digits| !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit()))
        .and_then(|digits| digits.parse::<usize>().ok())
        .ok_or(ReplyFault::Kind)?;
    if length > MAX_TEXT_BYTES {
        return Err(ReplyFault::TooLong);
    }
    let end = head.saturating_add(length);
    let all = end.saturating_add(END.len());
    if from.len() < all {
        return Ok(None);
    }
    let text = from.get(head..end).unwrap_or_default().to_vec();
    if from.get(end..all) != Some(END.as_slice()) {
        return Err(ReplyFault::Form);
    }
    from.advance(all);
    Ok(Some(Reply::Text(text)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    #[test]
    fn a_command_is_counted_texts() {
        let mut bytes = BytesMut::new();
        let words: [&[u8]; 3] = [b"SET", b"a\r\n", b""];
        command(&mut bytes, words.into_iter());
        assert_eq!(&bytes[..], b"*3\r\n$3\r\nSET\r\n$3\r\na\r\n\r\n$0\r\n\r\n");
    }

    #[test]
    fn a_reply_is_taken_when_it_is_whole() {
        let text = |text: &[u8]| Ok(Some(Reply::Text(text.to_vec())));
        for (bytes, expected) in [
            (&b"+OK\r\n"[..], text(b"OK")),
            (b"$5\r\na\r\nbc\r\n", text(b"a\r\nbc")),
            (b"$0\r\n\r\n", text(b"")),
            (
                b"-NOSCRIPT No\n\r\n",
                Ok(Some(Reply::Error("NOSCRIPT No\\n".into()))),
            ),
        ] {
            for end in 0..bytes.len() {
                let mut part = BytesMut::from(&bytes[..end]);
                assert_eq!(take(&mut part), Ok(None), "{bytes:?} cut at {end}");
                assert_eq!(part.len(), end, "nothing of it is taken");
            }
            let mut whole = BytesMut::from(bytes);
            whole.extend_from_slice(b"+next\r\n");
            assert_eq!(take(&mut whole), expected);
            assert_eq!(&whole[..], b"+next\r\n");
        }
    }

    #[test]
    fn what_is_no_reply_ends_the_connection_within_a_bound() {
        let long = [&b"+"[..], &[b'a'; 600]].concat();
        for (bytes, expected) in [
            (&b"*1\r\n"[..], ReplyFault::Kind),
            (b":1\r\n", ReplyFault::Kind),
            (b"HTTP/1.1 200 OK\r\n", ReplyFault::Kind),
            (b"$-1\r\n", ReplyFault::Kind),
            (b"$\r\n", ReplyFault::Kind),
            (b"$+3\r\nabc\r\n", ReplyFault::Kind),
            (b"$99999999999999999999\r\n", ReplyFault::Kind),
            (b"$65537\r\n", ReplyFault::TooLong),
            (&long, ReplyFault::TooLong),
            (b"$3\r\nabcde", ReplyFault::Form),
        ] {
            let mut bytes = BytesMut::from(bytes);
            assert_eq!(take(&mut bytes), Err(expected), "{bytes:?}");
        }
    }
}
