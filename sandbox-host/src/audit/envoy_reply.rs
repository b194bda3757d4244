//! Which of Envoy's own replies is which reason. One table: the rendered `local_reply_config` answers by it, the audit log
//! names by it.

use tensorgate_policy::Reason;

/// Details of the filter's own replies.
pub const OURS: &str = "tensorgate";

/// Which of Envoy's response code details a row is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Details {
    /// One of these.
    Are(&'static [&'static str]),
    /// Beginning so, or one of these.
    Begin(&'static str, &'static [&'static str]),
    /// Beginning so, whatever comes after.
    Of(&'static str),
    /// Any with a status that blames the client.
    OfTheClient,
    /// Any.
    Any,
}

/// The first row that matches counts. The last takes whatever is left: a trapped VM, a full Envoy, and what later versions
/// may think of.
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
    // A request that does not arrive in time is not a whole one.
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
    // Envoy's own filter in front of ours, where somebody put it there.
    (
        Reason::Unauthenticated,
        Details::Of("jwt_authn_access_denied"),
    ),
    // Framing, hosts, paths and header names that two readers could take in two ways; upgrades; HTTP/1.0.
    (Reason::AmbiguousRequest, Details::OfTheClient),
    (Reason::Overloaded, Details::Any),
];

/// Details of refusals that come before Envoy has given a request an id of ours: these, and all of its codecs'.
pub const NAMELESS: [&str; 7] = [
    "overload",
    "missing_path_rejected",
    "path_normalization_failed",
    "missing_host_header",
    "low_version",
    "absolute_path_rejected",
    "request_header_timeout",
];

/// What the codecs' details begin with.
pub const CODECS: [&str; 2] = ["http1.", "http2."];

/// Whether a request with these details may carry an id that is not ours.
pub fn nameless(details: &str) -> bool {
    NAMELESS.contains(&details) || CODECS.iter().any(|codec| details.starts_with(codec))
}

/// The reason of a reply of Envoy's own.
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
