//! When a failed webhook is sent again: after pauses that double, with jitter. So hosts that failed
//! together do not return together.

use std::time::Duration;

use ring::rand::{SecureRandom as _, SystemRandom};

/// The attempts of an alert.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The most attempts.
    pub attempts: u32,
    /// The longest time of an attempt.
    pub timeout: Duration,
    /// The pause after the first attempt. Each next pause is twice as long.
    pub first: Duration,
    /// The longest pause.
    pub longest: Duration,
}

impl Default for Schedule {
    /// Ten attempts within about ten minutes.
    fn default() -> Self {
        Self {
            attempts: 10,
            timeout: Duration::from_secs(10),
            first: Duration::from_secs(1),
            longest: Duration::from_secs(256),
        }
    }
}

impl Schedule {
    /// The pause after this many failed attempts: a random one between half and all of it.
    pub(super) fn pause(&self, failed: u32) -> Duration {
        let mut random = [0];
        let is_filled = SystemRandom::new().fill(&mut random).is_ok();
        // Without a random number, the pause has its whole length.
        let [random] = if is_filled { random } else { [u8::MAX] };
        self.pause_with(failed, random)
    }

    fn pause_with(&self, failed: u32, random: u8) -> Duration {
        let doubled = 1_u32.checked_shl(failed.saturating_sub(1));
        let pause = self.first.saturating_mul(doubled.unwrap_or(u32::MAX));
        let half = pause.min(self.longest).checked_div(2).unwrap_or_default();
        let more = half.saturating_mul(u32::from(random));
        let more = more.checked_div(u32::from(u8::MAX)).unwrap_or_default();
        half.saturating_add(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound_and_half_of_each_is_random() {
        let schedule = Schedule::default();
        for (failed, random, expected_ms) in [
            (1, 0, 500),
            (1, 255, 1_000),
            (2, 255, 2_000),
            (4, 0, 4_000),
            (9, 255, 256_000),
            (10, 255, 256_000),
            (33, 255, 256_000),
            (u32::MAX, 255, 256_000),
        ] {
            let pause = schedule.pause_with(failed, random);
            assert_eq!(pause, Duration::from_millis(expected_ms), "{failed}");
        }
    }
}
