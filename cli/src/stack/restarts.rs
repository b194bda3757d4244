//! When a process that has ended is started again, and when the gate gives up. A state machine over
//! times; it starts nothing itself.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Delay before the second restart. The first one is immediate, and each further delay doubles.
const FIRST_DELAY: Duration = Duration::from_millis(250);
/// Longest delay.
const MAX_DELAY: Duration = Duration::from_secs(5);
/// Time without an end after which the next restart is immediate again.
const QUIET: Duration = Duration::from_secs(60);
/// Ends of the required processes within [`WINDOW`] after which the gate ends.
pub const MAX_ENDS: usize = 5;
/// The time in which these ends are counted.
pub const WINDOW: Duration = Duration::from_secs(60);

/// The delays before the restarts of one process.
#[derive(Debug, Default)]
pub struct Backoff {
    /// Time of the last end, and the delay after it.
    last: Option<(Instant, Duration)>,
}

impl Backoff {
    /// The delay before the restart after an end.
    pub fn delay(&mut self, now: Instant) -> Duration {
        let delay = match self.last {
            Some((at, before)) if now.saturating_duration_since(at) < QUIET => {
                before.saturating_mul(2).clamp(FIRST_DELAY, MAX_DELAY)
            }
            _ => Duration::ZERO,
        };
        self.last = Some((now, delay));
        delay
    }
}

/// The recent ends of the required processes, all of them together.
#[derive(Debug, Default)]
pub struct EndBudget(VecDeque<Instant>);

impl EndBudget {
    /// Counts an end. Returns whether the gate goes on.
    pub fn count(&mut self, now: Instant) -> bool {
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= WINDOW;
        while self.0.front().is_some_and(is_old) {
            self.0.pop_front();
        }
        self.0.push_back(now);
        self.0.len() < MAX_ENDS
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_restart_is_immediate_and_delays_double_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let mut delays: Vec<u128> = Vec::new();
        for _ in 0..8 {
            delays.push(backoff.delay(Instant::now()).as_millis());
            advance(QUIET.saturating_sub(Duration::from_millis(1))).await;
        }
        assert_eq!(delays, [0, 250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        advance(Duration::from_millis(1)).await;
        assert_eq!(backoff.delay(Instant::now()), Duration::ZERO);
        assert_eq!(backoff.delay(Instant::now()), FIRST_DELAY);
    }

    #[tokio::test(start_paused = true)]
    async fn the_fifth_end_within_a_minute_is_the_last() {
        // Seconds between two ends, and which end is the last one.
        for (gap, last) in [(0, Some(5)), (14, Some(5)), (15, None), (40, None)] {
            let mut budget = EndBudget::default();
            let mut found = None;
            for end in 1..=20 {
                if !budget.count(Instant::now()) {
                    found = Some(end);
                    break;
                }
                advance(Duration::from_secs(gap)).await;
            }
            assert_eq!(found, last, "one each {gap} s");
        }
    }
}
