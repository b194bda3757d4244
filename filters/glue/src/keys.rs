//! Key sets that issuers publish: fetched through the proxy once a process, whatever the number of its workers, and known to each of them.
//!
//! Whoever ticks first when a fetch is due claims it in the shared store ([`slot`]); what it brings every worker reads there, at its next tick, or when
//! it meets a key that it does not know. It decides when to fetch and what counts; whose a token is, `identity` says.

pub mod document;
mod slot;

use tensorgate_identity::{KeySets, Missing, NOT_FETCHED, digest};
use tensorgate_policy::policy::{Algorithm, Issuer, KeySetUrl};
use tensorgate_policy::time::SECOND_NS;
use tensorgate_policy::{Now, Policy, hex};

use crate::host::{Answered, Call, Fetched, HostFault, Level, Outside, SharedStore};
use crate::slots::{self, SlotFault};
use crate::spend::{KEY_PREFIX, MAX_SWAP_TRIES};
use document::FetchFault;
use slot::{Pace, Slot};

pub use slot::FETCH_MS;

/// The longest that a request waits for a key, nanoseconds.
const MAX_WAIT_NS: u64 = 3 * SECOND_NS;
/// Keys that are passed over and told of one by one.
const MAX_TOLD: usize = 8;
/// Hex digits of a URL's digest in its slot's name.
const URL_DIGITS: usize = 16;

const FAILED: &str = "the issuer's keys cannot be fetched";
const UNREADABLE: &str = "what was fetched of the issuer's keys cannot be read";
const IN_FETCH: &str = "the issuer's keys were not fetched in time";

/// The proxy's name of the way to an issuer's server.
pub fn cluster(issuer: &str) -> String {
    format!("tensorgate-jwks-{issuer}")
}

/// Key sets of one policy, as one worker knows them.
#[derive(Debug)]
pub(crate) struct Keyring {
    sources: Vec<Source>,
}

/// One issuer's.
#[derive(Debug)]
struct Source {
    issuer: String,
    algorithms: Vec<Algorithm>,
    url: KeySetUrl,
    pace: Pace,
    /// Its slot's name.
    slot: String,
    /// What was read of the slot last, the document apart.
    seen: Slot,
    /// The document that this worker has the keys of; 0: none.
    version: u64,
    /// A token's key was missing: another look is worth it.
    wished: bool,
    /// The fetch that this worker makes.
    call: Option<Fetch>,
}

#[derive(Clone, Copy, Debug)]
struct Fetch {
    token: u32,
    claim: u64,
}

/// A fetch that a request waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Awaited {
    issuer: String,
    claim: u64,
    until_ns: u64,
}

/// Why a slot could not be read or written; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum StoreFault {
    #[error(transparent)]
    Host(#[from] HostFault),
    #[error("key set has no slot, or something else in it")]
    NoSlot,
    #[error("key set was written by others at each of {MAX_SWAP_TRIES} tries")]
    Contended,
}

impl Keyring {
    /// The key sets that a policy has fetched; none for a filter that reads no tokens.
    pub(crate) fn new(policy: &Policy, identifies: bool) -> Self {
        let issuers = policy.issuers().iter().filter(|_| identifies);
        Self {
            sources: issuers.filter_map(Source::new).collect(),
        }
    }

    /// Whether there is nothing to fetch.
    pub(crate) const fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Makes the slots, those apart that exist.
    pub(crate) fn make_slots(&self, store: &mut dyn SharedStore) -> Result<(), SlotFault> {
        for source in &self.sources {
            slots::make(store, &source.slot, &Slot::default().to_bytes())?;
        }
        Ok(())
    }

    /// Takes in what others have fetched, of every set or of those that would count no more as they are known here. Returns whether anything is new.
    pub(crate) fn refresh(
        &mut self,
        store: &mut dyn SharedStore,
        sets: &mut KeySets,
        now: Now,
        all: bool,
    ) -> bool {
        let mut new = false;
        for source in &mut self.sources {
            if all || (source.version > 0 && !source.seen.counts(&source.pace, now.monotonic_ns)) {
                let read = read(store, &source.slot).map(|(slot, _)| slot);
                // Unreadable: what is known counts no longer than it would.
                let slot = read.unwrap_or_else(|_| source.seen.clone());
                new |= source.take_in(&slot, sets, now.monotonic_ns);
            }
        }
        new
    }

    /// What is known of a key that an issuer's set does not hold. `awaited`: the request has waited for that.
    pub(crate) fn missing(
        &self,
        store: &mut dyn SharedStore,
        issuer: &str,
        now: Now,
        awaited: Option<&Awaited>,
    ) -> Missing {
        let mut sources = self.sources.iter();
        let Some(source) = sources.find(|source| source.issuer == issuer) else {
            return Missing::Unjudged(NOT_FETCHED);
        };
        let now_ns = now.monotonic_ns;
        let Ok((slot, _)) = read(store, &source.slot) else {
            return Missing::Unjudged(UNREADABLE);
        };
        let counts = slot.counts(&source.pace, now_ns);
        if counts && slot.version != source.version {
            // Another worker has fetched it this moment.
            return Missing::Awaited;
        }
        let fetching = slot.is_fetching(now_ns);
        match awaited {
            None if fetching || slot.may_look(&source.pace, now_ns) => Missing::Awaited,
            Some(awaited) if slot.claim < awaited.claim || fetching || slot.is_dead(now_ns) => {
                Missing::Unjudged(IN_FETCH)
            }
            _ if slot.failures == 0 && counts => Missing::Unknown,
            _ => Missing::Unjudged(FAILED),
        }
    }

    /// The fetch that may bring an issuer's missing key: the one that is under way, or the next, which is wished for.
    pub(crate) fn wish(
        &mut self,
        store: &mut dyn SharedStore,
        issuer: &str,
        now: Now,
    ) -> Option<Awaited> {
        let source = self.source(issuer)?;
        let (slot, _) = read(store, &source.slot).ok()?;
        let fetching = slot.is_fetching(now.monotonic_ns);
        source.wished |= !fetching;
        source.seen = slot.without_document();
        Some(Awaited {
            issuer: issuer.to_owned(),
            claim: slot.claim.saturating_add(u64::from(!fetching)),
            until_ns: now.monotonic_ns.saturating_add(MAX_WAIT_NS),
        })
    }

    /// Whether a fetch that is waited for is over, or will not be in time, as far as this worker has seen.
    pub(crate) fn is_over(&self, awaited: &Awaited, now_ns: u64) -> bool {
        let mut sources = self.sources.iter();
        let source = sources.find(|source| source.issuer == awaited.issuer);
        source.is_none_or(|source| {
            let ended = !source.seen.is_fetching(now_ns);
            now_ns >= awaited.until_ns
                || source.seen.claim > awaited.claim
                || (source.seen.claim == awaited.claim && ended)
        })
    }

    /// Takes in what others have fetched, and fetches what is due and nobody else is fetching.
    pub(crate) fn on_tick(&mut self, outside: &mut dyn Outside, sets: &mut KeySets) {
        let now = match outside.clocks() {
            Ok(now) => now,
            Err(fault) => return outside.tell(Level::Error, &format!("key sets: {fault}")),
        };
        for source in &mut self.sources {
            if let Err(fault) = source.on_tick(outside, sets, now.monotonic_ns) {
                source.tell_fault(outside, fault);
            }
        }
    }

    /// The answer to a question of this worker's; `None` if none came.
    pub(crate) fn on_answer(
        &mut self,
        outside: &mut dyn Outside,
        sets: &mut KeySets,
        token: u32,
        answered: Option<&Answered>,
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
            source.tell_fault(outside, fault);
        }
    }

    /// Gives the fetches of this worker up: nobody will hear of their answers.
    pub(crate) fn close(&mut self, store: &mut dyn SharedStore) {
        for source in &mut self.sources {
            if let Some(call) = source.call.take() {
                // What cannot be written ends by its time.
                let _ = change(store, &source.slot, |slot| slot.given_up(call.claim));
            }
        }
    }

    /// Has an issuer publish a document, as if it had been fetched just now.
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
            source.take_in(&slot, sets, now.monotonic_ns);
        }
        Ok(())
    }

    fn source(&mut self, issuer: &str) -> Option<&mut Source> {
        let mut sources = self.sources.iter_mut();
        sources.find(|source| source.issuer == issuer)
    }
}

impl Source {
    fn new(issuer: &Issuer) -> Option<Self> {
        let url = issuer.key_set()?.clone();
        let ns = |s: u64| s.saturating_mul(SECOND_NS);
        let mut name = hex(&digest(&url.url()));
        name.truncate(URL_DIGITS);
        Some(Self {
            issuer: issuer.name().to_owned(),
            algorithms: issuer.algorithms().to_vec(),
            pace: Pace {
                refresh_ns: ns(url.refresh_s()),
                stale_ns: ns(url.stale_s()),
                cool_down_ns: ns(url.cool_down_s()),
            },
            slot: format!("{KEY_PREFIX}jwks:{}:{name}", issuer.name()),
            url,
            seen: Slot::default(),
            version: 0,
            wished: false,
            call: None,
        })
    }

    /// Takes in what a slot holds; whether that changed anything.
    fn take_in(&mut self, slot: &Slot, sets: &mut KeySets, now_ns: u64) -> bool {
        self.seen = slot.without_document();
        if !slot.counts(&self.pace, now_ns) {
            let had = core::mem::take(&mut self.version) > 0;
            sets.remove(&self.issuer);
            return had;
        }
        if slot.version == self.version {
            return false;
        }
        // Whoever fetched it has read it by the same rules, unless its policy has other algorithms.
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
        self.take_in(&slot, sets, now_ns);
        // A fetch that another has taken over has no answer that anybody would hear.
        self.call = self.call.filter(|call| call.claim == slot.claim);
        let wished = core::mem::take(&mut self.wished) && slot.may_look(&self.pace, now_ns);
        if !wished && !slot.is_due(&self.pace, now_ns) {
            return Ok(());
        }
        let claimed = slot.claimed(now_ns);
        if !outside.swap(&self.slot, &claimed.to_bytes(), token)? {
            // Another worker was first: it fetches.
            return Ok(());
        }
        let claim = claimed.claim;
        self.seen = claimed.without_document();
        match self.ask(outside) {
            Ok(token) => {
                self.call = Some(Fetch { token, claim });
                Ok(())
            }
            Err(fault) => self.finish(outside, sets, claim, Err(fault.into())),
        }
    }

    fn ask(&self, outside: &mut dyn Outside) -> Result<u32, HostFault> {
        let authority = self.url.authority();
        let scheme = if self.url.tls() { "https" } else { "http" };
        outside.ask(&Call {
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

    /// Puts what a fetch has come to where every worker finds it.
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
            // It took so long that another has begun.
            return Ok(());
        };
        let now = outside.clocks()?;
        self.take_in(&slot, sets, now.monotonic_ns);
        match read {
            Ok((_, published)) => {
                outside.count_fetch(&self.issuer, Fetched::Good(now.unix_s));
                if slot.version == claim {
                    let passed_over = published.passed_over.iter().take(MAX_TOLD);
                    let passed_over: Vec<_> = passed_over.map(ToString::to_string).collect();
                    let level = if published.keys.is_empty() {
                        Level::Warn
                    } else {
                        Level::Info
                    };
                    let line = serde_json::json!({
                        "event": "key-set", "issuer": self.issuer, "outcome": "fetched",
                        "keys": published.keys.len(), "passed_over": passed_over,
                    });
                    outside.tell(level, &line.to_string());
                }
            }
            Err(fault) => {
                outside.count_fetch(&self.issuer, Fetched::Failed);
                let counts = slot.counts(&self.pace, now.monotonic_ns);
                let age_s = (slot.version > 0).then(|| {
                    let age_ns = now.monotonic_ns.saturating_sub(slot.good_ns);
                    age_ns.checked_div(SECOND_NS)
                });
                let line = serde_json::json!({
                    "event": "key-set", "issuer": self.issuer, "outcome": "failed", "cause": fault.to_string(),
                    "failures": slot.failures, "age_s": age_s.flatten(), "in_force": counts,
                });
                let level = if counts { Level::Warn } else { Level::Error };
                outside.tell(level, &line.to_string());
            }
        }
        Ok(())
    }

    fn tell_fault(&self, outside: &mut dyn Outside, fault: StoreFault) {
        let line = format!("key set of issuer {:?}: {fault}", self.issuer);
        outside.tell(Level::Error, &line);
    }
}

fn read<S: SharedStore + ?Sized>(store: &mut S, key: &str) -> Result<(Slot, u32), StoreFault> {
    let slot = store.get(key)?.ok_or(StoreFault::NoSlot)?;
    let read = Slot::from_bytes(&slot.value).ok_or(StoreFault::NoSlot)?;
    Ok((read, slot.token))
}

/// Changes a slot until nobody else's write came in between; `None` if there was nothing to change.
fn change<S: SharedStore + ?Sized>(
    store: &mut S,
    key: &str,
    work: impl Fn(Slot) -> Option<Slot>,
) -> Result<Option<Slot>, StoreFault> {
    for _ in 0..MAX_SWAP_TRIES {
        let (slot, token) = read(store, key)?;
        let Some(slot) = work(slot) else {
            return Ok(None);
        };
        if store.swap(key, &slot.to_bytes(), token)? {
            return Ok(Some(slot));
        }
    }
    Err(StoreFault::Contended)
}
