//! When a check is repeated that failed for another cause than the files.

use std::time::{Duration, Instant};

use crate::status::{Cause, Status};

/// The pause before the first repetition. Each later pause is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause. A check may read many gigabytes.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// When the next check is due, if the files do not change before.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    /// The pause before that check.
    pause: Duration,
    /// `None` if no check is due.
    due: Option<Instant>,
}

impl Retry {
    /// Plans the next check when a status is set.
    pub fn plan(&mut self, status: &Status, now: Instant) {
        let is_repeated = matches!(
            status,
            Status::Rejected(Cause::Untrusted(_) | Cause::Other(_))
        );
        *self = if is_repeated {
            let pause = self.pause.saturating_mul(2);
            let pause = pause.clamp(FIRST_PAUSE, LONGEST_PAUSE);
            let due = now.checked_add(pause);
            Self { pause, due }
        } else {
            Self::default()
        };
    }

    /// Whether the check is due at this time.
    pub fn is_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| due <= now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn pauses_become_longer_until_the_cause_is_gone() {
        let later = |now: Instant, seconds| now.checked_add(Duration::from_secs(seconds)).unwrap();
        let failed = Status::Rejected(Cause::Other("the disk is full".to_owned()));
        let rejected = Status::Rejected(Cause::Files("tampered".to_owned()));
        let (mut retry, mut now) = (Retry::default(), Instant::now());
        for pause in [10_u64, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600] {
            retry.plan(&failed, now);
            let before = pause.saturating_sub(1);
            assert!(!retry.is_due(later(now, before)), "{pause}");
            now = later(now, pause);
            assert!(retry.is_due(now), "{pause}");
        }
        retry.plan(&rejected, now);
        assert!(!retry.is_due(later(now, 1_000_000)));
        retry.plan(&failed, now);
        assert!(retry.is_due(later(now, 10)));
    }
}
