//! External processors for Envoy's `ext_proc`. One reads headers and body and changes nothing, as
//! the lower bound of the cost of reading a body. The other makes the gate's checks.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming};
use prost::Message as _;
use tensorgate_policy::Denial;
use tensorgate_wire::context;
use tokio::sync::mpsc;

use super::checks::{Checks, Field, Held};
use super::messages::{
    Answered, Asked, CommonResponse, HeaderMutation, HeaderValue, HeaderValueOption, HttpHeaders,
    HttpStatus, ImmediateResponse, OVERWRITE_OR_ADD, PartResponse, ProcessingRequest,
    ProcessingResponse,
};
use super::{Body, CREDENTIAL, FRAME_HEAD_BYTES, framed, grpc_head, ok_trailers};
use crate::outcome::{Failure, Outcome};

/// Capacity of the reply channel: Envoy has one message in flight at a time.
const REPLIES: usize = 4;

/// Replies to each message on the same stream and changes nothing.
pub(super) async fn answer(request: Request<Incoming>) -> Outcome<Response<Body>> {
    Ok(converse(request, |message| unchanged(&message)))
}

/// Replies to each message with a decision.
pub(super) async fn decide(checks: Checks, request: Request<Incoming>) -> Outcome<Response<Body>> {
    let mut held = None;
    Ok(converse(request, move |message| {
        judge(&checks, &mut held, message)
    }))
}

/// Passes each message to `reply` and sends what it returns.
fn converse(
    request: Request<Incoming>,
    mut reply: impl FnMut(Bytes) -> Option<Bytes> + Send + 'static,
) -> Response<Body> {
    let (replies, queue) = mpsc::channel(REPLIES);
    let mut body = request.into_body();
    tokio::spawn(async move {
        let mut held = BytesMut::new();
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(data) = frame.into_data() else {
                continue;
            };
            held.extend_from_slice(&data);
            while let Some(message) = next_message(&mut held) {
                let Some(reply) = reply(message) else {
                    continue;
                };
                if replies.send(Frame::data(reply)).await.is_err() {
                    return;
                }
            }
        }
        // The stream may be closed already.
        let _ = replies.send(Frame::trailers(ok_trailers())).await;
    });
    grpc_head(Replies(queue).boxed_unsync())
}

/// Removes a whole message from the front of the buffer.
fn next_message(held: &mut BytesMut) -> Option<Bytes> {
    let length: [u8; 4] = held.get(1..FRAME_HEAD_BYTES)?.try_into().ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
    if held.len() < FRAME_HEAD_BYTES.saturating_add(length) {
        return None;
    }
    held.advance(FRAME_HEAD_BYTES);
    Some(held.split_to(length).freeze())
}

/// A `ProcessingResponse` that changes nothing. The first field of the `ProcessingRequest` selects
/// its kind.
fn unchanged(message: &[u8]) -> Option<Bytes> {
    Some(Bytes::from_static(match message.first()? {
        // request_headers (2): HeadersResponse (1). response_headers (3): HeadersResponse (2).
        0x12 => &[0, 0, 0, 0, 2, 0x0a, 0],
        0x1a => &[0, 0, 0, 0, 2, 0x12, 0],
        // request_body (4): BodyResponse (3). response_body (5): BodyResponse (4).
        0x22 => &[0, 0, 0, 0, 2, 0x1a, 0],
        0x2a => &[0, 0, 0, 0, 2, 0x22, 0],
        // request_trailers (6): TrailersResponse (5). response_trailers (7): TrailersResponse (6).
        0x32 => &[0, 0, 0, 0, 2, 0x2a, 0],
        0x3a => &[0, 0, 0, 0, 2, 0x32, 0],
        _ => return None,
    }))
}

/// Judges the head, then its body. Messages in another order get no reply, and Envoy then rejects
/// the request.
fn judge(checks: &Checks, held: &mut Option<Held>, message: Bytes) -> Option<Bytes> {
    let answered = match ProcessingRequest::decode(message).ok()?.asked? {
        Asked::Headers(headers) => match checks.head(&fields(headers)) {
            Ok(head) => {
                *held = Some(head);
                Answered::Headers(PartResponse::default())
            }
            Err(denial) => refused(&denial),
        },
        Asked::Body(body) => match checks.body(held.take()?, &body.body) {
            Ok(context) => Answered::Body(signed(context)),
            Err(denial) => refused(&denial),
        },
    };
    let response = ProcessingResponse {
        answered: Some(answered),
    };
    Some(Bytes::from(framed(&response.encode_to_vec())))
}

fn fields(headers: HttpHeaders) -> Vec<Field> {
    let headers = headers.headers.unwrap_or_default().headers;
    let field = |header: HeaderValue| {
        // A string or bytes, depending on Envoy's configuration.
        let value = if header.raw_value.is_empty() {
            header.value.into_bytes()
        } else {
            header.raw_value.to_vec()
        };
        (header.key, value)
    };
    headers.into_iter().map(field).collect()
}

/// Forwards the head with the signed context and without the key.
fn signed(context: String) -> PartResponse {
    let header = HeaderValue {
        key: context::HEADER.to_owned(),
        value: String::new(),
        raw_value: Bytes::from(context),
    };
    PartResponse {
        response: Some(CommonResponse {
            header_mutation: Some(HeaderMutation {
                set_headers: vec![HeaderValueOption {
                    header: Some(header),
                    append_action: OVERWRITE_OR_ADD,
                }],
                remove_headers: vec![CREDENTIAL.to_owned()],
            }),
        }),
    }
}

fn refused(denial: &Denial) -> Answered {
    Answered::Refused(ImmediateResponse {
        status: Some(HttpStatus {
            code: i32::from(denial.reason.http_status()),
        }),
    })
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
