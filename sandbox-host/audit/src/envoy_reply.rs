//! Maps Envoy's own replies to denial reasons. The rendered `local_reply_config` and the audit log
//! use the same table.

use tensorgate_policy::Reason;

/// The details of the filter's own replies.
pub const OURS: &str = "tensorgate";

/// The cause of replies in place of a filter without a configuration. Envoy leaves their details
/// empty.
pub(crate) const NO_CONFIGURATION: &str = "the filter has no configuration; Envoy's log says why";
/// Envoy's flag of such a reply.
pub(crate) const NO_CONFIGURATION_FLAG: &str = "NFCF";

/// The response code details of Envoy that a row matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Details {
    /// One of these.
    Are(&'static [&'static str]),
    /// With this prefix, or one of these.
    Begin(&'static str, &'static [&'static str]),
    /// With this prefix.
    Of(&'static str),
    /// None, in place of a filter without a configuration.
    NoConfiguration,
    /// Any, with a client error status.
    OfTheClient,
    /// Any.
    Any,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The reason.
    pub reason: Reason,
    /// The replies that have it.
    pub details: Details,
    /// What the sender has to change, where that is known.
    pub advice: Option<&'static str>,
}

const fn row(reason: Reason, details: Details) -> Row {
    Row {
        reason,
        details,
        advice: None,
    }
}

/// A row with advice for these details.
const fn advised(reason: Reason, details: &'static [&'static str], advice: &'static str) -> Row {
    Row {
        reason,
        details: Details::Are(details),
        advice: Some(advice),
    }
}

/// The first matching row counts. The last one matches the rest: a trapped VM, an overloaded Envoy,
/// and details of later versions.
pub static ROWS: [Row; 14] = [
    advised(
        Reason::HeaderTooLarge,
        &["http1.headers_too_large", "http1.too_many_headers"],
        "send fewer or shorter header fields",
    ),
    advised(
        Reason::HttpVersion,
        &["low_version"],
        "HTTP/1.0 is not served (in nginx: proxy_http_version 1.1)",
    ),
    advised(
        Reason::AmbiguousRequest,
        &["upgrade_failed"],
        "leave out the upgrade field: no other protocol is offered",
    ),
    advised(
        Reason::AmbiguousRequest,
        &[
            "http1.content_length_and_chunked_not_allowed",
            "http1.invalid_transfer_encoding",
        ],
        "send content-length or transfer-encoding: chunked, and not both",
    ),
    advised(
        Reason::AmbiguousRequest,
        &["http1.unexpected_underscore", "http2.unexpected_underscore"],
        "leave out header fields with an underscore in their name",
    ),
    row(
        Reason::BodyTooLarge,
        Details::Are(&["request_payload_too_large"]),
    ),
    row(
        Reason::BackendTimeout,
        Details::Are(&["response_timeout", "upstream_per_try_timeout"]),
    ),
    // A request that does not arrive in time is not complete.
    advised(
        Reason::Malformed,
        &[
            "stream_idle_timeout",
            "request_header_timeout",
            "request_overall_timeout",
            "max_duration_timeout",
        ],
        "it did not arrive in time",
    ),
    row(
        Reason::BackendUnavailable,
        Details::Begin("upstream", &["no_healthy_upstream", "cluster_not_found"]),
    ),
    row(
        Reason::NotAnInferenceRoute,
        Details::Are(&["route_not_found", "absolute_path_rejected"]),
    ),
    // Envoy's own filter, if it is installed before the gate.
    row(
        Reason::Unauthenticated,
        Details::Of("jwt_authn_access_denied"),
    ),
    // Its configuration was not delivered, or was rejected.
    row(Reason::Overloaded, Details::NoConfiguration),
    // Framing, hosts and paths that are ambiguous.
    row(Reason::AmbiguousRequest, Details::OfTheClient),
    row(Reason::Overloaded, Details::Any),
];

/// The details of rejections before Envoy creates the request ID: these, and all of its codecs'.
pub const NAMELESS: [&str; 7] = [
    "overload",
    "missing_path_rejected",
    "path_normalization_failed",
    "missing_host_header",
    "low_version",
    "absolute_path_rejected",
    "request_header_timeout",
];

/// The prefixes of the codecs' details.
pub const CODECS: [&str; 2] = ["http1.", "http2."];

impl Details {
    /// Whether all of these are of rejections before Envoy creates the request ID.
    pub fn are_nameless(self) -> bool {
        matches!(self, Self::Are(all) if all.iter().all(is_nameless))
    }

    /// Whether some of these may be such rejections.
    pub fn may_be_nameless(self) -> bool {
        match self {
            Self::Are(all) | Self::Begin(_, all) => all.iter().any(is_nameless),
            Self::Of(_) | Self::NoConfiguration => false,
            Self::OfTheClient | Self::Any => true,
        }
    }
}

/// Whether these are the details of a rejection before Envoy creates the request ID.
fn is_nameless(details: &&str) -> bool {
    NAMELESS.contains(details) || CODECS.iter().any(|codec| details.starts_with(codec))
}

/// The reason that a caller sees with this status from a filter, if there is only one. Blocked
/// clients and those whose model is unknown get theirs from the host.
pub(crate) fn only_reason(status: u16) -> Option<Reason> {
    let visible = |reason: &Reason| {
        reason.public_reason() == *reason
            && !matches!(reason, Reason::Blocked | Reason::BackendUnknownModel)
            && reason.http_status() == status
    };
    let mut reasons = Reason::ALL.into_iter().filter(visible);
    reasons.next().filter(|_| reasons.next().is_none())
}

/// The row of one of Envoy's own replies.
fn row_of(details: &str, status: u16) -> Option<&'static Row> {
    ROWS.iter().find(|row| match row.details {
        Details::Are(all) => all.contains(&details),
        Details::Begin(start, all) => details.starts_with(start) || all.contains(&details),
        Details::Of(start) => details.starts_with(start),
        Details::NoConfiguration => details == NO_CONFIGURATION,
        Details::OfTheClient => status < 500 || status == 501,
        Details::Any => true,
    })
}

/// The reason for one of Envoy's own replies.
pub fn reason(details: &str, status: u16) -> Reason {
    row_of(details, status).map_or(Reason::Overloaded, |row| row.reason)
}

/// The cause of one of Envoy's own replies, for the audit log.
pub(crate) fn cause(details: &str, status: u16) -> String {
    match row_of(details, status).and_then(|row| row.advice) {
        Some(advice) => format!("{details}: {advice}"),
        None => details.to_owned(),
    }
}
