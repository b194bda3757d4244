//! Statuses of gRPC calls, and what each means: a fault, a server without time or connection, or a
//! client error of the server.

use std::error::Error as _;

use tensorgate_judge::protocol_adapter::ProtocolAdapter;
use tensorgate_net::http2::connection::DialError;
use tokio::time::Instant;
use tonic::{Code, Status};

use super::{BackendError, Rejection};

/// The most characters of a backend's error text in the log.
pub(super) const MAX_MESSAGE_CHARS: usize = 2_048;

/// Awaits a response until the deadline and classifies failures.
pub(super) async fn within<T>(
    deadline: Instant,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, BackendError> {
    classified_within(deadline, answer, classify).await
}

/// As [`within`], for an inference: a client error of the server is the client's.
pub(super) async fn infer_within<T>(
    protocol: ProtocolAdapter,
    deadline: Instant,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, BackendError> {
    let classify = |status: &Status, late| classify_inference(protocol, status, late);
    classified_within(deadline, answer, classify).await
}

async fn classified_within<T>(
    deadline: Instant,
    answer: impl Future<Output = Result<tonic::Response<T>, Status>>,
    classify: impl Fn(&Status, bool) -> BackendError,
) -> Result<T, BackendError> {
    match tokio::time::timeout_at(deadline, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(classify(&status, Instant::now() >= deadline)),
        Err(_) => Err(BackendError::Timeout(
            "no answer within the deadline".to_owned(),
        )),
    }
}

/// Classifies the status of an inference: a client error of the server is the client's.
pub(super) fn classify_inference(
    protocol: ProtocolAdapter,
    status: &Status,
    late: bool,
) -> BackendError {
    match classify(status, late) {
        // Only the server itself causes a fault, or this side by a status that is no client error.
        BackendError::Fault(cause) => match Rejection::from_grpc(protocol, status) {
            Some(rejection) => BackendError::Rejected(rejection),
            None => BackendError::Fault(cause),
        },
        error => error,
    }
}

/// Classifies a status. A status with a source comes from this side of the connection, one without
/// comes from the server.
pub(super) fn classify(status: &Status, late: bool) -> BackendError {
    let cause = match status.source() {
        // No server has sent a code.
        Some(_) => describe(status),
        None => format!("{:?}: {}", status.code(), describe(status)),
    };
    match status.code() {
        _ if late => BackendError::Timeout(cause),
        Code::DeadlineExceeded => BackendError::Timeout(cause),
        _ if caused_by(status, is_closed) => BackendError::Unsent(cause),
        // The server is reachable over an intact connection, and ended only this call.
        _ if caused_by(status, is_reset) => BackendError::Busy(cause),
        _ if status.source().is_some() => BackendError::Unavailable(cause),
        Code::Unavailable => BackendError::Busy(cause),
        _ => BackendError::Fault(cause),
    }
}

/// Whether an error has a cause with this property.
fn caused_by(
    error: &dyn std::error::Error,
    is: impl Fn(&(dyn std::error::Error + 'static)) -> bool,
) -> bool {
    let mut next = error.source();
    while let Some(cause) = next {
        if is(cause) {
            return true;
        }
        next = cause.source();
    }
    false
}

/// A stream was reset.
fn is_reset(error: &(dyn std::error::Error + 'static)) -> bool {
    let error: Option<&h2::Error> = error.downcast_ref();
    error.is_some_and(h2::Error::is_reset)
}

/// The channel has lost its connection.
fn is_closed(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(DialError::Closed))
}

/// An error with all of its causes, shortened because a server chooses part of the text.
fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // The text of many errors ends with that of their cause.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.chars().take(MAX_MESSAGE_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_the_server_is_told_from_one_of_the_connection() {
        let ours = Status::from_error("connection reset".into());
        let cases = [
            (
                ours,
                false,
                BackendError::Unavailable("connection reset".to_owned()),
            ),
            (
                Status::unknown("x"),
                false,
                BackendError::Fault("Unknown: x".to_owned()),
            ),
            (
                Status::invalid_argument("x"),
                false,
                BackendError::Fault("InvalidArgument: x".to_owned()),
            ),
            (
                Status::unavailable("x"),
                false,
                BackendError::Busy("Unavailable: x".to_owned()),
            ),
            (
                Status::deadline_exceeded("x"),
                false,
                BackendError::Timeout("DeadlineExceeded: x".to_owned()),
            ),
            (
                Status::cancelled("x"),
                true,
                BackendError::Timeout("Cancelled: x".to_owned()),
            ),
            (
                Status::from_error(DialError::Closed.into()),
                false,
                BackendError::Unsent("the connection is lost".to_owned()),
            ),
        ];
        for (status, late, expected) in cases {
            assert_eq!(classify(&status, late), expected);
        }
    }
}
