//! What clients have of something that all of them share and nobody waits for: bytes, places at the door. As long as one client alone asks it may
//! have all of it. Once others ask too, none may have more than a multiple of what is left, as switches share their buffers (dynamic thresholds,
//! Choudhury and Hahne): who floods is stopped while there is room for others, and as many as flood come to have the same.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::dispatch::Whose;

/// Somebody asks still if it did so within this time.
const LATELY: Duration = Duration::from_secs(60);
/// A client may have so many times what is left: seven eighths at most.
const TIMES_LEFT: usize = 7;

/// Who asked of late: the last one, and the last one but for that. More need not be known to tell whether anybody asks beside a client.
#[derive(Debug, Default)]
pub(crate) struct Lately {
    last: Option<(Whose, Instant)>,
    other: Option<(Whose, Instant)>,
}

impl Lately {
    /// A client asks.
    pub(crate) fn asks(&mut self, whose: Whose, now: Instant) {
        if let Some(last) = self.last.filter(|(last, _)| *last != whose) {
            self.other = Some(last);
        }
        self.last = Some((whose, now));
    }

    /// Whether others do.
    pub(crate) fn others(&self, whose: Whose, now: Instant) -> bool {
        let other = |asked: &Option<(Whose, Instant)>| {
            asked.is_some_and(|(who, when)| {
                who != whose && now.saturating_duration_since(when) < LATELY
            })
        };
        other(&self.last) || other(&self.other)
    }
}

/// What each client has. Nobody who has nothing is in it.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    used: usize,
    clients: HashMap<Whose, Share>,
    lately: Lately,
}

#[derive(Debug, Default)]
struct Share {
    has: usize,
    /// Requests that it has it by.
    requests: usize,
}

impl Shares {
    /// What all of them have.
    pub(crate) const fn used(&self) -> usize {
        self.used
    }

    /// Gives `more` to one request of a client, which has `had` so far; `false`, and nothing changes, where that is not there or is left to others.
    pub(crate) fn give(
        &mut self,
        whose: Whose,
        (had, more): (usize, usize),
        total: usize,
        now: Instant,
    ) -> bool {
        if had == 0 {
            self.lately.asks(whose, now);
        }
        let Some(used) = self.used.checked_add(more).filter(|used| *used <= total) else {
            return false;
        };
        let share = self.clients.get(&whose);
        let has = share.map_or(0, |share| share.has).saturating_add(more);
        let before = share.map_or(0, |share| share.requests);
        // Its only request is bounded by what there is: the policy lets it be as large.
        let only = before <= usize::from(had > 0);
        let alone = || {
            let others = self.clients.len() > usize::from(before > 0);
            !others && !self.lately.others(whose, now)
        };
        let left = total.saturating_sub(used);
        if has > left.saturating_mul(TIMES_LEFT) && !only && !alone() {
            return false;
        }
        self.used = used;
        if more > 0 {
            let share = self.clients.entry(whose).or_default();
            share.has = has;
            share.requests = share.requests.saturating_add(usize::from(had == 0));
        }
        true
    }

    /// Takes `less` back from a request that has `had`.
    pub(crate) fn take_back(&mut self, whose: Whose, (had, less): (usize, usize)) {
        self.used = self.used.saturating_sub(less);
        let Some(share) = self.clients.get_mut(&whose) else {
            return;
        };
        share.has = share.has.saturating_sub(less);
        if less > 0 && less >= had {
            share.requests = share.requests.saturating_sub(1);
        }
        if share.requests == 0 {
            self.clients.remove(&whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> [Whose; 3] {
        ["a", "b", "c"].map(|name| Whose::of(Some(name)))
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asked_within_a_minute_asks_still() {
        let [a, b, c] = clients();
        let mut lately = Lately::default();
        let asked = |lately: &Lately| [a, b, c].map(|who| lately.others(who, Instant::now()));
        assert_eq!(asked(&lately), [false; 3]);
        lately.asks(a, Instant::now());
        lately.asks(a, Instant::now());
        assert_eq!(asked(&lately), [false, true, true]);
        tokio::time::advance(Duration::from_secs(40)).await;
        lately.asks(b, Instant::now());
        lately.asks(b, Instant::now());
        assert_eq!(asked(&lately), [true; 3]);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(asked(&lately), [true, false, true]);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(asked(&lately), [false; 3]);
    }

    /// Gives a client requests of one each until it gets no more.
    fn fill(shares: &mut Shares, whose: Whose, total: usize) -> usize {
        let mut got = 0_usize;
        while shares.give(whose, (0, 1), total, Instant::now()) {
            got = got.saturating_add(1);
        }
        got
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_has_all_and_who_is_not_leaves_something() {
        let [a, b, c] = clients();
        let mut shares = Shares::default();
        assert_eq!(fill(&mut shares, a, 80), 80);
        assert!(
            !shares.give(b, (0, 1), 80, Instant::now()),
            "nothing is left"
        );
        (0..80).for_each(|_| shares.take_back(a, (1, 1)));
        assert_eq!(fill(&mut shares, a, 80), 70, "another has asked");
        assert_eq!(fill(&mut shares, b, 80), 8);
        assert!(
            shares.give(c, (0, 2), 80, Instant::now()),
            "its only request"
        );
        assert!(!shares.give(c, (0, 1), 80, Instant::now()));
        shares.take_back(c, (2, 2));
        // Who floods as well comes to have the same.
        for _ in 0..1_000 {
            shares.take_back(a, (1, 1));
            fill(&mut shares, b, 80);
            fill(&mut shares, a, 80);
            shares.take_back(b, (1, 1));
            fill(&mut shares, a, 80);
            fill(&mut shares, b, 80);
        }
        let has = |who| shares.clients.get(&who).map_or(0, |share| share.has);
        assert!(has(a).abs_diff(has(b)) <= 8, "{} {}", has(a), has(b));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_given_back_is_forgotten_to_the_last() {
        let [a, b, _] = clients();
        let mut shares = Shares::default();
        assert!(shares.give(a, (0, 5), 10, Instant::now()));
        assert!(shares.give(b, (0, 1), 10, Instant::now()));
        assert!(shares.give(a, (5, 4), 10, Instant::now()), "its only one");
        assert!(!shares.give(b, (1, 1), 10, Instant::now()));
        assert_eq!(shares.used(), 10);
        shares.take_back(a, (9, 3));
        shares.take_back(a, (6, 6));
        shares.take_back(b, (1, 0));
        assert_eq!((shares.used(), shares.clients.len()), (1, 1));
        shares.take_back(b, (1, 1));
        assert_eq!((shares.used(), shares.clients.len()), (0, 0));
    }
}
