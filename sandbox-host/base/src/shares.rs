//! Fair sharing of a resource that is not queued for: memory, admission slots.
//!
//! No client may have more than a fixed part of it. Once others are active, no client may have more
//! than a multiple of what is left either (dynamic thresholds, Choudhury and Hahne, as in switch
//! buffers). A flooding client is stopped while there is room for others, and several flooding
//! clients converge to equal shares.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::time::Instant;

use crate::client_key::ClientKey;

/// A client counts as active for this time after a request.
const RECENT: Duration = Duration::from_secs(60);
/// A client may have this many times what is left: seven eighths at most.
const TIMES_LEFT: usize = 7;

/// The last active client and the last different one. These two suffice to tell whether other
/// clients are active.
#[derive(Debug, Default)]
pub struct RecentClients {
    last: Option<(ClientKey, Instant)>,
    other: Option<(ClientKey, Instant)>,
}

impl RecentClients {
    /// Records a request of a client.
    pub fn record(&mut self, client_key: ClientKey, now: Instant) {
        if let Some(last) = self.last.filter(|(last, _)| *last != client_key) {
            self.other = Some(last);
        }
        self.last = Some((client_key, now));
    }

    /// Whether other clients are active.
    pub fn has_others(&self, client_key: ClientKey, now: Instant) -> bool {
        let other = |asked: &Option<(ClientKey, Instant)>| {
            asked.is_some_and(|(who, when)| {
                who != client_key && now.saturating_duration_since(when) < RECENT
            })
        };
        other(&self.last) || other(&self.other)
    }
}

/// The share of each client. Clients without a share are not listed.
#[derive(Debug, Default)]
pub struct Shares {
    used: usize,
    /// Divisor for the part of one client's requests together; `None`: all.
    client_divisor: Option<NonZeroUsize>,
    clients: HashMap<ClientKey, Share>,
    lately: RecentClients,
}

#[derive(Debug, Default)]
struct Share {
    has: usize,
    /// The number of requests that hold the share.
    requests: usize,
}

impl Shares {
    /// Shares of a resource of which one client's requests get a part, even if it is alone.
    pub(crate) fn with_client_divisor(divisor: NonZeroUsize) -> Self {
        Self {
            client_divisor: Some(divisor),
            ..Self::default()
        }
    }

    /// The total of all shares.
    pub const fn used(&self) -> usize {
        self.used
    }

    /// Gives `more` to a request of a client that has `had` so far. Returns `false` and changes
    /// nothing if there is not enough, or if the rest is left to others.
    pub fn acquire(
        &mut self,
        client_key: ClientKey,
        (had, more): (usize, usize),
        total: usize,
        now: Instant,
    ) -> bool {
        if had == 0 {
            self.lately.record(client_key, now);
        }
        let Some(used) = self.used.checked_add(more).filter(|used| *used <= total) else {
            return false;
        };
        let share = self.clients.get(&client_key);
        let has = share.map_or(0, |share| share.has).saturating_add(more);
        let before = share.map_or(0, |share| share.requests);
        // A client's only request is limited by the total alone, because the policy allows requests
        // of that size.
        let only = before <= usize::from(had > 0);
        let alone = || {
            let others = self.clients.len() > usize::from(before > 0);
            !others && !self.lately.has_others(client_key, now)
        };
        let left = total.saturating_sub(used);
        let crowds_others = || has > left.saturating_mul(TIMES_LEFT) && !alone();
        let per_client = self.client_divisor.map_or(total, |divisor| total / divisor);
        if !only && (has > per_client || crowds_others()) {
            return false;
        }
        self.used = used;
        if more > 0 {
            let share = self.clients.entry(client_key).or_default();
            share.has = has;
            share.requests = share.requests.saturating_add(usize::from(had == 0));
        }
        true
    }

    /// Takes `less` back from a request that has `had`.
    pub fn release(&mut self, client_key: ClientKey, (had, less): (usize, usize)) {
        self.used = self.used.saturating_sub(less);
        let Some(share) = self.clients.get_mut(&client_key) else {
            return;
        };
        share.has = share.has.saturating_sub(less);
        if less > 0 && less >= had {
            share.requests = share.requests.saturating_sub(1);
        }
        if share.requests == 0 {
            self.clients.remove(&client_key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clients() -> [ClientKey; 3] {
        ["a", "b", "c"].map(|name| ClientKey::from_name(Some(name)))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_counts_as_active_for_a_minute() {
        let [a, b, c] = clients();
        let mut lately = RecentClients::default();
        let asked =
            |lately: &RecentClients| [a, b, c].map(|who| lately.has_others(who, Instant::now()));
        assert_eq!(asked(&lately), [false; 3]);
        lately.record(a, Instant::now());
        lately.record(a, Instant::now());
        assert_eq!(asked(&lately), [false, true, true]);
        tokio::time::advance(Duration::from_secs(40)).await;
        lately.record(b, Instant::now());
        lately.record(b, Instant::now());
        assert_eq!(asked(&lately), [true; 3]);
        tokio::time::advance(Duration::from_secs(20)).await;
        assert_eq!(asked(&lately), [true, false, true]);
        tokio::time::advance(Duration::from_secs(40)).await;
        assert_eq!(asked(&lately), [false; 3]);
    }

    /// Gives a client requests of one unit each until it gets no more. Returns their number.
    fn fill(shares: &mut Shares, client_key: ClientKey, total: usize) -> usize {
        let mut got = 0_usize;
        while shares.acquire(client_key, (0, 1), total, Instant::now()) {
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
            !shares.acquire(b, (0, 1), 80, Instant::now()),
            "nothing is left"
        );
        (0..80).for_each(|_| shares.release(a, (1, 1)));
        assert_eq!(fill(&mut shares, a, 80), 70, "another has asked");
        assert_eq!(fill(&mut shares, b, 80), 8);
        assert!(
            shares.acquire(c, (0, 2), 80, Instant::now()),
            "its only request"
        );
        assert!(!shares.acquire(c, (0, 1), 80, Instant::now()));
        shares.release(c, (2, 2));
        // Another flooding client converges to the same share.
        for _ in 0..1_000 {
            shares.release(a, (1, 1));
            fill(&mut shares, b, 80);
            fill(&mut shares, a, 80);
            shares.release(b, (1, 1));
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
        assert!(shares.acquire(a, (0, 5), 10, Instant::now()));
        assert!(shares.acquire(b, (0, 1), 10, Instant::now()));
        assert!(
            shares.acquire(a, (5, 4), 10, Instant::now()),
            "its only one"
        );
        assert!(!shares.acquire(b, (1, 1), 10, Instant::now()));
        assert_eq!(shares.used(), 10);
        shares.release(a, (9, 3));
        shares.release(a, (6, 6));
        shares.release(b, (1, 0));
        assert_eq!((shares.used(), shares.clients.len()), (1, 1));
        shares.release(b, (1, 1));
        assert_eq!((shares.used(), shares.clients.len()), (0, 0));
    }
}
