//! The status of a denial, and when the client may come again. The statuses of a model server's
//! client errors, which the client gets, too.

use super::{Denial, GrpcStatus};

/// Whole seconds after which a request that got 503 may be sent again, where nothing more precise
/// is known. What causes a 503 is probed, restarted or free again within about this time.
pub const UNAVAILABLE_RETRY_S: u64 = 1;
/// HTTP's status of a service that is unavailable for a time.
const UNAVAILABLE: u16 = 503;

/// The status of a client error of a model server. The set is closed, because a compromised server
/// chooses one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientErrorStatus {
    /// 400, `INVALID_ARGUMENT`.
    BadRequest,
    /// 404, `NOT_FOUND`.
    NotFound,
    /// 413, `RESOURCE_EXHAUSTED`.
    ContentTooLarge,
    /// 422, `FAILED_PRECONDITION`.
    UnprocessableContent,
    /// 429, `RESOURCE_EXHAUSTED`.
    TooManyRequests,
}

impl ClientErrorStatus {
    /// The client error with this HTTP status. Others are faults of the gate or of the server: 401
    /// and 403 concern the gate's own credential.
    pub const fn from_http(status: u16) -> Option<Self> {
        Some(match status {
            400 => Self::BadRequest,
            404 => Self::NotFound,
            413 => Self::ContentTooLarge,
            422 => Self::UnprocessableContent,
            429 => Self::TooManyRequests,
            _ => return None,
        })
    }

    /// HTTP status.
    pub const fn http(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NotFound => 404,
            Self::ContentTooLarge => 413,
            Self::UnprocessableContent => 422,
            Self::TooManyRequests => 429,
        }
    }

    /// gRPC status.
    pub const fn grpc(self) -> GrpcStatus {
        match self {
            Self::BadRequest => GrpcStatus::InvalidArgument,
            Self::NotFound => GrpcStatus::NotFound,
            Self::UnprocessableContent => GrpcStatus::FailedPrecondition,
            Self::ContentTooLarge | Self::TooManyRequests => GrpcStatus::ResourceExhausted,
        }
    }
}

impl Denial {
    /// HTTP status of a REST response: the server's own, or the reason's.
    pub fn http_status(&self) -> u16 {
        self.server_status
            .map_or(self.reason.http_status(), ClientErrorStatus::http)
    }

    /// The gRPC status: the server's own, or the reason's.
    pub fn grpc_status(&self) -> GrpcStatus {
        self.server_status
            .map_or(self.reason.grpc_status(), ClientErrorStatus::grpc)
    }

    /// Whole seconds after which the same request may be sent again, as callers read it. Every 503
    /// has some.
    pub fn wait_s(&self) -> Option<u64> {
        let is_unavailable = self.http_status() == UNAVAILABLE;
        self.retry_after_s
            .or(is_unavailable.then_some(UNAVAILABLE_RETRY_S))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denial::Reason;

    #[test]
    fn only_these_statuses_of_a_server_are_the_clients() {
        for status in 0..=999 {
            let found = ClientErrorStatus::from_http(status);
            let expected = matches!(status, 400 | 404 | 413 | 422 | 429);
            assert_eq!(found.is_some(), expected, "{status}");
            if let Some(found) = found {
                assert_eq!(found.http(), status);
                let denial = Denial {
                    server_status: Some(found),
                    ..Denial::new(Reason::BackendRejected, "cause")
                };
                assert_eq!(denial.http_status(), status);
                assert_eq!(denial.grpc_status(), found.grpc());
            }
        }
        let denial = Denial::new(Reason::BackendRejected, "cause");
        assert_eq!(denial.http_status(), 400);
        assert_eq!(denial.grpc_status(), GrpcStatus::InvalidArgument);
    }
}
