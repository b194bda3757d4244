//! Maps Envoy's own replies to denial reasons. The rendered `local_reply_config` and the audit log
//! use the same table.

use tensorgate_policy::Reason;

/// The details of the filter's own replies.
pub const OURS: &str = "tensorgate";

/// The response code details of Envoy that a row matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Details {
    /// One of these.
    Are(&'static [&'static str]),
    /// With this prefix, or one of these.
    Begin(&'static str, &'static [&'static str]),
    /// With this prefix.
    Of(&'static str),
    /// Any, with a client error status.
    OfTheClient,
    /// Any.
    Any,
}

/// The first matching row counts. The last one matches the rest: a trapped VM, an overloaded Envoy,
/// and details of later versions.
pub const REASONS: [(Reason, Details); 9] = [
    (
        Reason::HeaderTooLarge,
        Details::Are(&["http1.headers_too_large", "http1.too_many_headers"]),
    ),
    (
        Reason::BodyTooLarge,
        Details::Are(&["request_payload_too_large"]),
    ),
    (
        Reason::BackendTimeout,
        Details::Are(&["response_timeout", "upstream_per_try_timeout"]),
    ),
    // A request that does not arrive in time is not complete.
    (
        Reason::Malformed,
        Details::Are(&[
            "stream_idle_timeout",
            "request_header_timeout",
            "request_overall_timeout",
            "max_duration_timeout",
        ]),
    ),
    (
        Reason::BackendUnavailable,
        Details::Begin("upstream", &["no_healthy_upstream", "cluster_not_found"]),
    ),
    (
        Reason::NotAnInferenceRoute,
        Details::Are(&["route_not_found", "absolute_path_rejected"]),
    ),
    // Envoy's own filter, if it is installed before the gate.
    (
        Reason::Unauthenticated,
        Details::Of("jwt_authn_access_denied"),
    ),
    // Framing, hosts, paths and header names that are ambiguous; upgrades; HTTP/1.0.
    (Reason::AmbiguousRequest, Details::OfTheClient),
    (Reason::Overloaded, Details::Any),
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

/// The reason for one of Envoy's own replies.
pub fn reason(details: &str, status: u16) -> Reason {
    let row = REASONS.iter().find(|(_, matches)| match matches {
        Details::Are(all) => all.contains(&details),
        Details::Begin(start, all) => details.starts_with(start) || all.contains(&details),
        Details::Of(start) => details.starts_with(start),
        Details::OfTheClient => status < 500 || status == 501,
        Details::Any => true,
    });
    row.map_or(Reason::Overloaded, |(reason, _)| *reason)
}
