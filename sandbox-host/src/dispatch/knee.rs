//! How many requests may be at a backend at once, learnt. Up to some number each more raises what it gets done; past it each more only makes all of them
//! slower. That knee is looked for by trying: a step up is kept as long as it pays, a step down as long as it costs nothing.
//!
//! What counts is how many answers came in a time, never how long one took: a server that works on several requests as one batch takes longer for each
//! of them and gets more done.

use std::time::Duration;

use tokio::time::Instant;

/// Of the limit, the part that a step is.
const STEP: usize = 5;
/// A step pays if what gets done grows by at least this part of what the limit grew by.
const PAYS: u128 = 4;
/// Answers of one look, for each request that may be there: fewer say little.
const ANSWERS: usize = 4;
/// Answers of one look at least.
const LEAST_ANSWERS: usize = 64;
/// A look takes at least as long.
const LEAST_LOOK: Duration = Duration::from_millis(200);
/// Of the answers of a look, the part at most that may come while there was room for more requests: what was not used says nothing.
const UNUSED: usize = 10;
/// Looks between two tries where the limit can go no further.
const REST: u32 = 8;

/// One backend's limit and what is known of it.
#[derive(Debug)]
pub(super) struct Knee {
    least: usize,
    most: usize,
    limit: usize,
    look: Look,
    /// What the look before found.
    before: Option<Found>,
    /// Looks since the limit was at its end.
    rested: u32,
}

#[derive(Debug)]
struct Look {
    since: Instant,
    answers: usize,
    unused: usize,
}

#[derive(Clone, Copy, Debug)]
struct Found {
    limit: usize,
    /// Answers in a thousand seconds.
    rate: u128,
}

/// Where the next look is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

impl Look {
    const fn new(now: Instant) -> Self {
        Self {
            since: now,
            answers: 0,
            unused: 0,
        }
    }
}

impl Knee {
    /// One that has learnt nothing: the limit is what the policy has at most.
    pub(super) fn new(least: usize, most: usize, now: Instant) -> Self {
        let most = most.max(1);
        Self {
            least: least.clamp(1, most),
            most,
            limit: most,
            look: Look::new(now),
            before: None,
            rested: 0,
        }
    }

    /// How many may be there.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// An answer came. `in_use`: as many were there as may be.
    pub(super) fn answered(&mut self, in_use: bool, now: Instant) {
        let look = &mut self.look;
        look.answers = look.answers.saturating_add(1);
        look.unused = look.unused.saturating_add(usize::from(!in_use));
        let enough = self.limit.saturating_mul(ANSWERS).max(LEAST_ANSWERS);
        let took = now.saturating_duration_since(look.since);
        if look.answers < enough || took < LEAST_LOOK {
            return;
        }
        let found = Found {
            limit: self.limit,
            rate: rate(look.answers, took),
        };
        let unused = look.unused.saturating_mul(UNUSED) > look.answers;
        self.look = Look::new(now);
        if unused {
            self.before = None;
            return;
        }
        let way = self.before.map_or(Way::Down, |before| next(before, found));
        self.before = Some(found);
        self.go(way);
    }

    /// The backend took too much on: a request was late, or refused because it is busy.
    pub(super) fn overloaded(&mut self, now: Instant) {
        // Those that were there together are one occasion.
        let since = now.saturating_duration_since(self.look.since);
        if self.before.is_none() && since < LEAST_LOOK {
            return;
        }
        self.look = Look::new(now);
        self.before = None;
        self.limit = self.limit.saturating_sub(self.step()).max(self.least);
    }

    fn step(&self) -> usize {
        self.limit.div_euclid(STEP).max(1)
    }

    fn go(&mut self, way: Way) {
        let step = self.step();
        let to = match way {
            Way::Up => self.limit.saturating_add(step).min(self.most),
            Way::Down => self.limit.saturating_sub(step).max(self.least),
        };
        if to != self.limit {
            self.limit = to;
            self.rested = 0;
            return;
        }
        // At an end: the other way is tried now and then.
        self.rested = self.rested.saturating_add(1);
        if self.rested >= REST {
            self.rested = 0;
            self.limit = match way {
                Way::Up => self.limit.saturating_sub(step).max(self.least),
                Way::Down => self.limit.saturating_add(step).min(self.most),
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

/// Where it goes after two looks.
fn next(before: Found, now: Found) -> Way {
    let (small, large) = if before.limit < now.limit {
        (before, now)
    } else {
        (now, before)
    };
    // (large.rate - small.rate) / small.rate against (large.limit - small.limit) / small.limit.
    let size = |limit: usize| u128::try_from(limit).unwrap_or(u128::MAX);
    let gained = large
        .rate
        .saturating_sub(small.rate)
        .saturating_mul(size(small.limit))
        .saturating_mul(PAYS);
    let grown = size(large.limit)
        .saturating_sub(size(small.limit))
        .saturating_mul(small.rate);
    if gained >= grown && large.rate > small.rate {
        Way::Up
    } else {
        Way::Down
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers of a server that gets `rate(n)` done in a second with `n` there, for as many looks; the limits that were tried.
    fn run(knee: &mut Knee, looks: usize, rate: impl Fn(usize) -> f64) -> Vec<usize> {
        let mut now = knee.look.since;
        let mut limits = Vec::new();
        for _ in 0..looks {
            let limit = knee.limit();
            limits.push(limit);
            let pace = Duration::from_secs_f64(1.0 / rate(limit));
            let since = knee.look.since;
            while knee.look.since == since {
                now = now.checked_add(pace).unwrap_or(now);
                knee.answered(true, now);
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
            let mut knee = Knee::new(1, 256, Instant::now());
            // Each request takes 20 ms; what is beyond the workers waits there.
            let rate = |there: usize| 50.0 * as_f64(there.min(workers));
            run(&mut knee, 40, rate);
            let limits = run(&mut knee, 40, rate);
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
        // A batch takes 20 ms and 1 ms for each request: what it gets done rises with every one, less and less.
        let rate = |there: usize| as_f64(there) / (0.020 + 0.001 * as_f64(there));
        let mut knee = Knee::new(1, 256, Instant::now());
        run(&mut knee, 40, rate);
        let limits = run(&mut knee, 40, rate);
        let mean = limits.iter().sum::<usize>().checked_div(limits.len());
        // Where one more in a hundred gets a quarter more of one in a hundred done: at sixty.
        assert!(
            mean.is_some_and(|mean| (40..=85).contains(&mean)),
            "{limits:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_knee_that_moves_is_found_again() {
        let mut knee = Knee::new(1, 64, Instant::now());
        run(&mut knee, 40, |there| 50.0 * as_f64(there.min(4)));
        assert!(knee.limit() < 8, "{}", knee.limit());
        let limits = run(&mut knee, 60, |there| 50.0 * as_f64(there.min(48)));
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
        let mut knee = Knee::new(1, 100, start);
        for ms in 0..10_000 {
            knee.answered(ms % 5 == 0, at(ms));
        }
        assert_eq!(knee.limit(), 100);
        (0..50).for_each(|_| knee.overloaded(at(20_000)));
        assert_eq!(knee.limit(), 80);
        knee.overloaded(at(20_300));
        assert_eq!(knee.limit(), 64);
        (0..100).for_each(|second| knee.overloaded(at(21_000 + second * 1_000)));
        assert_eq!(knee.limit(), 1);
    }
}
