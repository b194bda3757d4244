//! Counts of failed credentials in the store that all workers share.
//!
//! Pages are created at configuration time and changed by compare-and-swap only; the policy crate
//! defines their format. A store failure loosens a limit on work and is logged. It never affects
//! whether a credential is valid.

use std::net::IpAddr;

use tensorgate_identity::{Attempt, CheckBudget};
use tensorgate_policy::lockout::{
    Check, Failed, HOLDER_CHECKS_PER_S, HOLDERS_CHECKS_PER_S, Lockout, Page, Tag,
};
use tensorgate_policy::time::SECOND_NS;
use tensorgate_policy::{Now, Policy};
use tensorgate_wire::context::Key;

use crate::host::{ChangeFault, HostFault, Level, MAX_SWAP_TRIES, Proxy, SharedStore};
use crate::store::{self, KeyPrefix, SlotFault, make_slot};

/// Prefix of an IPv6 address that identifies a source, in bytes: a site has a /64 at least.
const IPV6_SOURCE_BYTES: usize = 8;

/// What a mark counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Sources, by the number of different failed credentials.
    Source,
    /// Credential prefixes of a source.
    Prefix,
    /// Valid tokens of a source that were seen, and their holders.
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

    /// Number of pages. A page has 16 marks in about 450 bytes: 2,048 sources, 8,192 prefixes and
    /// 4,096 tokens and holders in all.
    const fn pages(self) -> u16 {
        match self {
            Self::Source => 128,
            Self::Prefix => 512,
            Self::Right => 256,
        }
    }

    fn key(self, prefix: &KeyPrefix, page: u16) -> String {
        format!("{}lockout:{}:{page}", prefix.as_str(), self.name())
    }
}

/// Creates the pages if the policy uses lockout.
///
/// # Errors
/// The store failed or is full.
pub(crate) fn make_pages(
    store: &mut dyn SharedStore,
    prefix: &KeyPrefix,
    policy: &Policy,
) -> Result<(), SlotFault> {
    if policy.lockout().is_none() {
        return Ok(());
    }
    for kind in Kind::ALL {
        for page in 0..kind.pages() {
            make_slot(store, &kind.key(prefix, page), &Page::fresh())?;
        }
    }
    Ok(())
}

/// Location of a mark.
#[derive(Clone, Debug)]
struct MarkLocation {
    key: String,
    tag: Tag,
}

/// Marks of one source, for one request.
pub(crate) struct Marks<'r> {
    rule: &'r Lockout,
    key: &'r Key,
    prefix: &'r KeyPrefix,
    source: Vec<u8>,
    now_s: u32,
}

impl<'r> Marks<'r> {
    pub(crate) fn new(
        rule: &'r Lockout,
        key: &'r Key,
        prefix: &'r KeyPrefix,
        address: Option<IpAddr>,
        now: Now,
    ) -> Self {
        // Callers without an address share one source.
        let source = address.map(source_bytes).unwrap_or_default();
        let now_s = now.monotonic_ns.checked_div(SECOND_NS).unwrap_or(0);
        Self {
            rule,
            key,
            prefix,
            source,
            now_s: u32::try_from(now_s).unwrap_or(u32::MAX),
        }
    }

    /// How much work an unknown credential may cost.
    pub(crate) fn check_budget(&self, proxy: &mut dyn Proxy, attempt: &Attempt) -> CheckBudget {
        log_fault(self.check(proxy, attempt), proxy).unwrap_or(CheckBudget::Check)
    }

    /// Makes the same number of host calls for every result, as [`Self::count`] does.
    fn check(&self, proxy: &mut dyn Proxy, attempt: &Attempt) -> Result<CheckBudget, Fault> {
        let (source, prefix) = (self.source(), self.prefix(attempt));
        let right = self.right(attempt);
        let mut is_locked = |location: &MarkLocation| {
            read(proxy, location).map(|page| page.locked(location.tag, self.now_s))
        };
        let locks = (is_locked(&source)?, is_locked(&prefix)?);
        // Only one lock counts: the source's, if there is one.
        let location = match locks {
            (false, true) => prefix,
            _ => source,
        };
        let is_known = read(proxy, &right)?.knows(right.tag);
        // Whose token was valid from here before does not compete with all others.
        let is_bounded = locks != (false, false) && !is_known;
        let mut spend = |location: &MarkLocation, may_spend: bool, checks_per_s: u32| {
            change(proxy, location, |page| {
                let is_spent = may_spend && page.spend(location.tag, self.now_s, checks_per_s);
                (is_spent, is_spent)
            })
        };
        let has_turn = spend(&self.holder(attempt), is_bounded, HOLDER_CHECKS_PER_S)?;
        let has_turn = spend(&self.holders(), has_turn, HOLDERS_CHECKS_PER_S)?;
        change(proxy, &location, |page| {
            if is_known || has_turn {
                return (CheckBudget::Check, false);
            }
            match page.check(location.tag, self.now_s) {
                Check::Open => (CheckBudget::Check, false),
                Check::Spared => (CheckBudget::Check, true),
                Check::Decoy => (CheckBudget::Decoy, true),
                Check::Shut => (CheckBudget::Nothing, false),
            }
        })
    }

    /// Remembers a valid token and its holder for all workers while others fail.
    pub(crate) fn record_valid(&self, proxy: &mut dyn Proxy, attempt: &Attempt) {
        for location in [self.right(attempt), self.holder(attempt), self.holders()] {
            let noted = change(proxy, &location, |page| {
                page.note(location.tag, self.now_s);
                ((), true)
            });
            log_fault(noted, proxy);
        }
    }

    /// Counts a failure; returns whether there is a lock already.
    pub(crate) fn record_failure(&self, proxy: &mut dyn Proxy, attempt: &Attempt) -> bool {
        log_fault(self.count(proxy, attempt), proxy).unwrap_or(false)
    }

    /// Makes the same number of host calls for every result, so that the response time does not
    /// reveal a lock.
    fn count(&self, proxy: &mut dyn Proxy, attempt: &Attempt) -> Result<bool, Fault> {
        let (source, prefix) = (self.source(), self.prefix(attempt));
        if read(proxy, &source)?.locked(source.tag, self.now_s) {
            read_unchanged(proxy, &prefix)?;
            read_unchanged(proxy, &source)?;
            return Ok(true);
        }
        match self.fail(proxy, &prefix, "credential")? {
            // A prefix counts once per window against its source: one client with a stale key does
            // not lock out its neighbours.
            Failed::Counted { first: true, .. } => {
                Ok(self.fail(proxy, &source, "source")? == Failed::Locked)
            }
            failed => {
                read_unchanged(proxy, &source)?;
                Ok(failed == Failed::Locked)
            }
        }
    }

    fn fail(
        &self,
        proxy: &mut dyn Proxy,
        location: &MarkLocation,
        scope: &'static str,
    ) -> Result<Failed, Fault> {
        let failed = change(proxy, location, |page| {
            let failed = page.fail(self.rule, location.tag, self.now_s);
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

    fn source(&self) -> MarkLocation {
        self.location(Kind::Source, &[])
    }

    fn prefix(&self, attempt: &Attempt) -> MarkLocation {
        self.location(Kind::Prefix, &attempt.prefix)
    }

    fn right(&self, attempt: &Attempt) -> MarkLocation {
        self.location(Kind::Right, &attempt.credential)
    }

    /// Who holds a token: its issuer, key and subject.
    fn holder(&self, attempt: &Attempt) -> MarkLocation {
        self.location(
            Kind::Right,
            &[b"holder".as_slice(), &attempt.prefix].concat(),
        )
    }

    /// All holders of the source together.
    fn holders(&self) -> MarkLocation {
        self.location(Kind::Right, b"holders")
    }

    /// Locates a mark by a keyed digest, so that callers cannot choose which marks share a page.
    fn location(&self, kind: Kind, what: &[u8]) -> MarkLocation {
        let name = self
            .key
            .name(&[b"lockout", kind.name().as_bytes(), &self.source, what]);
        let (tag, page) = match name {
            [a, b, c, d, e, f, g, h, i, j, ..] => (
                u64::from_le_bytes([a, b, c, d, e, f, g, h]),
                u16::from_le_bytes([i, j]),
            ),
        };
        MarkLocation {
            key: kind.key(self.prefix, page.checked_rem(kind.pages()).unwrap_or(0)),
            tag: Tag::new(tag),
        }
    }
}

/// Why a mark could not be read or written; for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Host(#[from] HostFault),
    #[error("a page's slot is missing or has other data")]
    NoPage,
    #[error("other workers changed a page in each of {MAX_SWAP_TRIES} attempts")]
    Contended,
}

fn log_fault<T>(outcome: Result<T, Fault>, proxy: &mut dyn Proxy) -> Option<T> {
    outcome
        .inspect_err(|fault| proxy.log(Level::Error, &format!("lockout: {fault}")))
        .ok()
}

fn read(store: &mut dyn Proxy, location: &MarkLocation) -> Result<Page, Fault> {
    let slot = store.get(&location.key)?.ok_or(Fault::NoPage)?;
    Page::from_bytes(&slot.value).ok_or(Fault::NoPage)
}

/// Makes as many calls as a change without writing. Otherwise every failure would write the same
/// pages and block other writers.
fn read_unchanged(store: &mut dyn Proxy, location: &MarkLocation) -> Result<(), Fault> {
    change(store, location, |_| ((), false))
}

impl From<ChangeFault> for Fault {
    fn from(fault: ChangeFault) -> Self {
        match fault {
            ChangeFault::Host(fault) => Self::Host(fault),
            ChangeFault::Missing => Self::NoPage,
            ChangeFault::Contended => Self::Contended,
        }
    }
}

/// Changes a page. `work` returns whether to store the page; if not, the page is read once more,
/// so that both take two host calls. Where the store is memory of the process, a call takes less
/// than a client can measure.
fn change<T>(
    store: &mut dyn Proxy,
    location: &MarkLocation,
    work: impl Fn(&mut Page) -> (T, bool),
) -> Result<T, Fault> {
    let (result, has_changed) = store::change(store, &location.key, |bytes| {
        let mut page = Page::from_bytes(bytes).ok_or(Fault::NoPage)?;
        let (result, has_changed) = work(&mut page);
        let new = has_changed.then(|| page.to_bytes());
        Ok::<_, Fault>(((result, has_changed), new))
    })?;
    if !has_changed {
        read(store, location)?;
    }
    Ok(result)
}

/// What identifies a source: an IPv4 address, in IPv6's form too, or the prefix of an IPv6 address.
pub(crate) fn source_bytes(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => {
            let octets = address.octets().into_iter();
            octets.take(IPV6_SOURCE_BYTES).collect()
        }
    }
}
