//! Whether the servers of a model version have loaded its verified files, and no others. A pure
//! state machine; times are in milliseconds since the start of the host.
//!
//! | state | files differ | files are verified | loads are seen | an operator confirms | a server is new |
//! |---|---|---|---|---|---|
//! | trusted | changed | trusted | trusted | refused | awaiting a load, if files differed before |
//! | changed | changed | awaiting a load | changed, and the load is reported | refused | changed |
//! | awaiting a load | changed | awaiting a load | trusted, if each began after the files were verified | trusted, if it names the digest and this wait | awaiting a load |
//!
//! A server that loads only bytes of the verified digest, as an embedded one does, needs no load:
//! its version is trusted when the files are verified. Files that changed and are verified again
//! as they were raise an alert, because no one published them.

use tensorgate_policy::hex;

use crate::endpoint_loads::Load;
use crate::status::{Cause, Identity, Status};

/// How a reason begins why a model with verified files is not ready.
pub const AWAITING_LOAD: &str = "its verified files are not known to be loaded";

/// The options of the command that confirms a load: the digest in hex, and the number of the wait.
pub fn confirm_options(digest: &str, wait: u64) -> String {
    format!("--digest {digest} --wait {wait}")
}

/// What has happened.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LoadEvent<'a> {
    /// The files are, or were, not the verified ones.
    FilesDiffer {
        /// Whether an alert was raised about that.
        is_alerted: bool,
    },
    /// No manifest says what the files must be, and an alert was raised about that. The key may not
    /// be there yet, or the clock be wrong: it is no change.
    Untrusted,
    /// The files were verified.
    FilesVerified(&'a Identity),
    /// The last load at each server. No file has changed since they were seen.
    LoadsSeen(&'a [Option<Load>]),
    /// An operator says that each server has loaded the files of this digest, in this wait.
    Confirmed { digest: &'a [u8; 32], wait: u64 },
    /// A policy names a server that had the version under no policy before.
    ServerAdded,
}

/// What is to be reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoadEffect {
    /// Nothing.
    None,
    /// The files changed and are the same again.
    Alert,
    /// The servers have the verified files.
    Loaded,
    /// A load was seen that does not count.
    LoadedOthers,
}

/// What the servers of a model version may have loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Only verified files, as far as is known.
    Trusted,
    /// Other files, which are not verified.
    Changed {
        since_ms: u64,
        is_alerted: bool,
        has_load: bool,
    },
    /// Other files. The present ones are verified.
    AwaitingLoad {
        digest: [u8; 32],
        verified_ms: u64,
        has_load: bool,
        /// Which wait it is. A confirmation names it.
        wait: u64,
    },
}

/// The state of a model version's loads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LoadState {
    state: State,
    /// What was verified last.
    verified: Option<Identity>,
    /// Whether the files ever differed. A server that is new may have loaded them then.
    has_differed: bool,
    /// The number of the next wait.
    next_wait: u64,
}

impl<'a> LoadEvent<'a> {
    /// What an observation of the files means. `None` for a failure without a verdict on them.
    pub const fn of(observation: &'a Status) -> Option<Self> {
        match observation {
            Status::Checking { changed: Some(_) } => Some(Self::FilesDiffer { is_alerted: false }),
            Status::Verified(identity) => Some(Self::FilesVerified(identity)),
            Status::Rejected(Cause::Files(_)) => Some(Self::FilesDiffer { is_alerted: true }),
            Status::Rejected(Cause::Untrusted(_)) => Some(Self::Untrusted),
            Status::Rejected(Cause::Ended(_) | Cause::Other(_))
            | Status::Checking { changed: None } => None,
        }
    }
}

impl LoadState {
    /// The state of a version whose files never differed. Waits are numbered from `first_wait`, so
    /// a number that is a time is of no wait of an earlier host.
    pub const fn new(first_wait: u64) -> Self {
        Self {
            state: State::Trusted,
            verified: None,
            has_differed: false,
            next_wait: first_wait,
        }
    }

    /// Applies an event at this time. `loads_only_verified` says that the servers check the digest
    /// of what they load.
    pub fn apply(
        &mut self,
        event: LoadEvent<'_>,
        now_ms: u64,
        loads_only_verified: bool,
    ) -> LoadEffect {
        match event {
            LoadEvent::FilesDiffer { is_alerted } => self.differ(is_alerted, now_ms),
            LoadEvent::Untrusted => {
                if let State::Changed { is_alerted, .. } = &mut self.state {
                    *is_alerted = true;
                }
            }
            LoadEvent::FilesVerified(identity) => {
                return self.verify(identity, now_ms, loads_only_verified);
            }
            LoadEvent::LoadsSeen(loads) => return self.see(loads),
            LoadEvent::Confirmed {
                digest: confirmed,
                wait: named,
            } => {
                if let State::AwaitingLoad { digest, wait, .. } = &self.state
                    && digest == confirmed
                    && *wait == named
                {
                    self.state = State::Trusted;
                    return LoadEffect::Loaded;
                }
            }
            LoadEvent::ServerAdded => self.add_server(now_ms, loads_only_verified),
        }
        LoadEffect::None
    }

    fn add_server(&mut self, now_ms: u64, loads_only_verified: bool) {
        if self.state != State::Trusted || !self.has_differed || loads_only_verified {
            return;
        }
        self.state = match &self.verified {
            Some(identity) => State::AwaitingLoad {
                digest: identity.digest,
                verified_ms: now_ms,
                has_load: false,
                wait: self.next_wait,
            },
            None => State::Changed {
                since_ms: now_ms,
                is_alerted: true,
                has_load: false,
            },
        };
        self.next_wait = self.next_wait.saturating_add(1);
    }

    fn differ(&mut self, alerted: bool, now_ms: u64) {
        self.has_differed = true;
        match &mut self.state {
            State::Changed { is_alerted, .. } => *is_alerted |= alerted,
            State::Trusted | State::AwaitingLoad { .. } => {
                self.state = State::Changed {
                    since_ms: now_ms,
                    is_alerted: alerted,
                    has_load: false,
                };
            }
        }
    }

    fn verify(
        &mut self,
        identity: &Identity,
        verified_ms: u64,
        loads_only_verified: bool,
    ) -> LoadEffect {
        let before = self.verified.replace(identity.clone());
        if let State::AwaitingLoad { digest, .. } = &mut self.state {
            *digest = identity.digest;
        }
        let State::Changed {
            is_alerted,
            has_load,
            ..
        } = self.state
        else {
            return LoadEffect::None;
        };
        self.state = if loads_only_verified {
            State::Trusted
        } else {
            State::AwaitingLoad {
                digest: identity.digest,
                verified_ms,
                has_load,
                wait: self.next_wait,
            }
        };
        self.next_wait = self.next_wait.saturating_add(1);
        let is_put_back = before.as_ref() == Some(identity);
        if is_put_back && !is_alerted {
            LoadEffect::Alert
        } else {
            LoadEffect::None
        }
    }

    fn see(&mut self, loads: &[Option<Load>]) -> LoadEffect {
        let (since_ms, has_load, is_verified) = match &mut self.state {
            State::Trusted => return LoadEffect::None,
            State::Changed {
                since_ms, has_load, ..
            } => (*since_ms, has_load, false),
            State::AwaitingLoad {
                verified_ms,
                has_load,
                ..
            } => (*verified_ms, has_load, true),
        };
        let is_later = |load: &Option<Load>| load.is_some_and(|it| it.began_ms > since_ms);
        if is_verified && !loads.is_empty() && loads.iter().all(is_later) {
            self.state = State::Trusted;
            return LoadEffect::Loaded;
        }
        let is_other =
            |load: &Load| load.seen_ms > since_ms && (!is_verified || load.began_ms <= since_ms);
        if loads.iter().flatten().any(is_other) && !std::mem::replace(has_load, true) {
            LoadEffect::LoadedOthers
        } else {
            LoadEffect::None
        }
    }

    /// Whether the servers have only verified files, as far as is known.
    pub(crate) fn is_trusted(&self) -> bool {
        self.state == State::Trusted
    }

    /// The number of the wait for a load.
    pub const fn wait(&self) -> Option<u64> {
        match self.state {
            State::AwaitingLoad { wait, .. } => Some(wait),
            State::Trusted | State::Changed { .. } => None,
        }
    }

    /// What is worse than a change alone: a server has loaded something meanwhile.
    pub const fn note(&self) -> Option<&'static str> {
        match self.state {
            State::Changed { has_load: true, .. } => Some("its server has loaded files meanwhile"),
            State::Changed { .. } | State::Trusted | State::AwaitingLoad { .. } => None,
        }
    }

    /// Why a version with verified files is not ready. `None` if it is. `model_version` names it as
    /// commands do, such as `risk@1`.
    pub fn unready(&self, model_version: &str) -> Option<String> {
        let (digest, has_load, wait) = match &self.state {
            State::Trusted => return None,
            State::Changed { .. } => return Some(AWAITING_LOAD.to_owned()),
            State::AwaitingLoad {
                digest,
                has_load,
                wait,
                ..
            } => (digest, *has_load, *wait),
        };
        let seen = if has_load {
            "its server has loaded files that may be others"
        } else {
            "they changed, and its server may have loaded others"
        };
        Some(format!(
            "{AWAITING_LOAD}: {seen}: let the gate see the server ready, then restart it; or load the model there, then run `tensorgate model confirm {model_version} {}`",
            confirm_options(&hex(digest), wait)
        ))
    }
}

#[cfg(test)]
mod tests;
