//! Reads a request's body within its size limit, time limit and memory budget.

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use tensorgate_base::memory_budget::MemoryPermit;
use tokio::time::Instant;

/// Why a body was not read to its end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    /// It exceeds the size limit.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// The memory budget is exhausted.
    #[error("no memory for the body within limits.buffered_bytes")]
    NoRoom,
    /// It arrived too slowly.
    #[error("the body did not end in time")]
    TimedOut,
    /// The connection failed.
    #[error("the body ended early: {0}")]
    Broken(String),
}

/// A gRPC message starts with a flag and its length.
const PREFIX_BYTES: usize = 5;
/// The most memory that is reserved at once because a body or message announces its length.
const MAX_PREALLOCATED_BYTES: usize = 1 << 20;
/// Once a part of an announced length has arrived, memory for this many times as much is reserved.
/// A body of 5 MB is then moved once while it is read, and not at each doubling.
const MAX_ANNOUNCED_FACTOR: usize = 8;

/// The largest part of a body that may be spare memory behind it: an eighth.
const MAX_SPARE_PART: usize = 8;

/// The length that a gRPC message announces.
fn declared_bytes(body: &[u8]) -> Option<usize> {
    let [_, length @ ..] = *body.first_chunk::<PREFIX_BYTES>()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    Some(length.saturating_add(PREFIX_BYTES))
}

/// The memory for a body of which `arrived` bytes were read, if it says that it is `declared` long.
/// The sender may never send them, so it depends on what has arrived.
fn announced_bytes(declared: Option<usize>, arrived: usize) -> usize {
    let most = arrived.saturating_mul(MAX_ANNOUNCED_FACTOR);
    declared.unwrap_or(0).min(most.max(MAX_PREALLOCATED_BYTES))
}

/// Reads a body of at most `max_bytes` before `deadline`. `framed` marks a gRPC message. Memory is
/// reserved in the budget before it is allocated. `grew` is called with the number of bytes read so
/// far. Trailers are ignored.
pub async fn read<B>(
    body: B,
    (max_bytes, framed): (usize, bool),
    deadline: Instant,
    memory_permit: &mut MemoryPermit,
    grew: impl FnMut(usize),
) -> Result<Bytes, BodyFault>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    match tokio::time::timeout_at(
        deadline,
        collect(body, (max_bytes, framed), memory_permit, grew),
    )
    .await
    {
        Ok(read) => read,
        Err(_) => Err(BodyFault::TimedOut),
    }
}

async fn collect<B>(
    mut body: B,
    (max_bytes, framed): (usize, bool),
    memory_permit: &mut MemoryPermit,
    mut grew: impl FnMut(usize),
) -> Result<Bytes, BodyFault>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    // A declared length avoids reallocations. The client chooses it and may never send the bytes,
    // so no more than a part is reserved for it at once.
    let mut declared = body
        .size_hint()
        .exact()
        .and_then(|bytes| usize::try_from(bytes).ok());
    if declared.is_some_and(|bytes| bytes > max_bytes) {
        return Err(BodyFault::TooLarge(max_bytes));
    }
    let mut read: Vec<u8> = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BodyFault::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let bytes = read.len().saturating_add(data.len());
        if bytes > max_bytes {
            return Err(BodyFault::TooLarge(max_bytes));
        }
        if framed && read.is_empty() {
            declared = declared.or_else(|| declared_bytes(&data));
        }
        if bytes > read.capacity() {
            let grown = bytes
                .max(match announced_bytes(declared, read.len()) {
                    // A longer message than announced is not a message. It grows all the same.
                    announced if announced >= bytes => announced,
                    _ => read.capacity().saturating_mul(2),
                })
                .min(max_bytes);
            if !memory_permit.resize(grown) {
                return Err(BodyFault::NoRoom);
            }
            read.reserve_exact(grown.saturating_sub(read.len()));
        }
        read.extend_from_slice(&data);
        grew(read.len());
    }
    // Tensors may share this memory for as long as the request lasts, and only its length counts.
    if read.capacity().saturating_sub(read.len()) > read.len() / MAX_SPARE_PART {
        read.shrink_to_fit();
    }
    Ok(Bytes::from(read))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::arithmetic_side_effects, reason = "tests")]
    use std::time::Duration;

    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;
    use tensorgate_base::memory_budget::Budget;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    async fn check(
        pieces: &[&'static str],
        max_bytes: usize,
        budget: usize,
        expected: Result<&'static str, BodyFault>,
    ) {
        let frames: Vec<Result<Frame<Bytes>, std::io::Error>> = pieces
            .iter()
            .map(|piece| Ok(Frame::data(Bytes::from_static(piece.as_bytes()))))
            .collect();
        let budget = Budget::new(budget);
        let mut memory_permit = budget.permit();
        let body = StreamBody::new(tokio_stream::iter(frames));
        let read = read(
            body,
            (max_bytes, false),
            later(),
            &mut memory_permit,
            |_| {},
        )
        .await;
        assert_eq!(
            read,
            expected.map(Bytes::from),
            "{pieces:?} within {max_bytes}"
        );
        assert!(
            memory_permit.bytes() <= max_bytes,
            "held {} of {max_bytes}",
            memory_permit.bytes()
        );
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_bound_and_never_beyond() {
        check(&[], 0, 0, Ok("")).await;
        check(&["abc", "de"], 5, 100, Ok("abcde")).await;
        check(&["abc", "", "def"], 5, 100, Err(BodyFault::TooLarge(5))).await;
        check(&["a"], 0, 100, Err(BodyFault::TooLarge(0))).await;
        check(&["abc", "de"], 100, 4, Err(BodyFault::NoRoom)).await;
    }

    #[tokio::test]
    async fn a_declared_length_over_the_bound_is_refused_before_a_byte_is_held() {
        let budget = Budget::new(100);
        let mut memory_permit = budget.permit();
        let body = Full::new(Bytes::from_static(b"abcdef"));
        let read = read(body, (5, false), later(), &mut memory_permit, |_| {}).await;
        assert_eq!(
            (read.err(), memory_permit.bytes()),
            (Some(BodyFault::TooLarge(5)), 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let budget = Budget::new(100);
        let body = StreamBody::new(tokio_stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        assert_eq!(
            read(body, (5, false), later(), &mut budget.permit(), |_| {}).await,
            Err(BodyFault::TimedOut)
        );
    }

    #[tokio::test]
    async fn every_growth_is_told() {
        let frames = ["abc", "", "de"].map(|piece| {
            Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(piece.as_bytes())))
        });
        let (budget, mut told) = (Budget::new(100), Vec::new());
        let body = StreamBody::new(tokio_stream::iter(frames));
        let read = read(body, (9, false), later(), &mut budget.permit(), |bytes| {
            told.push(bytes)
        })
        .await;
        assert_eq!((read, told), (Ok("abcde".into()), vec![3, 3, 5]));
    }

    /// The number of times that a body of these frames is moved, and the most memory held for it.
    async fn moves(declared: u32, frames: usize, frame_bytes: usize) -> (usize, usize) {
        let mut first = vec![0];
        first.extend(u32::to_be_bytes(declared));
        first.resize(frame_bytes, 0);
        let rest = std::iter::repeat_n(vec![0; frame_bytes], frames - 1);
        let all = std::iter::once(first).chain(rest);
        let all = all.map(|data| Ok::<_, std::io::Error>(Frame::data(Bytes::from(data))));
        let budget = Budget::new(64 << 20);
        let (mut permit, mut sizes) = (budget.permit(), Vec::new());
        let body = StreamBody::new(tokio_stream::iter(all));
        read(body, (32 << 20, true), later(), &mut permit, |_| {
            if sizes.last() != Some(&budget.used()) {
                sizes.push(budget.used());
            }
        })
        .await
        .unwrap();
        (sizes.len() - 1, sizes.iter().copied().max().unwrap())
    }

    #[tokio::test]
    async fn a_body_without_a_length_leaves_little_spare_memory() {
        let all = std::iter::repeat_n(Bytes::from(vec![7; 64 << 10]), 17);
        let all = all.map(|data| Ok::<_, std::io::Error>(Frame::data(data)));
        let mut permit = Budget::new(64 << 20).permit();
        let body = StreamBody::new(tokio_stream::iter(all));
        let read = read(body, (32 << 20, false), later(), &mut permit, |_| {});
        let read = Vec::from(read.await.unwrap());
        assert_eq!(read.len(), 17 * (64 << 10));
        assert!(read.capacity() <= read.len() + read.len() / MAX_SPARE_PART);
    }

    #[tokio::test]
    async fn a_long_message_is_moved_once_and_a_short_part_of_one_holds_little() {
        let declared = 5 * (1 << 20) - 5;
        assert_eq!(moves(declared, 20, 256 << 10).await, (1, 5 << 20));
        // A sender that stops after 2 MiB of 4 GiB holds eight times as much at most.
        let (_, reserved) = moves(u32::MAX, 8, 256 << 10).await;
        assert!(reserved <= 16 << 20, "{reserved}");
    }

    #[tokio::test]
    async fn room_is_made_at_once_for_what_a_message_says_that_it_is_long() {
        for (says, framed, expected) in [
            (20, true, 25),
            (20, false, 7),
            (1 << 30, true, MAX_PREALLOCATED_BYTES),
            (0, true, 7),
        ] {
            let mut text = vec![0];
            text.extend(u32::to_be_bytes(says));
            text.extend(b"ab");
            let budget = Budget::new(8 << 20);
            let mut memory_permit = budget.permit();
            let frame = Ok::<_, std::io::Error>(Frame::data(Bytes::from(text)));
            let body = StreamBody::new(tokio_stream::iter([frame]));
            let read = read(body, (4 << 20, framed), later(), &mut memory_permit, |_| {}).await;
            assert_eq!(read.map(|body| body.len()), Ok(7));
            assert_eq!(memory_permit.bytes(), expected, "{says} {framed}");
        }
    }
}
