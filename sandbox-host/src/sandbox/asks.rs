//! What a guest asks of the world outside, and how it gets it without ever waiting: a call that asks for something which is not there yet ends, the
//! host brings it, and a fresh instance runs the same call with it at hand. A guest cannot tell the two apart, so its fuel and its answer are
//! those of its input and of what was brought, and no thread waits for a network.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tensorgate_policy::policy::Handler;
use tokio::time::Instant;

use super::bounds::{MAX_ASKS, MAX_TOLD};
use super::outcome::Keep;

/// Something that a guest asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// The file at a URL.
    File(String),
    /// Features of keys, of a feature service.
    Columns {
        /// The lookup's name in the policy.
        lookup: String,
        /// Features.
        features: Vec<String>,
        /// Keys.
        keys: Vec<String>,
    },
}

/// What came of one ask.
#[derive(Clone, Debug, PartialEq)]
pub enum Brought {
    /// A file, or why there is none.
    File(Result<File, Missing>),
    /// A column for each feature, or why there is none.
    Columns(Result<Vec<Column>, Missing>),
}

impl Brought {
    /// Nothing, of what an ask is for.
    pub const fn nothing(ask: &Ask, why: Missing) -> Self {
        match ask {
            Ask::File(_) => Self::File(Err(why)),
            Ask::Columns { .. } => Self::Columns(Err(why)),
        }
    }
}

/// One feature's values, one for each key that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The feature.
    pub feature: String,
    /// Its values; none where the service has none.
    pub values: Vec<Option<f64>>,
}

/// A fetched file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its media type as the server declared it, one that the policy lists.
    pub content_type: String,
    /// Its bytes, at most the policy's `max_bytes`.
    pub data: Bytes,
}

/// Why something was not brought, as the guest is told: enough to choose between a caller's fault and nobody's, and nothing that maps a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The policy does not let it be asked for, or reached.
    Refused,
    /// Nobody answers there, or not as who they should be.
    Unavailable,
    /// It took longer than it may.
    Timeout,
    /// It is larger than it may be.
    TooLarge,
    /// It is of no type that the policy lists.
    WrongType,
    /// The server says that there is nothing, or nothing for us.
    NotFound,
}

impl Missing {
    /// Every reason, in the order of the interface's enum.
    pub const ALL: [Self; 6] = [
        Self::Refused,
        Self::Unavailable,
        Self::Timeout,
        Self::TooLarge,
        Self::WrongType,
        Self::NotFound,
    ];

    /// Its name in logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::TooLarge => "too-large",
            Self::WrongType => "wrong-type",
            Self::NotFound => "not-found",
        }
    }
}

/// For whom something is brought.
#[derive(Clone, Debug)]
pub struct Behalf {
    /// The client.
    pub client: Arc<str>,
    /// Its request.
    pub request_id: Arc<str>,
    /// Where what was brought is told of.
    pub ledger: Ledger,
    /// What keeps its calls, if they are kept.
    pub keep: Option<Arc<dyn Keep>>,
}

impl Default for Behalf {
    fn default() -> Self {
        Self {
            client: Arc::from(""),
            request_id: Arc::from(""),
            ledger: Ledger::default(),
            keep: None,
        }
    }
}

/// One thing that was to be brought, as the audit log has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reached {
    /// The handler that asked.
    pub handler: String,
    /// The lookup that it asked for; none of a file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub lookup: String,
    /// The host that was asked last; empty where a URL was refused before it had one.
    pub host: String,
    /// `ok`, or why nothing came.
    pub outcome: String,
    /// The HTTP status of the last answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of the answer that were read.
    pub bytes: u64,
    /// Redirects that were followed.
    pub redirects: u64,
    /// How long it took.
    pub took_us: u64,
}

/// What was brought for one request. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Ledger(Arc<Mutex<Vec<Reached>>>);

impl Ledger {
    /// Adds an entry; says which it is, if there is room for it.
    pub fn tell(&self, reached: Reached) -> Option<usize> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = entries.len();
        if entry < MAX_TOLD {
            entries.push(reached);
            return Some(entry);
        }
        if entry == MAX_TOLD {
            entries.push(Reached {
                outcome: "further-not-told".to_owned(),
                ..Reached::default()
            });
        }
        None
    }

    /// Says more of an entry.
    pub fn amend(&self, entry: Option<usize>, reached: Reached) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = entry.and_then(|entry| entries.get_mut(entry)) {
            *known = reached;
        }
    }

    /// Every entry so far.
    pub fn entries(&self) -> Vec<Reached> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// No place is free to bring anything from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy;

/// Brings what a guest asks for. What it may, and from where, is the bringer's to know.
pub trait Bring: Send + Sync {
    /// As many answers as there are asks, in their order. `latest` is when nobody waits any more.
    fn bring<'b>(
        &'b self,
        asks: &'b [Ask],
        behalf: &'b Behalf,
        latest: Option<Instant>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<Brought>, Busy>> + Send + 'b>>;
}

/// What has been brought for one call so far.
pub type Known = BTreeMap<Ask, Brought>;

/// How much a handler may ask for in one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asking {
    /// Files.
    pub(super) files: usize,
    /// Lookups by name.
    pub(super) lookups: BTreeMap<String, usize>,
}

impl Asking {
    /// As its policy says.
    pub(super) fn of(rule: &Handler) -> Self {
        Self {
            files: rule.fetch().map_or(0, |rule| rule.max_requests()),
            lookups: (rule.lookups().iter())
                .map(|(name, rule)| (name.clone(), rule.max_requests()))
                .collect(),
        }
    }
}

/// What a call has asked for: what is known from the runs before, and what this run met that is not.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) may: Asking,
    pub(super) known: Arc<Known>,
    pub(super) wanted: Vec<Ask>,
}

impl Asked {
    /// What is known of these; nothing if anything is missing, which is wanted from then on.
    pub(super) fn get(&mut self, asks: &[Ask]) -> Option<Vec<Brought>> {
        for ask in asks {
            if !self.known.contains_key(ask) && !self.wanted.contains(ask) {
                self.wanted.push(ask.clone());
            }
        }
        if !self.wanted.is_empty() {
            return None;
        }
        asks.iter()
            .map(|ask| self.known.get(ask).cloned())
            .collect()
    }

    /// Whether the call has asked for more than it may.
    pub(super) fn is_beyond(&self) -> bool {
        let asked = || self.known.keys().chain(&self.wanted);
        let files = asked().filter(|ask| matches!(ask, Ask::File(_))).count();
        let of = |name: &str| {
            let named = |ask: &&Ask| matches!(ask, Ask::Columns { lookup, .. } if lookup == name);
            asked().filter(named).count()
        };
        asked().count() > MAX_ASKS
            || files > self.may.files
            || asked().any(|ask| match ask {
                Ask::File(_) => false,
                Ask::Columns { lookup, .. } => {
                    of(lookup) > self.may.lookups.get(lookup).copied().unwrap_or(0)
                }
            })
    }
}
