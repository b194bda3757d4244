//! What a request that is rejected as overloaded lacked: the label of metrics and of log lines.

/// What a request lacked that is rejected with [`Reason::Overloaded`](super::Reason::Overloaded).
/// Several causes are no load: the gate cannot decide, and denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OverloadCause {
    /// The host's admission control refused it at its head.
    Admission,
    /// A worker of the proxy reads as many bodies as it finishes in time.
    Worker,
    /// There is no memory within `limits.buffered_bytes`, or for the messages of a stream.
    Memory,
    /// A backend's queue is full, or the wait in it would be too long.
    BackendQueue,
    /// A client with fewer requests in a backend's queue preempted it.
    Preempted,
    /// A handler's call did not run: its queue is full, or the wait too long.
    HandlerQueue,
    /// Too many fetches and lookups of handlers are in progress.
    Asks,
    /// Its audit record is not written.
    AuditLog,
    /// Filter and host have different policies.
    Policy,
    /// The host shuts down.
    ShuttingDown,
    /// Its token cannot be verified: the issuer's keys are unknown.
    Issuer,
    /// The rate limit service does not answer.
    RateLimitService,
    /// The store that the workers of a proxy share failed.
    Store,
    /// The proxy did not do what the filter requested.
    HostCall,
    /// The filter or its proxy is configured wrongly.
    Configuration,
    /// A bug of tensorgate.
    Internal,
}

impl OverloadCause {
    /// Every cause.
    pub const ALL: [Self; 16] = [
        Self::Admission,
        Self::Worker,
        Self::Memory,
        Self::BackendQueue,
        Self::Preempted,
        Self::HandlerQueue,
        Self::Asks,
        Self::AuditLog,
        Self::Policy,
        Self::ShuttingDown,
        Self::Issuer,
        Self::RateLimitService,
        Self::Store,
        Self::HostCall,
        Self::Configuration,
        Self::Internal,
    ];

    /// The name in metrics and logs. The detail of a rejection for load has the same words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admission => "admission",
            Self::Worker => "worker",
            Self::Memory => "memory",
            Self::BackendQueue => "shed",
            Self::Preempted => "gave-way",
            Self::HandlerQueue => "handler",
            Self::Asks => "asks",
            Self::AuditLog => "audit-log",
            Self::Policy => "policy",
            Self::ShuttingDown => "shutting-down",
            Self::Issuer => "issuer",
            Self::RateLimitService => "rate-limit-service",
            Self::Store => "store",
            Self::HostCall => "host-call",
            Self::Configuration => "configuration",
            Self::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::denial::{Denial, Reason};

    #[test]
    fn every_cause_has_a_name_of_its_own_that_envoys_stats_tags_parse() {
        let mut names: Vec<_> = OverloadCause::ALL.map(OverloadCause::name).into();
        let parsed = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
        assert!(
            names.iter().all(|name| name.bytes().all(parsed)),
            "{names:?}"
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), OverloadCause::ALL.len(), "{names:?}");
    }

    #[test]
    fn a_denial_has_such_a_cause_exactly_if_it_is_for_overload() {
        for reason in Reason::ALL {
            let denial = Denial::new(reason, "cause");
            let is_overload = reason == Reason::Overloaded;
            let unnamed = is_overload.then_some(OverloadCause::Internal);
            assert_eq!(denial.overload, unnamed, "{reason}");
            let named = denial.overloaded_by(OverloadCause::Memory);
            let expected = is_overload.then_some(OverloadCause::Memory);
            assert_eq!(named.overload, expected, "{reason}");
        }
    }
}
