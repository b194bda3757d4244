//! Wrong credentials, counted in the store that all workers share.
//!
//! Pages are made at configure and changed only by compare-and-swap; what is in one is the policy's to read. What the store cannot do loosens a
//! bound on work, and is told to the log: whose a credential is does not hang on it.

use std::net::IpAddr;

use tensorgate_identity::{Attempt, Worth};
use tensorgate_policy::lockout::{Check, Failed, Lockout, Page, Tag};
use tensorgate_policy::time::SECOND_NS;
use tensorgate_policy::{Now, Policy};
use tensorgate_wire::context::Key;

use crate::host::{HostFault, Level, Proxy, SharedStore};
use crate::slots::{self, SlotFault};
use crate::spend::{KEY_PREFIX, MAX_SWAP_TRIES};

/// Bytes of an IPv6 address that tell one source: a site has a /64 at least, and every address in it.
const IPV6_SOURCE_BYTES: usize = 8;

/// What is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Sources, by how many different credentials were wrong.
    Source,
    /// Sources with a credential prefix.
    Prefix,
    /// Tokens that were right, by source: what is marked here was seen.
    Right,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Source, Self::Prefix, Self::Right];

    const fn name(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Prefix => "prefix",
            Self::Right => "right",
        }
    }

    /// Pages of 16 marks, some 450 bytes each: 2,048 sources, 8,192 prefixes and 4,096 tokens, whoever calls.
    const fn pages(self) -> u16 {
        match self {
            Self::Source => 128,
            Self::Prefix => 512,
            Self::Right => 256,
        }
    }

    fn key(self, page: u16) -> String {
        format!("{KEY_PREFIX}lockout:{}:{page}", self.name())
    }
}

/// Makes the pages, if the policy has a use for any.
///
/// # Errors
/// The store failed, or is full.
pub fn make_pages(store: &mut dyn SharedStore, policy: &Policy) -> Result<(), SlotFault> {
    if policy.lockout().is_none() {
        return Ok(());
    }
    for kind in Kind::ALL {
        for page in 0..kind.pages() {
            slots::make(store, &kind.key(page), &Page::fresh())?;
        }
    }
    Ok(())
}

/// Where a mark lies.
#[derive(Clone, Debug)]
struct Place {
    key: String,
    tag: Tag,
}

/// One source's marks, as far as one request asks for them.
pub(crate) struct Marks<'r> {
    rule: &'r Lockout,
    key: &'r Key,
    source: Vec<u8>,
    now_s: u32,
}

impl<'r> Marks<'r> {
    pub(crate) fn new(rule: &'r Lockout, key: &'r Key, address: Option<IpAddr>, now: Now) -> Self {
        let source = match address.map(|address| address.to_canonical()) {
            // Callers without an address share one: nothing tells them apart.
            None => Vec::new(),
            Some(IpAddr::V4(address)) => address.octets().to_vec(),
            Some(IpAddr::V6(address)) => address
                .octets()
                .into_iter()
                .take(IPV6_SOURCE_BYTES)
                .collect(),
        };
        let now_s = now.monotonic_ns.checked_div(SECOND_NS).unwrap_or(0);
        Self {
            rule,
            key,
            source,
            now_s: u32::try_from(now_s).unwrap_or(u32::MAX),
        }
    }

    /// What a credential that nobody knows may cost.
    pub(crate) fn worth(&self, proxy: &mut dyn Proxy, attempt: &Attempt) -> Worth {
        told(self.check(proxy, attempt), proxy).unwrap_or(Worth::Check)
    }

    /// Takes as many calls whatever it comes to, as [`Self::count`] does.
    fn check(&self, proxy: &mut dyn Proxy, attempt: &Attempt) -> Result<Worth, Fault> {
        let (source, prefix) = (self.source(), self.prefix(attempt));
        let right = self.right(attempt);
        let mut is_locked =
            |place: &Place| read(proxy, place).map(|page| page.locked(place.tag, self.now_s));
        // One of the two locks counts: the source's, if there is one.
        let place = match (is_locked(&source)?, is_locked(&prefix)?) {
            (false, true) => prefix,
            _ => source,
        };
        let is_known = read(proxy, &right)?.knows(right.tag);
        change(proxy, &place, |page| {
            if is_known {
                return (Worth::Check, false);
            }
            match page.check(place.tag, self.now_s) {
                Check::Open => (Worth::Check, false),
                Check::Spared => (Worth::Check, true),
                Check::Decoy => (Worth::Decoy, true),
                Check::Shut => (Worth::Nothing, false),
            }
        })
    }

    /// Remembers a token, for every worker, while others of its prefix fail.
    pub(crate) fn was_right(&self, proxy: &mut dyn Proxy, attempt: &Attempt) {
        let place = self.right(attempt);
        let noted = change(proxy, &place, |page| {
            page.note(place.tag, self.now_s);
            ((), true)
        });
        told(noted, proxy);
    }

    /// Counts a failure; whether there is a lock already.
    pub(crate) fn was_wrong(&self, proxy: &mut dyn Proxy, attempt: &Attempt) -> bool {
        told(self.count(proxy, attempt), proxy).unwrap_or(false)
    }

    /// Takes as many calls whatever it comes to, so that nobody learns by the time of an answer whether there is a lock.
    fn count(&self, proxy: &mut dyn Proxy, attempt: &Attempt) -> Result<bool, Fault> {
        let (source, prefix) = (self.source(), self.prefix(attempt));
        if read(proxy, &source)?.locked(source.tag, self.now_s) {
            look(proxy, &prefix)?;
            look(proxy, &source)?;
            return Ok(true);
        }
        match self.fail(proxy, &prefix, "credential")? {
            // A prefix counts against its source once a window: one client with a stale key does not lock out its neighbours.
            Failed::Counted { first: true, .. } => {
                Ok(self.fail(proxy, &source, "source")? == Failed::Locked)
            }
            failed => {
                look(proxy, &source)?;
                Ok(failed == Failed::Locked)
            }
        }
    }

    fn fail(
        &self,
        proxy: &mut dyn Proxy,
        place: &Place,
        scope: &'static str,
    ) -> Result<Failed, Fault> {
        let failed = change(proxy, place, |page| {
            let failed = page.fail(self.rule, place.tag, self.now_s);
            (failed, failed != Failed::Locked)
        })?;
        if let Failed::Counted { locks: true, .. } = failed {
            let source = proxy.source_address();
            let line = serde_json::json!({
                "event": "lockout", "scope": scope, "source": source, "for_s": self.rule.for_s()
            });
            proxy.log(Level::Warn, &line.to_string());
        }
        Ok(failed)
    }

    fn source(&self) -> Place {
        self.place(Kind::Source, &[])
    }

    fn prefix(&self, attempt: &Attempt) -> Place {
        self.place(Kind::Prefix, &attempt.prefix)
    }

    fn right(&self, attempt: &Attempt) -> Place {
        self.place(Kind::Right, &attempt.whole)
    }

    /// By a keyed digest: nobody can choose what shares a page with whom.
    fn place(&self, kind: Kind, what: &[u8]) -> Place {
        let name = self
            .key
            .name(&[b"lockout", kind.name().as_bytes(), &self.source, what]);
        let (tag, page) = match name {
            [a, b, c, d, e, f, g, h, i, j, ..] => (
                u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                u16::from_le_bytes([i, j]),
            ),
        };
        Place {
            key: kind.key(page.checked_rem(kind.pages()).unwrap_or(0)),
            tag: Tag::new(tag),
        }
    }
}

/// Why a mark could not be read or written; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Host(#[from] HostFault),
    #[error("page has no slot, or something else in it")]
    NoPage,
    #[error("page was written by others at each of {MAX_SWAP_TRIES} tries")]
    Contended,
}

fn told<T>(outcome: Result<T, Fault>, proxy: &mut dyn Proxy) -> Option<T> {
    outcome
        .inspect_err(|fault| proxy.log(Level::Error, &format!("lockout: {fault}")))
        .ok()
}

fn read(store: &mut dyn Proxy, place: &Place) -> Result<Page, Fault> {
    let slot = store.get(&place.key)?.ok_or(Fault::NoPage)?;
    Page::from_bytes(&slot.value).ok_or(Fault::NoPage)
}

/// As many calls as a change takes, and none that writes: pages that everybody's failures are written to would keep each other's writers out.
fn look(store: &mut dyn Proxy, place: &Place) -> Result<(), Fault> {
    change(store, place, |_| ((), false))
}

/// Changes a page until nobody else's write came in between; `work` says whether there is anything to store. If there is not, it is read once more.
fn change<T>(
    store: &mut dyn Proxy,
    place: &Place,
    work: impl Fn(&mut Page) -> (T, bool),
) -> Result<T, Fault> {
    for _ in 0..MAX_SWAP_TRIES {
        let slot = store.get(&place.key)?.ok_or(Fault::NoPage)?;
        let mut page = Page::from_bytes(&slot.value).ok_or(Fault::NoPage)?;
        let (result, changed) = work(&mut page);
        if !changed {
            read(store, place)?;
            return Ok(result);
        }
        if store.swap(&place.key, &page.to_bytes(), slot.token)? {
            return Ok(result);
        }
    }
    Err(Fault::Contended)
}
