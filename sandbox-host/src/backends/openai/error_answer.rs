//! Reads a client error of a server, whose body may be long, slow or endless.

use std::time::Duration;

use tensorgate_net::http1::AnswerBody;
use tensorgate_net::http1::client::Answer;
use tensorgate_policy::denial::ClientErrorStatus;

use crate::backends::rejection::{MAX_BODY_BYTES, ServerKind};
use crate::backends::{BackendError, Rejection};

/// The longest time for the body. A slow server must not keep a slot until the deadline.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The client error, by the start of its body. What has arrived in time decides.
pub(super) async fn read(
    kind: ServerKind,
    status: ClientErrorStatus,
    answer: Answer,
) -> BackendError {
    let Answer {
        head,
        mut body,
        lease: _lease,
    } = answer;
    let mut start = Vec::new();
    // A text that is cut may have another category of the list, and no more than that.
    let _ = tokio::time::timeout(TIMEOUT, fill(&mut start, &mut body)).await;
    BackendError::Rejected(Rejection::from_http(kind, status, &head.headers, &start))
}

/// Reads at most [`MAX_BODY_BYTES`] of a body. One that ends before lets its connection be kept.
async fn fill(start: &mut Vec<u8>, body: &mut AnswerBody) {
    while let Some(Ok(data)) = body.data().await {
        let room = MAX_BODY_BYTES.saturating_sub(start.len());
        start.extend_from_slice(data.get(..room).unwrap_or(&data));
        if start.len() >= MAX_BODY_BYTES {
            return;
        }
    }
}
