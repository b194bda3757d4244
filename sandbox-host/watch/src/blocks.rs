//! Clients that are blocked or throttled for a time, by an operator or by an anomaly rule.
//!
//! | source | effect |
//! |---|---|
//! | a record in the file beside the bundle ([`BlockFile`]) | in force, and shared over Redis if the policy has shared limits |
//! | an alert about a client, if the policy says so ([`Responses`]) | the same, within bounds |
//! | a record of an alert, after a restart of the host | in force: it is in a file beside the audit log |
//! | a record of another gateway | in force |
//! | a damaged file at the start | the host does not start |
//! | a damaged file later | the last records stay in force, with an error and a metric |
//! | a record that is gone from the file | nothing: a later record lifts a block, or it ends |
//! | Redis is down | what is known stays in force, and news are shared later |
//!
//! Of two records about one client, the later one counts on every gateway ([`BlockList`]). Only the
//! name of a verified client is compared, never a source.

mod automatic;
mod file;
mod list;
mod record;
mod waiting;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tensorgate_base::rfc3339::rfc3339;
use tensorgate_base::unix_time::now_unix_ms;
use tensorgate_policy::values::WatchRule;
use tensorgate_policy::{Denial, Reason};
use tokio::sync::watch;

use self::waiting::WaitingAlerts;
pub use automatic::{ClientAlert, Response, Responses};
pub use file::BlockFile;
pub use list::{BlockList, ListedBlock, Now};
pub use record::{BlockAction, BlockRecord, BlockVersion, MAX_BLOCK_MS, MAX_REASON_BYTES};

/// The most changes that wait to be recorded. The follower records them twice a second.
const MAX_NEWS: usize = 1_024;
/// When a throttled client may try again: each request has the same chance.
const RETRY_AFTER_S: u64 = 1;

/// The blocks that are in force in this host.
pub struct Blocks {
    state: Mutex<State>,
    /// Whether there is any record. Most hosts have none, and their requests take no lock.
    any: AtomicBool,
    /// Counts changes, so that open streams check again.
    changes: watch::Sender<u64>,
    started: Instant,
}

struct State {
    list: BlockList,
    responses: Responses,
    /// Alerts that are answered later.
    waiting: WaitingAlerts,
    /// Changes that are not in the audit log yet.
    news: Vec<BlockRecord>,
}

impl Blocks {
    /// Starts without blocks.
    pub fn new(responses: Responses) -> Self {
        Self {
            state: Mutex::new(State {
                list: BlockList::default(),
                responses,
                waiting: WaitingAlerts::default(),
                news: Vec::new(),
            }),
            any: AtomicBool::new(false),
            changes: watch::Sender::new(0),
            started: Instant::now(),
        }
    }

    /// Takes records of the file. Those that are not the latest about their client change nothing.
    pub fn merge(&self, records: impl IntoIterator<Item = BlockRecord>) {
        self.merge_with(records, BlockList::merge);
    }

    /// Takes records of other gateways in the same way, within a bound of their own.
    pub fn merge_shared(&self, records: impl IntoIterator<Item = BlockRecord>) {
        self.merge_with(records, BlockList::merge_shared);
    }

    fn merge_with(
        &self,
        records: impl IntoIterator<Item = BlockRecord>,
        merge: fn(&mut BlockList, BlockRecord, Now) -> bool,
    ) {
        let now = self.now();
        let mut state = self.lock();
        let mut has_changed = false;
        for record in records {
            if merge(&mut state.list, record.clone(), now) {
                state.note(record);
                has_changed = true;
            }
        }
        self.publish(state, has_changed);
    }

    /// Why a request of a client is denied, if it is.
    pub fn check_request(&self, client: Option<&str>) -> Option<Denial> {
        let client = client.filter(|_| self.any.load(Ordering::Acquire))?;
        let now = self.now();
        self.lock().list.refuse_request(client, now).map(denial)
    }

    /// Why a stream of a client may not be opened or continue, if so. A throttled client has none,
    /// because the messages of a stream are not counted here.
    pub fn check_stream(&self, client: Option<&str>) -> Option<Denial> {
        let client = client.filter(|_| self.any.load(Ordering::Acquire))?;
        let now = self.now();
        self.lock().list.in_force(client, now).map(denial)
    }

    /// Answers an alert about a client as the policy says, or keeps it until there is room.
    pub fn respond(&self, rule: WatchRule, client: &str, what: &str) -> Response {
        let now = self.now();
        let mut state = self.lock();
        let State {
            list,
            responses,
            waiting,
            ..
        } = &mut *state;
        let alert = ClientAlert { rule, client, what };
        let response = match list.respond(&alert, responses, now) {
            Response::Beyond(most) if waiting.add(&alert, responses, now) => {
                Response::Waiting(most)
            }
            Response::Full => {
                waiting.add(&alert, responses, now);
                Response::Full
            }
            response @ (Response::Notify
            | Response::Taken(_)
            | Response::InForce(_)
            | Response::Lifted
            | Response::NoGrant
            | Response::Waiting(_)
            | Response::Beyond(_)) => response,
        };
        let has_changed = if let Response::Taken(record) = &response {
            state.note(record.clone());
            true
        } else {
            false
        };
        self.publish(state, has_changed);
        response
    }

    /// Answers alerts for which there was no room, if there is now.
    pub fn answer_waiting(&self) {
        let now = self.now();
        let mut state = self.lock();
        let State {
            list,
            responses,
            waiting,
            ..
        } = &mut *state;
        let taken = waiting.answer(list, responses, now);
        let has_changed = !taken.is_empty();
        taken.into_iter().for_each(|record| state.note(record));
        self.publish(state, has_changed);
    }

    /// Sets what alerts do.
    pub fn set_responses(&self, responses: Responses) {
        self.lock().responses = responses;
    }

    /// A channel that signals each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The changes since the last call.
    pub fn take_news(&self) -> Vec<BlockRecord> {
        std::mem::take(&mut self.lock().news)
    }

    /// Every record, the ended ones too while they are kept.
    pub fn listed(&self) -> Vec<ListedBlock> {
        let now = self.now();
        self.lock().list.listed(now)
    }

    /// The blocks of rules that are in force.
    pub fn of_rules(&self) -> Vec<BlockRecord> {
        let in_force = self.listed().into_iter().filter(|listed| listed.in_force);
        let records = in_force.map(|listed| listed.block);
        records.filter(BlockRecord::is_automatic).collect()
    }

    /// Records that are later than those of a list, which has a version for each client.
    pub fn newer_than(&self, known: &BTreeMap<String, BlockVersion>) -> Vec<BlockRecord> {
        let now = self.now();
        self.lock().list.newer_than(known, now)
    }

    /// Forgets old records. Returns the number of clients that are blocked or throttled.
    pub fn sweep(&self) -> usize {
        let now = self.now();
        let mut state = self.lock();
        let in_force = state.list.sweep(now);
        self.publish(state, false);
        in_force
    }

    fn now(&self) -> Now {
        Now {
            unix_ms: now_unix_ms(),
            mono_ms: millis(self.started.elapsed()),
        }
    }

    /// Ends an update of the state.
    fn publish(&self, state: MutexGuard<'_, State>, has_changed: bool) {
        self.any.store(!state.list.is_empty(), Ordering::Release);
        drop(state);
        if has_changed {
            self.changes
                .send_modify(|count| *count = count.wrapping_add(1));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn note(&mut self, record: BlockRecord) {
        if self.news.len() < MAX_NEWS {
            self.news.push(record);
        }
    }
}

/// The denial of a request or stream, by the record that denies it.
fn denial(record: &BlockRecord) -> Denial {
    let (until, by, reason) = (record.until(), &record.by, &record.reason);
    let colon = if reason.is_empty() { "" } else { ": " };
    let details = format!("until {until} by {by}{colon}{reason}");
    match record.action {
        BlockAction::Block => {
            let cause = format!("the client is blocked {details}");
            Denial::new(Reason::Blocked, cause)
        }
        BlockAction::Throttle => {
            let cause = format!("the client is throttled {details}");
            Denial {
                retry_after_s: Some(RETRY_AFTER_S),
                ..Denial::new(Reason::RateLimited, cause)
            }
        }
    }
}

/// A time in milliseconds since 1970 as a text.
fn text(unix_ms: u64) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_millis(unix_ms));
    rfc3339(time.unwrap_or(UNIX_EPOCH))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The response of `/blocks`.
#[derive(Debug, Serialize, Deserialize)]
pub struct BlocksShown {
    /// The records, by client.
    pub blocks: Vec<ListedBlock>,
}

#[cfg(test)]
mod tests;
