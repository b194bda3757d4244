//! Summaries of rejected requests of unknown callers, so that a flood of them cannot displace other
//! records from a log whose files are limited.
//!
//! In a minute the first rejections of a source have records of their own. Further ones are
//! counted, and one record at the end of the minute has their number. All sources together have a
//! limit too. Beyond it two kinds still have records, so that cheap requests hide neither: the
//! first few of a source ([`RESERVED_RECORDS`]), and those for the management of a server. So a
//! flood from many sources writes about 750 records a minute: less than 750 KiB.
//!
//! Of many sources the most frequent ones keep their summaries (the algorithm Space-Saving): a
//! source that a guesser uses cannot hide behind others that send one request each.
//!
//! A rejection that names a verified client is never summarised. Pure: time is an argument.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use tensorgate_base::rfc3339::rfc3339;
use tensorgate_base::source_host::source_host;
use tensorgate_policy::Reason;
use tensorgate_policy::request::management::managed_server;

use crate::record::{By, Decision, Rejections, Verdict, lenient_path};

/// The most rejections of one source with records of their own in a minute.
pub(super) const FULL_RECORDS: u32 = 60;
/// The same for all sources together.
pub(super) const MAX_FULL_RECORDS: u32 = 300;
/// Rejections of a source that have records although the limit of all sources is used up.
const RESERVED_RECORDS: u32 = 4;
/// The same for all sources together.
const MAX_RESERVED_RECORDS: u32 = 256;
/// The most rejected requests of one source for the management of a server that have records of
/// their own, beside the others: what an attacker tried to reach.
const MANAGEMENT_RECORDS: u32 = 8;
/// The same for all sources together.
const MAX_MANAGEMENT_RECORDS: u32 = 128;
/// The most sources with a summary of their own in a minute: the most frequent ones. Others share
/// one.
pub(super) const MAX_SOURCES: usize = 64;
/// The most reasons in a summary. Reasons are from a fixed table, except those of a filter of
/// another release.
const MAX_REASONS: usize = 16;
/// The reason under which further ones are counted.
const OTHER_REASON: &str = "other";
/// The time that a summary covers.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The rejections of the current minute.
#[derive(Debug, Default)]
pub(super) struct RejectionSummaries {
    /// When the minute began: with its first rejection.
    began: Option<Instant>,
    full_records: u32,
    reserved_records: u32,
    management_records: u32,
    sources: HashMap<IpAddr, Tally>,
    /// Requests without an address, and sources that gave way to others.
    others: Tally,
}

/// The rejections of a source.
#[derive(Debug, Default)]
struct Tally {
    full_records: u32,
    management_records: u32,
    /// The number of its rejections, and at its first one the rank of the source that gave way to
    /// it. So the rank is never below the number in this minute.
    rank: u64,
    summarised: Option<(Rejections, Span)>,
}

/// When the first and the last request of a summary began.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: SystemTime,
    last: SystemTime,
}

impl RejectionSummaries {
    /// Whether a record is only counted. The caller has taken what was [`Self::due`].
    pub(super) fn absorbs(&mut self, decision: &Decision, time: SystemTime, now: Instant) -> bool {
        if !is_of_unknown_caller(decision) {
            return false;
        }
        self.began = self.began.or(Some(now));
        let address: Option<IpAddr> = decision.source.as_deref().and_then(|it| it.parse().ok());
        let source = address.map(source_host);
        let rank = source.map_or(0, |source| self.make_room_for(source));
        let tally = match source {
            Some(source) => self.sources.entry(source).or_insert_with(|| Tally {
                rank,
                ..Tally::default()
            }),
            None => &mut self.others,
        };
        tally.rank = tally.rank.saturating_add(1);
        let has_room = tally.full_records < FULL_RECORDS && self.full_records < MAX_FULL_RECORDS;
        let is_reserved = source.is_some()
            && tally.full_records < RESERVED_RECORDS
            && self.reserved_records < MAX_RESERVED_RECORDS;
        if has_room || is_reserved {
            tally.full_records = tally.full_records.saturating_add(1);
            let used = if has_room {
                &mut self.full_records
            } else {
                &mut self.reserved_records
            };
            *used = used.saturating_add(1);
            return false;
        }
        if tally.management_records < MANAGEMENT_RECORDS
            && self.management_records < MAX_MANAGEMENT_RECORDS
            && is_for_management(decision)
        {
            tally.management_records = tally.management_records.saturating_add(1);
            self.management_records = self.management_records.saturating_add(1);
            return false;
        }
        tally.add(decision, time);
        true
    }

    /// Where a new source finds no room, the one with the lowest rank gives way to it. Returns the
    /// rank that the new source begins with.
    fn make_room_for(&mut self, source: IpAddr) -> u64 {
        if self.sources.len() < MAX_SOURCES || self.sources.contains_key(&source) {
            return 0;
        }
        let ranks = self.sources.iter().map(|(it, tally)| (tally.rank, *it));
        let Some((rank, lowest)) = ranks.min() else {
            return 0;
        };
        if let Some(tally) = self.sources.remove(&lowest) {
            self.others.merge(tally);
        }
        rank
    }

    /// The summaries of a minute that is over.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Rejections> {
        let is_over = |began| now.saturating_duration_since(began) >= WINDOW;
        if self.began.is_some_and(is_over) {
            self.take()
        } else {
            Vec::new()
        }
    }

    /// The summaries so far, the largest first. Another minute begins.
    pub(super) fn take(&mut self) -> Vec<Rejections> {
        let Self {
            sources, others, ..
        } = std::mem::take(self);
        let of_sources = sources
            .into_iter()
            .filter_map(|(source, tally)| tally.summary(Some(source)));
        let mut summaries: Vec<Rejections> = of_sources.chain(others.summary(None)).collect();
        summaries.sort_by(|one, other| {
            let by_count = other.count.cmp(&one.count);
            by_count.then_with(|| one.source.cmp(&other.source))
        });
        summaries
    }
}

impl Tally {
    fn add(&mut self, decision: &Decision, time: SystemTime) {
        let span = Span {
            first: time,
            last: time,
        };
        self.count(span, &decision.reason, 1, decision.request_id.as_ref());
    }

    /// Adds what was summarised of another source.
    fn merge(&mut self, other: Self) {
        let Some((summary, span)) = other.summarised else {
            return;
        };
        for (reason, count) in &summary.reasons {
            self.count(span, reason, *count, summary.sample.as_ref());
        }
    }

    fn count(&mut self, of: Span, reason: &str, count: u64, sample: Option<&String>) {
        let (summary, span) = self
            .summarised
            .get_or_insert_with(|| (Rejections::default(), of));
        // Envoy reports a request when it ends, so they do not arrive in the order of their times.
        span.first = span.first.min(of.first);
        span.last = span.last.max(of.last);
        summary.count = summary.count.saturating_add(count);
        let is_listed = summary.reasons.len() < MAX_REASONS || summary.reasons.contains_key(reason);
        let reason = if is_listed { reason } else { OTHER_REASON };
        let of_reason = summary.reasons.entry(reason.to_owned()).or_default();
        *of_reason = of_reason.saturating_add(count);
        if summary.sample.is_none() {
            summary.sample = sample.cloned();
        }
    }

    fn summary(self, source: Option<IpAddr>) -> Option<Rejections> {
        let (summary, span) = self.summarised?;
        Some(Rejections {
            source: source.map(|source| match source {
                IpAddr::V4(address) => address.to_string(),
                IpAddr::V6(network) => format!("{network}/64"),
            }),
            first: rfc3339(span.first),
            last: rfc3339(span.last),
            ..summary
        })
    }
}

/// Whether a request was rejected without a valid credential. A revoked credential names its
/// client, and proves nothing.
///
/// What the host rejects has passed the filter, so it is never summarised. Neither is what only
/// Envoy reports with the gate's ID: it may have a client that the host knows. In a mesh that logs
/// no filter state no record of the gate has a client, and the reason tells.
fn is_of_unknown_caller(decision: &Decision) -> bool {
    if decision.verdict == Verdict::Allow {
        return false;
    }
    let has_client = decision.client.is_some() || decision.credential.is_some();
    let reason = Reason::from_name(&decision.reason);
    match decision.by {
        By::Host => false,
        By::Envoy => !has_client && decision.request_id.is_none(),
        By::Gate if has_client => {
            matches!(reason, Some(Reason::Unauthenticated | Reason::LockedOut))
        }
        // The reasons that come before a caller is known.
        By::Gate => reason.is_some_and(|reason| reason <= Reason::LockedOut),
    }
}

/// Whether a request was for the management of an inference server, however it spells the path.
fn is_for_management(decision: &Decision) -> bool {
    let path = decision.path.as_deref().map(lenient_path);
    path.is_some_and(|path| managed_server(decision.method.as_deref(), &path).is_some())
}

#[cfg(test)]
mod tests;
