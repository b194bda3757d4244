//! Keeps the blocks of clients up to date: reads the file of operators, exchanges records with
//! other gateways over the Redis of shared limits, and writes changes to the audit log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tensorgate_audit::record::{self, Event, MAX_NAME_BYTES};
use tensorgate_base::renewed::{Refresh, Renewed};
use tensorgate_limits::{RedisFault, SharedBlock};
use tensorgate_policy::values::safe_text::printable_prefix;
use tensorgate_watch::blocks::{BlockAction, BlockFile, BlockRecord, BlockVersion};
use tokio::time::{MissedTickBehavior, interval};

use crate::service::App;

/// The interval of looks at the file and at Redis. A block of one gateway is in force in another
/// after two intervals at most.
const INTERVAL: Duration = Duration::from_millis(400);
/// The most records of one exchange.
const MAX_EXCHANGED: usize = 16;

/// The file of operators. It is read again when it is replaced.
pub type FollowedFile = Renewed<BlockFile>;

/// Opens the file beside the bundle. It may be missing.
///
/// # Errors
/// Returns an error if the file cannot be used.
pub fn open(bundle: &Path) -> Result<FollowedFile, String> {
    let path = BlockFile::beside(bundle);
    let from = path.clone();
    let read = move || BlockFile::read(&from);
    Renewed::from_files("blocked clients", vec![path], read)
}

/// Follows the file and Redis, forever. Blocks of rules are kept in the file `of_rules`.
pub(crate) async fn follow(app: Arc<App>, file: FollowedFile, of_rules: PathBuf) {
    let mut follower = Follower {
        app,
        file: Arc::new(file),
        of_rules,
        shared: BTreeMap::new(),
        is_full: false,
        is_refused: false,
    };
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        follower.read_file().await;
        follower.exchange().await;
        follower.record_changes().await;
    }
}

struct Follower {
    app: Arc<App>,
    file: Arc<FollowedFile>,
    /// The host's own file with the blocks of rules.
    of_rules: PathBuf,
    /// The records in Redis at the last exchange.
    shared: BTreeMap<String, BlockVersion>,
    /// Whether the list in Redis had no room at the last exchange.
    is_full: bool,
    /// Whether Redis refused the last exchange.
    is_refused: bool,
}

impl Follower {
    async fn read_file(&self) {
        let file = Arc::clone(&self.file);
        let read = tokio::task::spawn_blocking(move || file.refresh(false)).await;
        match read {
            Ok(Refresh::Renewed) => {
                let records = self.file.current().blocks.clone();
                self.app.blocks.merge(records);
                self.app.metrics.blocks_unreadable.set(0);
            }
            Ok(Refresh::Failed(_)) => {
                self.app.metrics.blocks_unreadable.set(1);
            }
            // After a panic, the previous records stay in force.
            Ok(Refresh::Unchanged) | Err(_) => {}
        }
    }

    /// Adds news to the list in Redis, and takes those of other gateways. Without Redis, what is
    /// known stays in force.
    async fn exchange(&mut self) {
        let newest = self.app.policy_versions.newest();
        let Some(limits) = &newest.parts.limits else {
            self.shared.clear();
            return;
        };
        let news = self.app.blocks.newer_than(&self.shared);
        let news = next_exchange(news, &self.shared);
        let news: Vec<_> = news.iter().filter_map(shared).collect();
        let list = match limits.exchange_blocks(&news).await {
            Ok(list) => list,
            Err(fault) => return self.failed(&fault),
        };
        self.is_refused = false;
        if list.without_room > 0 && !self.is_full {
            tracing::error!(
                "the list of blocked clients in redis is full: further blocks are in force on this gateway alone"
            );
        }
        self.is_full = list.without_room > 0;
        let records = list.contents.iter().filter_map(|text| parse(text));
        let records: Vec<_> = records.collect();
        let versions = records
            .iter()
            .map(|record| (record.client.clone(), record.version()));
        self.shared = versions.collect();
        self.app.blocks.merge_shared(records);
    }

    /// Logs the first of several exchanges that Redis refuses, as to a user without the rights. A
    /// lost connection is logged where it is made again.
    fn failed(&mut self, fault: &RedisFault) {
        let is_refused = matches!(fault, RedisFault::Refused(_));
        if is_refused && !std::mem::replace(&mut self.is_refused, true) {
            let cause = fault.to_string();
            tracing::error!(
                cause,
                "redis refuses the list of blocked clients: blocks are in force on this gateway alone"
            );
        }
    }

    /// Answers alerts that waited, and writes changes to the audit log, to the log, and to the file
    /// for the next start.
    async fn record_changes(&self) {
        self.app.blocks.answer_waiting();
        let news = self.app.blocks.take_news();
        if !news.is_empty() {
            self.keep_blocks_of_rules().await;
        }
        for record in news {
            let event = audit_record(&record);
            tracing::warn!(
                client = event.client,
                state = event.state,
                until = event.until,
                by = event.by,
                reason = event.reason,
                "block of a client"
            );
            let audit = self.app.outcomes.audit();
            audit.write(SystemTime::now(), Event::Block(event));
        }
        let in_force = i64::try_from(self.app.blocks.sweep()).unwrap_or(i64::MAX);
        self.app.metrics.blocked_clients.set(in_force);
    }

    async fn keep_blocks_of_rules(&self) {
        let (blocks, path) = (self.app.blocks.of_rules(), self.of_rules.clone());
        let written = tokio::task::spawn_blocking(move || BlockFile::write(blocks, &path)).await;
        if let Ok(Err(error)) = written {
            let cause = error.to_string();
            tracing::error!(
                cause,
                "cannot keep blocks by rules: a restart of this host ends them"
            );
        }
    }
}

/// The records of one exchange. Those about clients on the list need no room and go first, so that
/// others, for which a full list has none, do not hold them back.
fn next_exchange(
    mut news: Vec<BlockRecord>,
    listed: &BTreeMap<String, BlockVersion>,
) -> Vec<BlockRecord> {
    news.sort_by_key(|record| !listed.contains_key(&record.client));
    news.truncate(MAX_EXCHANGED);
    news
}

/// A record as other gateways read it.
fn shared(record: &BlockRecord) -> Option<SharedBlock> {
    Some(SharedBlock {
        times: record.version(),
        client: record.client.clone(),
        content: serde_json::to_string(record).ok()?,
    })
}

/// Reads a record of another gateway. Redis may hold anything, so its bounds are checked.
fn parse(text: &str) -> Option<BlockRecord> {
    let record: BlockRecord = serde_json::from_str(text).ok()?;
    record.check().is_ok().then_some(record)
}

fn audit_record(record: &BlockRecord) -> record::Block {
    let state = match record.action {
        _ if record.is_lifted() => "lifted",
        BlockAction::Block => "blocked",
        BlockAction::Throttle => "throttled",
    };
    let reason = printable_prefix(&record.reason, MAX_NAME_BYTES);
    record::Block {
        client: printable_prefix(&record.client, MAX_NAME_BYTES),
        state: state.to_owned(),
        until: (!record.is_lifted()).then(|| record.until()),
        by: printable_prefix(&record.by, MAX_NAME_BYTES),
        reason: (!reason.is_empty()).then_some(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_listed_record_is_not_held_back_by_records_without_room() {
        let record = |client: &str| BlockRecord::new(client, BlockAction::Block, 1_000, None, 1);
        let waiting = (0..MAX_EXCHANGED).map(|number| record(&format!("a{number}")));
        let news = waiting.chain([record("z")]).collect();
        let listed = BTreeMap::from([("z".to_owned(), (0, 0, 0))]);
        let sent = next_exchange(news, &listed);
        let clients: Vec<_> = sent.iter().map(|record| record.client.as_str()).collect();
        assert_eq!(clients.len(), MAX_EXCHANGED);
        assert_eq!(clients.first(), Some(&"z"));
    }
}
