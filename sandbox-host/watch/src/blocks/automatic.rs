//! What alerts do to clients, and the bounds of it.

use std::collections::BTreeSet;

use tensorgate_policy::Policy;
use tensorgate_policy::values::{AlertAction, WatchRule};

use super::record::{BlockAction, BlockRecord};

/// The most clients that rules block or throttle at the same time. An attacker who makes rules fire
/// must not be able to stop a service.
const MAX_AUTOMATIC: usize = 5;
/// The same as a part of all clients: one in this many, but at least one.
const AUTOMATIC_ONE_IN: usize = 10;
/// Milliseconds of a second.
const SECOND_MS: u64 = 1_000;

/// What a policy says that alerts do.
#[derive(Clone, Debug, Default)]
pub struct Responses {
    on_alert: Vec<(WatchRule, AlertAction)>,
    lasts_s: u64,
    clients: usize,
    /// The clients with a grant. The others have every inference denied anyway.
    granted: BTreeSet<String>,
}

impl Responses {
    /// The responses of a policy.
    pub fn from_policy(policy: &Policy) -> Self {
        let watch = policy.watch();
        let granted = policy.grants().iter().flat_map(|grant| grant.clients());
        let granted = granted.filter_map(|id| policy.client(*id));
        Self {
            on_alert: watch.on_alert().to_vec(),
            lasts_s: watch.response_s(),
            clients: policy.clients().len(),
            granted: granted.map(|client| client.name().to_owned()).collect(),
        }
    }

    /// What an alert of a rule does, if it does more than notify.
    pub(super) fn action(&self, rule: WatchRule) -> Option<BlockAction> {
        let found = self.on_alert.iter().find(|(known, _)| *known == rule);
        found.and_then(|(_, action)| BlockAction::from_alert(*action))
    }

    /// Whether a client has a grant.
    pub(super) fn has_grant(&self, client: &str) -> bool {
        self.granted.contains(client)
    }

    /// The most clients that rules block or throttle at the same time.
    pub(super) fn most(&self) -> usize {
        let part = self.clients.div_euclid(AUTOMATIC_ONE_IN);
        part.clamp(1, MAX_AUTOMATIC)
    }

    /// How long a block or throttle by a rule lasts, in milliseconds.
    pub(super) const fn lasts_ms(&self) -> u64 {
        self.lasts_s.saturating_mul(SECOND_MS)
    }
}

/// An alert about a client with a verified credential.
#[derive(Clone, Copy, Debug)]
pub struct ClientAlert<'a> {
    /// The rule.
    pub rule: WatchRule,
    /// The client.
    pub client: &'a str,
    /// What happened, as the alert says it.
    pub what: &'a str,
}

/// The answer to an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// The policy says no more than to notify.
    Notify,
    /// The client is blocked or throttled from now on.
    Taken(BlockRecord),
    /// It is blocked or throttled already, by this record.
    InForce(BlockRecord),
    /// An operator has lifted a block of it, which would still be in force.
    Lifted,
    /// The client has no grant, so there is nothing to stop.
    NoGrant,
    /// As [`Self::Beyond`], and the alert is kept: it is answered once one of these blocks has
    /// ended.
    Waiting(usize),
    /// Rules block or throttle this many clients already, which is the bound.
    Beyond(usize),
    /// The list has no room.
    Full,
}
