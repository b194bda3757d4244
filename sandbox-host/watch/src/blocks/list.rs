//! The list of blocks as a state machine, with the time as an argument.
//!
//! Times of records are of the clock of the day, because gateways share them and they outlive a
//! restart. When a record is taken, what is left of it is measured by a clock that no one sets. So
//! a jump of the clock of the day neither ends a block nor prolongs it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::automatic::{ClientAlert, Response, Responses};
use super::record::{BlockAction, BlockRecord, BlockVersion, MAX_BLOCK_MS};

/// The most clients with records: those of a full file, and [`MAX_SHARED`] others. Few enough for
/// one response of the admin server.
const MAX_CLIENTS: usize = 320;
/// The most of them that only other gateways have named. Whatever Redis says, the file has room.
const MAX_SHARED: usize = 64;
/// A throttled client has one request in this many served.
const THROTTLE: u64 = 10;

/// The time, by both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The time of day in Unix milliseconds.
    pub unix_ms: u64,
    /// Milliseconds of a clock that no one sets.
    pub mono_ms: u64,
}

/// A record as the admin server lists it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ListedBlock {
    /// The record.
    pub block: BlockRecord,
    /// Whether it is in force.
    pub in_force: bool,
}

/// The latest record about each client.
#[derive(Debug, Default)]
pub struct BlockList {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    record: BlockRecord,
    /// Until when it is in force, by the clock that no one sets.
    ends_ms: u64,
    /// Until when it is kept, by the same clock.
    forgotten_ms: u64,
    /// Requests since it was taken.
    requests: u64,
    /// Whether only other gateways have named the client.
    is_shared: bool,
}

impl Entry {
    const fn is_in_force(&self, now: Now) -> bool {
        now.mono_ms < self.ends_ms
    }
}

impl BlockList {
    /// Takes a record unless it is over or not the latest about its client. Returns whether it was
    /// taken.
    pub fn merge(&mut self, record: BlockRecord, now: Now) -> bool {
        // From now on the client does not count against `MAX_SHARED`.
        if let Some(known) = self.entries.get_mut(&record.client) {
            known.is_shared = false;
        }
        self.take(record, false, now)
    }

    /// Does the same with a record of another gateway, for which there is less room. One from far
    /// ahead is not taken, because no valid record could be later than one of the latest time.
    pub fn merge_shared(&mut self, record: BlockRecord, now: Now) -> bool {
        if record.changed_ms > now.unix_ms.saturating_add(MAX_BLOCK_MS) {
            return false;
        }
        let is_known = self.entries.contains_key(&record.client);
        let shared = self.entries.values().filter(|entry| entry.is_shared);
        if !is_known && shared.count() >= MAX_SHARED {
            return false;
        }
        self.take(record, true, now)
    }

    fn take(&mut self, record: BlockRecord, is_shared: bool, now: Now) -> bool {
        let known = self.entries.get(&record.client);
        if known.is_some_and(|known| known.record.version() >= record.version()) {
            return false;
        }
        if known.is_none() && self.entries.len() >= MAX_CLIENTS {
            return false;
        }
        // A clock that is behind the one of the record must not prolong it.
        let left = |until_ms: u64| {
            let by_clock = until_ms.saturating_sub(now.unix_ms);
            by_clock.min(until_ms.saturating_sub(record.changed_ms))
        };
        let (lasts_ms, kept_ms) = (left(record.until_ms), left(record.forget_ms));
        if kept_ms == 0 {
            return false;
        }
        let is_shared = is_shared && known.is_none_or(|known| known.is_shared);
        let entry = Entry {
            ends_ms: now.mono_ms.saturating_add(lasts_ms),
            forgotten_ms: now.mono_ms.saturating_add(kept_ms),
            requests: 0,
            is_shared,
            record,
        };
        self.entries.insert(entry.record.client.clone(), entry);
        true
    }

    /// The record that is in force for a client.
    pub fn in_force(&self, client: &str, now: Now) -> Option<&BlockRecord> {
        let entry = self.entries.get(client)?;
        entry.is_in_force(now).then_some(&entry.record)
    }

    /// The record that denies a request of a client, if one does. Of a throttled client's requests,
    /// the first and then each tenth passes.
    pub(crate) fn refuse_request(&mut self, client: &str, now: Now) -> Option<&BlockRecord> {
        let entry = self.entries.get_mut(client)?;
        if !entry.is_in_force(now) {
            return None;
        }
        let number = entry.requests;
        entry.requests = number.wrapping_add(1);
        let passes =
            entry.record.action == BlockAction::Throttle && number.rem_euclid(THROTTLE) == 0;
        (!passes).then_some(&entry.record)
    }

    /// Answers an alert about a client. An operator's decision stands, and an automatic block is
    /// not weakened.
    pub fn respond(
        &mut self,
        alert: &ClientAlert<'_>,
        responses: &Responses,
        now: Now,
    ) -> Response {
        let Some(action) = responses.action(alert.rule) else {
            return Response::Notify;
        };
        let known = self.entries.get(alert.client);
        if let Some(known) = known.filter(|known| now.mono_ms < known.forgotten_ms) {
            let record = &known.record;
            let is_stronger =
                record.action == BlockAction::Throttle && action == BlockAction::Block;
            match (known.is_in_force(now), record.is_automatic()) {
                (true, true) if is_stronger => {}
                (true, _) => return Response::InForce(record.clone()),
                (false, false) if record.is_lifted() => return Response::Lifted,
                (false, _) => {}
            }
        }
        // A client with a credential and no grant could otherwise use up the bound of all.
        if !responses.has_grant(alert.client) {
            return Response::NoGrant;
        }
        let most = responses.most();
        if self.automatic(alert.client, responses, now) >= most {
            return Response::Beyond(most);
        }
        let earlier = known.map(|known| &known.record);
        let lasts_ms = responses.lasts_ms();
        let record = BlockRecord::new(alert.client, action, lasts_ms, earlier, now.unix_ms);
        let by = BlockRecord::by_rule(alert.rule.name());
        let record = record.made_by(by, alert.what);
        if self.merge(record.clone(), now) {
            Response::Taken(record)
        } else {
            Response::Full
        }
    }

    /// The number of clients with a grant that rules block or throttle, without one of them.
    fn automatic(&self, without: &str, responses: &Responses, now: Now) -> usize {
        let in_force = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.is_in_force(now));
        let automatic = in_force.filter(|(_, entry)| entry.record.is_automatic());
        let others = automatic.filter(|(client, _)| client.as_str() != without);
        others
            .filter(|(client, _)| responses.has_grant(client))
            .count()
    }

    /// Every record, by client.
    pub fn listed(&self, now: Now) -> Vec<ListedBlock> {
        let listed = self.entries.values().map(|entry| ListedBlock {
            block: entry.record.clone(),
            in_force: entry.is_in_force(now),
        });
        listed.collect()
    }

    /// Records that are later than those of another list, and not over.
    pub fn newer_than(&self, known: &BTreeMap<String, BlockVersion>, now: Now) -> Vec<BlockRecord> {
        let entries = self.entries.values();
        let kept = entries.filter(|entry| now.mono_ms < entry.forgotten_ms);
        let newer = kept.map(|entry| &entry.record).filter(|record| {
            let known = known.get(&record.client);
            known.is_none_or(|known| *known < record.version())
        });
        newer.cloned().collect()
    }

    /// Forgets records that are over by both clocks. Otherwise a record that another list still has
    /// would be taken again, and begin again. Returns the number of those in force.
    pub fn sweep(&mut self, now: Now) -> usize {
        self.entries.retain(|_, entry| {
            now.mono_ms < entry.forgotten_ms || now.unix_ms < entry.record.forget_ms
        });
        let entries = self.entries.values();
        entries.filter(|entry| entry.is_in_force(now)).count()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
