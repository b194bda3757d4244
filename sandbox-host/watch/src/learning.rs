//! Which rules still learn what is usual: a rule needs requests in some minutes first.

use tensorgate_policy::values::WatchRule;

use crate::saved::saved;
use crate::time::Time;

/// A minute in seconds.
const MINUTE_S: u64 = 60;

/// The minutes with requests that a rule has seen.
#[derive(Debug, Default)]
pub(super) struct Learned {
    minutes: u64,
    latest: Option<u64>,
}

saved!(Learned { minutes });

impl Learned {
    /// Counts the minute of a request.
    pub(super) fn count(&mut self, now: Time) {
        let minute = now.window(MINUTE_S);
        if self.latest != Some(minute) {
            self.latest = Some(minute);
            self.minutes = self.minutes.saturating_add(1);
        }
    }

    /// Whether a rule cannot know yet what is usual for anyone.
    pub(super) const fn is_short(&self, rule: WatchRule) -> bool {
        match needed(rule) {
            Some(minutes) => self.minutes < minutes,
            None => false,
        }
    }
}

/// The minutes with requests that a rule needs before its first alert. `None` for a rule that needs
/// no such minutes.
const fn needed(rule: WatchRule) -> Option<u64> {
    match rule {
        WatchRule::Volume
        | WatchRule::Rejections
        | WatchRule::ServerErrors
        | WatchRule::Latency
        | WatchRule::ClassDominance => Some(30),
        WatchRule::NewSource
        | WatchRule::NewCredential
        | WatchRule::SprayingClients
        | WatchRule::NearBounds
        | WatchRule::Confidence => Some(60),
        WatchRule::PredictionDrift => Some(65),
        WatchRule::DormantCredential
        | WatchRule::SprayingSources
        | WatchRule::CredentialGuessing
        | WatchRule::Probing
        | WatchRule::Management
        | WatchRule::HandlerFaults
        | WatchRule::ModelUnready
        | WatchRule::BackendAway
        | WatchRule::CircuitOpen
        | WatchRule::ClientBlocked
        | WatchRule::AuditFailing
        | WatchRule::PolicyNotInForce
        | WatchRule::ScannerFailed
        | WatchRule::ModelRejected
        | WatchRule::LimitServiceAway => None,
    }
}
