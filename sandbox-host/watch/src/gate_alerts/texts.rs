//! What alerts about the gate say: what has begun, what to do, and what has ended.

use crate::conditions::ConditionKind;

/// The texts of a kind of condition.
pub(super) struct Texts {
    /// What has begun. Its cause follows.
    pub(super) what: &'static str,
    /// What to do.
    pub(super) advice: &'static str,
    /// What has ended.
    pub(super) over: &'static str,
}

/// The texts of a kind.
pub(super) const fn texts(kind: ConditionKind) -> Texts {
    match kind {
        ConditionKind::ModelUnready => Texts {
            what: "is not ready",
            advice: "Requests for it are denied. `tensorgate status` lists what is not ready.",
            over: "is ready again",
        },
        ConditionKind::BackendAway => Texts {
            what: "takes no requests",
            advice: "Check its process and the network to it. The gate tries it again by itself.",
            over: "takes requests again",
        },
        ConditionKind::CircuitOpen => Texts {
            what: "is open",
            advice: "Requests that need it are denied until a probe succeeds.",
            over: "is closed again",
        },
        ConditionKind::ClientBlocked => Texts {
            what: "is blocked or throttled",
            advice: "`tensorgate block --list` says until when.",
            over: "is no longer blocked or throttled",
        },
        ConditionKind::AuditFailing => Texts {
            what: "cannot be written",
            advice: "Unless the policy says otherwise, requests are denied until it can be. Free \
                     its disk, or repair its folder.",
            over: "is written again",
        },
        ConditionKind::PolicyNotInForce => Texts {
            what: "is not in force",
            advice: "The gate goes on with what it has. `tensorgate check` explains faults.",
            over: "is in force, or was taken back",
        },
        ConditionKind::ScannerFailed => Texts {
            what: "could not be scanned",
            advice: "Its new files are not served before a scan ends.",
            over: "was scanned",
        },
        ConditionKind::ModelRejected => Texts {
            what: "was rejected",
            advice: "Its files may have been changed. Compare them with the manifest before \
                     you sign them again.",
            over: "is no longer rejected",
        },
        ConditionKind::LimitServiceAway => Texts {
            what: "does not answer",
            advice: "Shared limits follow `on_failure` of the policy meanwhile.",
            over: "answers again",
        },
    }
}

/// What a part of the gate is, before its subject. Other subjects say it themselves.
pub(super) const fn part(kind: ConditionKind) -> &'static str {
    match kind {
        ConditionKind::CircuitOpen => "circuit of ",
        ConditionKind::AuditFailing => "audit log ",
        ConditionKind::PolicyNotInForce => "policy file ",
        ConditionKind::LimitServiceAway => "rate limit service ",
        ConditionKind::BackendAway
        | ConditionKind::ModelUnready
        | ConditionKind::ClientBlocked
        | ConditionKind::ScannerFailed
        | ConditionKind::ModelRejected => "",
    }
}
