//! An external processor that reads headers and body and changes nothing: the least that Envoy's `ext_proc` can cost
//! whoever wants to see a body.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use tokio::sync::mpsc;

use super::{Body, FRAME_HEAD_BYTES, grpc_head, ok_trailers};
use crate::outcome::{Failure, Outcome};

/// Answers on their way: Envoy asks one thing at a time.
const REPLIES: usize = 4;

/// Answers each message as it comes, on the same stream.
pub(super) async fn answer(request: Request<Incoming>) -> Outcome<Response<Body>> {
    let (replies, queue) = mpsc::channel(REPLIES);
    tokio::spawn(converse(request.into_body(), replies));
    Ok(grpc_head(Replies(queue).boxed_unsync()))
}

async fn converse(mut body: Incoming, replies: mpsc::Sender<Frame<Bytes>>) {
    let mut held = BytesMut::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else {
            continue;
        };
        held.extend_from_slice(&data);
        while let Some(message) = next_message(&mut held) {
            let Some(reply) = reply(&message) else {
                continue;
            };
            if replies.send(Frame::data(reply)).await.is_err() {
                return;
            }
        }
    }
    // The stream may be gone.
    let _ = replies.send(Frame::trailers(ok_trailers())).await;
}

/// Takes a whole message off the front.
fn next_message(held: &mut BytesMut) -> Option<Bytes> {
    let length: [u8; 4] = held.get(1..FRAME_HEAD_BYTES)?.try_into().ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    if held.len() < FRAME_HEAD_BYTES.saturating_add(length) {
        return None;
    }
    held.advance(FRAME_HEAD_BYTES);
    Some(held.split_to(length).freeze())
}

/// `ProcessingResponse` with an empty answer to what a `ProcessingRequest` asks; its first field says which.
fn reply(message: &[u8]) -> Option<Bytes> {
    Some(Bytes::from_static(match message.first()? {
        // request_headers (2) → HeadersResponse (1); response_headers (3) → HeadersResponse (2).
        0x12 => &[0, 0, 0, 0, 2, 0x0a, 0],
        0x1a => &[0, 0, 0, 0, 2, 0x12, 0],
        // request_body (4) → BodyResponse (3); response_body (5) → BodyResponse (4).
        0x22 => &[0, 0, 0, 0, 2, 0x1a, 0],
        0x2a => &[0, 0, 0, 0, 2, 0x22, 0],
        // request_trailers (6) → TrailersResponse (5); response_trailers (7) → TrailersResponse (6).
        0x32 => &[0, 0, 0, 0, 2, 0x2a, 0],
        0x3a => &[0, 0, 0, 0, 2, 0x32, 0],
        _ => return None,
    }))
}

struct Replies(mpsc::Receiver<Frame<Bytes>>);

impl HttpBody for Replies {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        self.0.poll_recv(context).map(|frame| frame.map(Ok))
    }
}
