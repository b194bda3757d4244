//! Adaptive concurrency limit for a backend.
//!
//! Throughput rises with the number of requests in flight up to some point. Beyond it, more
//! requests only add latency. The limit finds this point by trial: a step up is kept while
//! throughput rises, a step down while throughput does not fall.
//!
//! Latency is not used as a signal, because batching servers trade it for throughput.

use std::time::Duration;

use tokio::time::Instant;

/// A step is this fraction of the limit.
const STEP_FRACTION: usize = 5;
/// A step up pays if throughput grows by at least this fraction of the relative growth of the
/// limit.
const MIN_GAIN_FRACTION: u128 = 4;
/// Responses per window for each permitted request. Fewer say little.
const RESPONSES_PER_SLOT: usize = 4;
/// The minimum number of responses per window.
const MIN_RESPONSES: usize = 64;
/// The minimum length of a window.
const MIN_WINDOW: Duration = Duration::from_millis(200);
/// The largest fraction of a window's responses that may arrive while the limit was not reached. A
/// limit that is not used cannot be measured.
const MAX_UNUSED_FRACTION: usize = 10;
/// Windows between two trials in the other direction when the limit is at its minimum or maximum.
const TRIAL_INTERVAL: u32 = 8;

/// The limit of one backend, with the measurements behind it.
#[derive(Debug)]
pub(super) struct AdaptiveLimit {
    min: usize,
    max: usize,
    limit: usize,
    window: Window,
    /// The result of the previous window.
    previous: Option<Measurement>,
    /// Windows since the limit reached its minimum or maximum.
    windows_at_bound: u32,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    responses: usize,
    unsaturated: usize,
}

#[derive(Clone, Copy, Debug)]
struct Measurement {
    limit: usize,
    /// Responses in a thousand seconds.
    rate: u128,
}

/// The direction of the next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Up,
    Down,
}

impl Window {
    const fn new(now: Instant) -> Self {
        Self {
            since: now,
            responses: 0,
            unsaturated: 0,
        }
    }
}

impl AdaptiveLimit {
    /// Creates a limit that starts at the policy's maximum.
    pub(super) fn new(least: usize, most: usize, now: Instant) -> Self {
        let most = most.max(1);
        Self {
            min: least.clamp(1, most),
            max: most,
            limit: most,
            window: Window::new(now),
            previous: None,
            windows_at_bound: 0,
        }
    }

    /// The current limit.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Records a response. `saturated` says whether the limit was reached.
    pub(super) fn on_response(&mut self, saturated: bool, now: Instant) {
        let look = &mut self.window;
        look.responses = look.responses.saturating_add(1);
        look.unsaturated = look.unsaturated.saturating_add(usize::from(!saturated));
        let enough = self
            .limit
            .saturating_mul(RESPONSES_PER_SLOT)
            .max(MIN_RESPONSES);
        let took = now.saturating_duration_since(look.since);
        if look.responses < enough || took < MIN_WINDOW {
            return;
        }
        let found = Measurement {
            limit: self.limit,
            rate: rate(look.responses, took),
        };
        let unused = look.unsaturated.saturating_mul(MAX_UNUSED_FRACTION) > look.responses;
        self.window = Window::new(now);
        if unused {
            self.previous = None;
            return;
        }
        let way = self
            .previous
            .map_or(Direction::Down, |before| next_direction(before, found));
        self.previous = Some(found);
        self.step_to(way);
    }

    /// Records that the backend was overloaded: a request timed out, or the backend was busy.
    pub(super) fn on_overload(&mut self, now: Instant) {
        // Requests that were in flight together count as one overload.
        let since = now.saturating_duration_since(self.window.since);
        if self.previous.is_none() && since < MIN_WINDOW {
            return;
        }
        self.window = Window::new(now);
        self.previous = None;
        self.limit = self.limit.saturating_sub(self.step()).max(self.min);
    }

    fn step(&self) -> usize {
        self.limit.div_euclid(STEP_FRACTION).max(1)
    }

    fn step_to(&mut self, way: Direction) {
        let step = self.step();
        let to = match way {
            Direction::Up => self.limit.saturating_add(step).min(self.max),
            Direction::Down => self.limit.saturating_sub(step).max(self.min),
        };
        if to != self.limit {
            self.limit = to;
            self.windows_at_bound = 0;
            return;
        }
        // At the minimum or maximum, the other direction is tried now and then.
        self.windows_at_bound = self.windows_at_bound.saturating_add(1);
        if self.windows_at_bound >= TRIAL_INTERVAL {
            self.windows_at_bound = 0;
            self.limit = match way {
                Direction::Up => self.limit.saturating_sub(step).max(self.min),
                Direction::Down => self.limit.saturating_add(step).min(self.max),
            };
        }
    }
}

fn rate(answers: usize, took: Duration) -> u128 {
    let answers = u128::try_from(answers).unwrap_or(u128::MAX);
    let nanos = took.as_nanos().max(1);
    answers
        .saturating_mul(1_000_000_000_000)
        .checked_div(nanos)
        .unwrap_or(0)
}

/// The direction of the next step after two windows.
fn next_direction(before: Measurement, now: Measurement) -> Direction {
    let (small, large) = if before.limit < now.limit {
        (before, now)
    } else {
        (now, before)
    };
    // Compares (large.rate - small.rate) / small.rate with (large.limit - small.limit) /
    // small.limit.
    let size = |limit: usize| u128::try_from(limit).unwrap_or(u128::MAX);
    let gained = large
        .rate
        .saturating_sub(small.rate)
        .saturating_mul(size(small.limit))
        .saturating_mul(MIN_GAIN_FRACTION);
    let grown = size(large.limit)
        .saturating_sub(size(small.limit))
        .saturating_mul(small.rate);
    if gained >= grown && large.rate > small.rate {
        Direction::Up
    } else {
        Direction::Down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the responses of a server with throughput `rate(n)` at `n` requests in flight, for
    /// this many windows. Returns the limits that were tried.
    fn run(
        adaptive_limit: &mut AdaptiveLimit,
        looks: usize,
        rate: impl Fn(usize) -> f64,
    ) -> Vec<usize> {
        let mut now = adaptive_limit.window.since;
        let mut limits = Vec::new();
        for _ in 0..looks {
            let limit = adaptive_limit.limit();
            limits.push(limit);
            let pace = Duration::from_secs_f64(1.0 / rate(limit));
            let since = adaptive_limit.window.since;
            while adaptive_limit.window.since == since {
                now = now.checked_add(pace).unwrap_or(now);
                adaptive_limit.on_response(true, now);
            }
        }
        limits
    }

    fn as_f64(number: usize) -> f64 {
        u32::try_from(number).map_or(f64::MAX, f64::from)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_of_so_many_workers_gets_about_as_many_and_loses_nothing() {
        for workers in [4, 16, 40] {
            let mut adaptive_limit = AdaptiveLimit::new(1, 256, Instant::now());
            // Each request takes 20 ms. Requests beyond the workers wait at the server.
            let rate = |there: usize| 50.0 * as_f64(there.min(workers));
            run(&mut adaptive_limit, 40, rate);
            let limits = run(&mut adaptive_limit, 40, rate);
            let mean = limits.iter().sum::<usize>().checked_div(limits.len());
            let mean = mean.unwrap_or(0);
            assert!(
                (workers.saturating_mul(7).div_euclid(10)
                    ..=workers.saturating_mul(14).div_ceil(10))
                    .contains(&mean),
                "{workers} workers: {limits:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_works_in_batches_keeps_what_makes_them_worth_it() {
        // A batch takes 20 ms plus 1 ms for each request, so throughput rises with each request,
        // less and less.
        let rate = |there: usize| as_f64(there) / (0.020 + 0.001 * as_f64(there));
        let mut adaptive_limit = AdaptiveLimit::new(1, 256, Instant::now());
        run(&mut adaptive_limit, 40, rate);
        let limits = run(&mut adaptive_limit, 40, rate);
        let mean = limits.iter().sum::<usize>().checked_div(limits.len());
        // At sixty requests, 1 % more requests bring a quarter of 1 % more throughput.
        assert!(
            mean.is_some_and(|mean| (40..=85).contains(&mean)),
            "{limits:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_knee_that_moves_is_found_again() {
        let mut adaptive_limit = AdaptiveLimit::new(1, 64, Instant::now());
        run(&mut adaptive_limit, 40, |there| 50.0 * as_f64(there.min(4)));
        assert!(adaptive_limit.limit() < 8, "{}", adaptive_limit.limit());
        let limits = run(&mut adaptive_limit, 60, |there| {
            50.0 * as_f64(there.min(48))
        });
        assert!(limits.iter().any(|limit| *limit >= 40), "{limits:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_in_use_says_nothing_and_overload_is_one_step_at_a_time() {
        let start = Instant::now();
        let at = |ms: u64| {
            start
                .checked_add(Duration::from_millis(ms))
                .unwrap_or(start)
        };
        let mut adaptive_limit = AdaptiveLimit::new(1, 100, start);
        for ms in 0..10_000 {
            adaptive_limit.on_response(ms % 5 == 0, at(ms));
        }
        assert_eq!(adaptive_limit.limit(), 100);
        (0..50).for_each(|_| adaptive_limit.on_overload(at(20_000)));
        assert_eq!(adaptive_limit.limit(), 80);
        adaptive_limit.on_overload(at(20_300));
        assert_eq!(adaptive_limit.limit(), 64);
        (0..100).for_each(|second| adaptive_limit.on_overload(at(21_000 + second * 1_000)));
        assert_eq!(adaptive_limit.limit(), 1);
    }
}
