//! Key sets that issuers publish, fetched through the proxy once per process and shared by all
//! workers.
//!
//! The first worker whose tick finds a fetch due claims it in the shared store (`slot`). Every
//! worker reads the result there at its next tick, or when it meets an unknown key. This module
//! decides when to fetch and which keys are valid; the `identity` crate verifies tokens.

pub mod document;
mod slot;

use tensorgate_identity::{KeySets, Missing, NOT_FETCHED, digest};
use tensorgate_policy::policy::{Algorithm, Issuer, KeySetUrl};
use tensorgate_policy::time::SECOND_NS;
use tensorgate_policy::{Now, Policy, hex};

use crate::host::{
    ChangeFault, FetchOutcome, HostFault, HttpCall, HttpResponse, Level, MAX_SWAP_TRIES, Outside,
    SharedStore,
};
use crate::store::{self, KeyPrefix, SlotFault, make_slot};
use document::FetchFault;
pub use slot::FETCH_MS;
use slot::{RefreshIntervals, Slot};

/// Maximum time that a request waits for a key, in nanoseconds.
const MAX_WAIT_NS: u64 = 3 * SECOND_NS;
/// Maximum number of unusable keys that are logged one by one.
const MAX_LOGGED_KEYS: usize = 8;
/// Hex digits of a URL's digest in its slot name.
const URL_DIGITS: usize = 16;

const FAILED: &str = "the issuer's keys cannot be fetched";
const UNREADABLE: &str = "the issuer's key set cannot be read";
const IN_FETCH: &str = "the issuer's keys were not fetched in time";

/// Name of the proxy's cluster for an issuer's server.
pub fn cluster(issuer: &str) -> String {
    format!("tensorgate-jwks-{issuer}")
}

/// Key sets of one policy, as one worker knows them.
#[derive(Debug)]
pub(crate) struct Keyring {
    sources: Vec<Source>,
}

/// Key set of one issuer.
#[derive(Debug)]
struct Source {
    issuer: String,
    algorithms: Vec<Algorithm>,
    url: KeySetUrl,
    intervals: RefreshIntervals,
    /// Name of its slot.
    slot: String,
    /// Last slot contents that were read, without the document.
    seen: Slot,
    /// Version of the document whose keys this worker uses; 0: none.
    version: u64,
    /// A token's key was missing, so an early fetch is requested.
    refresh_requested: bool,
    /// Fetch in flight of this worker.
    call: Option<Fetch>,
}

#[derive(Clone, Copy, Debug)]
struct Fetch {
    token: u32,
    claim: u64,
}

/// A fetch that a request waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AwaitedFetch {
    issuer: String,
    claim: u64,
    until_ns: u64,
}

/// Why a slot could not be read or written; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum StoreFault {
    #[error(transparent)]
    Host(#[from] HostFault),
    #[error("its slot is missing or has other data")]
    NoSlot,
    #[error("other workers changed it in each of {MAX_SWAP_TRIES} attempts")]
    Contended,
}

impl Keyring {
    /// Creates the key sets of a policy; none for a filter that reads no tokens.
    pub(crate) fn new(policy: &Policy, identifies: bool, prefix: &KeyPrefix) -> Self {
        let issuers = policy.issuers().iter().filter(|_| identifies);
        Self {
            sources: issuers
                .filter_map(|issuer| Source::new(issuer, prefix))
                .collect(),
        }
    }

    /// Whether there is nothing to fetch.
    pub(crate) const fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Creates the slots unless they exist.
    pub(crate) fn make_slots(&self, store: &mut dyn SharedStore) -> Result<(), SlotFault> {
        for source in &self.sources {
            make_slot(store, &source.slot, &Slot::default().to_bytes())?;
        }
        Ok(())
    }

    /// Imports key sets that other workers have fetched: all sets, or only sets that are stale
    /// here. Returns whether anything changed.
    pub(crate) fn refresh(
        &mut self,
        store: &mut dyn SharedStore,
        sets: &mut KeySets,
        now: Now,
        all: bool,
    ) -> bool {
        let mut new = false;
        for source in &mut self.sources {
            if all
                || (source.version > 0
                    && !source.seen.is_fresh(&source.intervals, now.monotonic_ns))
            {
                let read = read(store, &source.slot).map(|(slot, _)| slot);
                // If the slot is unreadable, the known keys expire at their usual time.
                let slot = read.unwrap_or_else(|_| source.seen.clone());
                new |= source.import(&slot, sets, now.monotonic_ns);
            }
        }
        new
    }

    /// Classifies a key that the issuer's set does not contain. `awaited`: the fetch that the
    /// request has waited for.
    pub(crate) fn missing(
        &self,
        store: &mut dyn SharedStore,
        issuer: &str,
        now: Now,
        awaited: Option<&AwaitedFetch>,
    ) -> Missing {
        let mut sources = self.sources.iter();
        let Some(source) = sources.find(|source| source.issuer == issuer) else {
            return Missing::Unverifiable(NOT_FETCHED);
        };
        let now_ns = now.monotonic_ns;
        let Ok((slot, _)) = read(store, &source.slot) else {
            return Missing::Unverifiable(UNREADABLE);
        };
        let counts = slot.is_fresh(&source.intervals, now_ns);
        if counts && slot.version != source.version {
            // Another worker has just fetched the set.
            return Missing::Awaited;
        }
        let fetching = slot.is_fetching(now_ns);
        match awaited {
            None if fetching || slot.may_refresh(&source.intervals, now_ns) => Missing::Awaited,
            Some(awaited) if slot.claim < awaited.claim || fetching || slot.is_expired(now_ns) => {
                Missing::Unverifiable(IN_FETCH)
            }
            _ if slot.failures == 0 && counts => Missing::Unknown,
            _ => Missing::Unverifiable(FAILED),
        }
    }

    /// The fetch that may provide a missing key: the one in flight, or the next one, which is
    /// requested.
    pub(crate) fn request_refresh(
        &mut self,
        store: &mut dyn SharedStore,
        issuer: &str,
        now: Now,
    ) -> Option<AwaitedFetch> {
        let source = self.source(issuer)?;
        let (slot, _) = read(store, &source.slot).ok()?;
        let fetching = slot.is_fetching(now.monotonic_ns);
        source.refresh_requested |= !fetching;
        source.seen = slot.without_document();
        Some(AwaitedFetch {
            issuer: issuer.to_owned(),
            claim: slot.claim.saturating_add(u64::from(!fetching)),
            until_ns: now.monotonic_ns.saturating_add(MAX_WAIT_NS),
        })
    }

    /// Issuers whose keys were requested since the last call.
    pub(crate) fn take_requests(&mut self) -> Vec<String> {
        let requested = |source: &mut Source| {
            core::mem::take(&mut source.refresh_requested).then(|| source.issuer.clone())
        };
        self.sources.iter_mut().filter_map(requested).collect()
    }

    /// Requests an early fetch of an issuer's keys.
    pub(crate) fn request(&mut self, issuer: &str) {
        if let Some(source) = self.source(issuer) {
            source.refresh_requested = true;
        }
    }

    /// Whether an awaited fetch is over, or will not end in time, as far as this worker knows.
    pub(crate) fn is_over(&self, awaited: &AwaitedFetch, now_ns: u64) -> bool {
        let mut sources = self.sources.iter();
        let source = sources.find(|source| source.issuer == awaited.issuer);
        source.is_none_or(|source| {
            let ended = !source.seen.is_fetching(now_ns);
            now_ns >= awaited.until_ns
                || source.seen.claim > awaited.claim
                || (source.seen.claim == awaited.claim && ended)
        })
    }

    /// Imports key sets of other workers, and starts fetches that are due and that no other worker
    /// runs.
    pub(crate) fn on_tick(&mut self, outside: &mut dyn Outside, sets: &mut KeySets) {
        let now = match outside.clocks() {
            Ok(now) => now,
            Err(fault) => return outside.log(Level::Error, &format!("key sets: {fault}")),
        };
        for source in &mut self.sources {
            if let Err(fault) = source.on_tick(outside, sets, now.monotonic_ns) {
                source.log_fault(outside, fault);
            }
        }
    }

    /// Handles the response to a fetch of this worker; `None` if there was none.
    pub(crate) fn on_answer(
        &mut self,
        outside: &mut dyn Outside,
        sets: &mut KeySets,
        token: u32,
        answered: Option<&HttpResponse>,
    ) {
        let asked = |source: &&mut Source| source.call.is_some_and(|call| call.token == token);
        let Some(source) = self.sources.iter_mut().find(asked) else {
            return;
        };
        let Some(call) = source.call.take() else {
            return;
        };
        let outcome = document::body(answered);
        if let Err(fault) = source.finish(outside, sets, call.claim, outcome) {
            source.log_fault(outside, fault);
        }
    }

    /// Abandons the fetches of this worker: no callback will receive their responses.
    pub(crate) fn close(&mut self, store: &mut dyn SharedStore) {
        for source in &mut self.sources {
            if let Some(call) = source.call.take() {
                // If the write fails, the claim expires.
                let _ = change(store, &source.slot, |slot| slot.abandoned(call.claim));
            }
        }
    }

    /// Publishes a document for an issuer as if it had just been fetched.
    pub(crate) fn publish(
        &mut self,
        store: &mut dyn SharedStore,
        sets: &mut KeySets,
        issuer: &str,
        document: &[u8],
        now: Now,
    ) -> Result<(), String> {
        let source = self
            .source(issuer)
            .ok_or_else(|| format!("no issuer {issuer:?} has a key set at a url"))?;
        document::keys(document, &source.algorithms).map_err(|fault| fault.to_string())?;
        let fetched = |slot: Slot| {
            let claimed = slot.claimed(now.monotonic_ns);
            let claim = claimed.claim;
            claimed.done(claim, Some(document))
        };
        let slot = change(store, &source.slot, fetched).map_err(|fault| fault.to_string())?;
        if let Some(slot) = slot {
            source.import(&slot, sets, now.monotonic_ns);
        }
        Ok(())
    }

    fn source(&mut self, issuer: &str) -> Option<&mut Source> {
        let mut sources = self.sources.iter_mut();
        sources.find(|source| source.issuer == issuer)
    }
}

impl Source {
    fn new(issuer: &Issuer, prefix: &KeyPrefix) -> Option<Self> {
        let url = issuer.key_set()?.clone();
        let ns = |s: u64| s.saturating_mul(SECOND_NS);
        // Keys fetched under another CA are a different set.
        let trusted = format!("{} {}", url.url(), url.ca().unwrap_or_default());
        let mut name = hex(&digest(&trusted));
        name.truncate(URL_DIGITS);
        Some(Self {
            issuer: issuer.name().to_owned(),
            algorithms: issuer.algorithms().to_vec(),
            intervals: RefreshIntervals {
                refresh_ns: ns(url.refresh_s()),
                stale_ns: ns(url.stale_s()),
                cool_down_ns: ns(url.cool_down_s()),
            },
            slot: format!("{}jwks:{}:{name}", prefix.as_str(), issuer.name()),
            url,
            seen: Slot::default(),
            version: 0,
            refresh_requested: false,
            call: None,
        })
    }

    /// Imports the contents of a slot; returns whether anything changed.
    fn import(&mut self, slot: &Slot, sets: &mut KeySets, now_ns: u64) -> bool {
        self.seen = slot.without_document();
        if !slot.is_fresh(&self.intervals, now_ns) {
            let had = core::mem::take(&mut self.version) > 0;
            sets.remove(&self.issuer);
            return had;
        }
        if slot.version == self.version {
            return false;
        }
        // The fetching worker validated the document by the same rules, unless its policy has other
        // algorithms.
        let Ok(published) = document::keys(&slot.document, &self.algorithms) else {
            return false;
        };
        sets.put(&self.issuer, published.keys);
        self.version = slot.version;
        true
    }

    fn on_tick(
        &mut self,
        outside: &mut dyn Outside,
        sets: &mut KeySets,
        now_ns: u64,
    ) -> Result<(), StoreFault> {
        let (slot, token) = read(outside, &self.slot)?;
        self.import(&slot, sets, now_ns);
        // If another worker has taken over the fetch, this worker's response is ignored.
        self.call = self.call.filter(|call| call.claim == slot.claim);
        let refresh_requested = core::mem::take(&mut self.refresh_requested)
            && slot.may_refresh(&self.intervals, now_ns);
        if !refresh_requested && !slot.is_due(&self.intervals, now_ns) {
            return Ok(());
        }
        let claimed = slot.claimed(now_ns);
        if !outside.swap(&self.slot, &claimed.to_bytes(), token)? {
            // Another worker was first and runs the fetch.
            return Ok(());
        }
        let claim = claimed.claim;
        self.seen = claimed.without_document();
        match self.start_fetch(outside) {
            Ok(token) => {
                self.call = Some(Fetch { token, claim });
                Ok(())
            }
            Err(fault) => self.finish(outside, sets, claim, Err(fault.into())),
        }
    }

    fn start_fetch(&self, outside: &mut dyn Outside) -> Result<u32, HostFault> {
        let authority = self.url.authority();
        let scheme = if self.url.tls() { "https" } else { "http" };
        outside.http_call(&HttpCall {
            cluster: &cluster(&self.issuer),
            headers: &[
                (":method", "GET"),
                (":scheme", scheme),
                (":authority", &authority),
                (":path", self.url.path()),
                ("accept", "application/jwk-set+json, application/json"),
                ("accept-encoding", "identity"),
                ("user-agent", "tensorgate"),
            ],
            timeout_ms: FETCH_MS,
        })
    }

    /// Stores the result of a fetch for all workers.
    fn finish(
        &mut self,
        outside: &mut dyn Outside,
        sets: &mut KeySets,
        claim: u64,
        body: Result<&[u8], FetchFault>,
    ) -> Result<(), StoreFault> {
        let read = body.and_then(|body| Ok((body, document::keys(body, &self.algorithms)?)));
        let document = read.as_ref().ok().map(|(document, _)| *document);
        let Some(slot) = change(outside, &self.slot, |slot| slot.done(claim, document))? else {
            // The fetch took so long that another one has begun.
            return Ok(());
        };
        let now = outside.clocks()?;
        self.import(&slot, sets, now.monotonic_ns);
        match read {
            Ok((_, published)) => {
                outside.count_fetch(&self.issuer, FetchOutcome::Good(now.unix_s));
                outside.record_unused_keys(&self.issuer, published.unused);
                if slot.version == claim {
                    let passed_over = published.passed_over.iter().take(MAX_LOGGED_KEYS);
                    let passed_over: Vec<_> = passed_over.map(ToString::to_string).collect();
                    let level = if published.keys.is_empty() {
                        Level::Warn
                    } else {
                        Level::Info
                    };
                    let line = serde_json::json!({
                        "event": "key-set", "issuer": self.issuer, "outcome": "fetched",
                        "keys": published.keys.len(), "unused": published.unused,
                        "passed_over": passed_over,
                    });
                    outside.log(level, &line.to_string());
                }
            }
            Err(fault) => {
                outside.count_fetch(&self.issuer, FetchOutcome::Failed);
                let counts = slot.is_fresh(&self.intervals, now.monotonic_ns);
                let age_s = (slot.version > 0).then(|| {
                    let age_ns = now.monotonic_ns.saturating_sub(slot.fetched_ns);
                    age_ns.checked_div(SECOND_NS)
                });
                let line = serde_json::json!({
                    "event": "key-set", "issuer": self.issuer, "outcome": "failed", "cause": fault.to_string(),
                    "failures": slot.failures, "age_s": age_s.flatten(), "in_force": counts,
                });
                let level = if counts { Level::Warn } else { Level::Error };
                outside.log(level, &line.to_string());
            }
        }
        Ok(())
    }

    fn log_fault(&self, outside: &mut dyn Outside, fault: StoreFault) {
        let line = format!("key set of issuer {:?}: {fault}", self.issuer);
        outside.log(Level::Error, &line);
    }
}

impl From<ChangeFault> for StoreFault {
    fn from(fault: ChangeFault) -> Self {
        match fault {
            ChangeFault::Host(fault) => Self::Host(fault),
            ChangeFault::Missing => Self::NoSlot,
            ChangeFault::Contended => Self::Contended,
        }
    }
}

fn read<S: SharedStore + ?Sized>(store: &mut S, key: &str) -> Result<(Slot, u32), StoreFault> {
    let slot = store.get(key)?.ok_or(StoreFault::NoSlot)?;
    let read = Slot::from_bytes(&slot.value).ok_or(StoreFault::NoSlot)?;
    Ok((read, slot.token))
}

/// Changes a slot; `None` if there was nothing to change.
fn change<S: SharedStore + ?Sized>(
    store: &mut S,
    key: &str,
    work: impl Fn(Slot) -> Option<Slot>,
) -> Result<Option<Slot>, StoreFault> {
    store::change(store, key, |bytes| {
        let slot = Slot::from_bytes(bytes).ok_or(StoreFault::NoSlot)?;
        let new = work(slot);
        let bytes = new.as_ref().map(|new| new.to_bytes().into());
        Ok((new, bytes))
    })
}
