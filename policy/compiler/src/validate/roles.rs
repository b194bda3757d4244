//! Roles: clients with the same grants share their combinations of model, version and operation. A
//! combination in two grants is a fault, because buckets depend on the grant.

use std::collections::{BTreeMap, BTreeSet};

use tensorgate_policy::policy::{ClientId, GrantId, Granted, ModelId, RoleId};
use tensorgate_policy::report::{Mark, Path};
use tensorgate_policy::request::Operation;

/// The fix for two grants with a common permission.
const OVERLAP_FIX: &str = "remove the client, the model or the operation from one of the two";

/// A model named by a grant, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) model: ModelId,
    pub(super) version: u32,
}

/// Permissions of one grant for each of its clients.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) id: GrantId,
    pub(super) targets: Vec<Target>,
    pub(super) operations: Vec<Operation>,
    /// Position in the report for faults of the whole grant.
    pub(super) reported: Mark,
}

/// Two grants with a common permission.
#[derive(Clone, Copy, Debug)]
pub(super) struct Overlap {
    pub(super) id: GrantId,
    /// The earlier grant.
    pub(super) other: GrantId,
    /// The first client with both grants, and the first common permission.
    pub(super) client: ClientId,
    pub(super) target: Target,
    pub(super) operation: Operation,
}

/// Clients grouped by their grants so far.
#[derive(Debug)]
pub(super) struct Roles {
    parts: Vec<Part>,
    /// Lists of grants, each as the index of its prefix and of its last part. The first is empty.
    lists: Vec<Option<(usize, usize)>>,
    /// List of each client, in client order.
    of: Vec<usize>,
}

impl Roles {
    pub(super) fn new(clients: usize) -> Self {
        Self {
            parts: Vec::new(),
            lists: [None].into(),
            of: vec![0; clients],
        }
    }

    /// Adds a grant to these clients.
    pub(super) fn join(&mut self, clients: &BTreeSet<ClientId>, part: Part) {
        let index = self.parts.len();
        self.parts.push(part);
        let mut longer = BTreeMap::new();
        for client in clients {
            let client = usize::try_from(client.0).ok();
            let Some(list) = client.and_then(|client| self.of.get_mut(client)) else {
                continue;
            };
            *list = *longer.entry(*list).or_insert_with(|| {
                let next = self.lists.len();
                self.lists.push(Some((*list, index)));
                next
            });
        }
    }

    /// Permissions of all clients; `None` if two grants overlap. Each overlapping pair is reported
    /// once.
    pub(super) fn enter(&self, path: &Path, text: impl Fn(&Overlap) -> String) -> Option<Granted> {
        let mut granted = Granted::default();
        granted.roles.reserve_exact(self.of.len());
        let mut known = BTreeMap::new();
        let mut overlaps: BTreeMap<usize, Vec<Overlap>> = BTreeMap::new();
        let mut pairs = BTreeSet::new();
        for (list, client) in self.of.iter().zip((0..).map(ClientId)) {
            // There are at most as many roles as clients, which fit 32 bits.
            let next = RoleId(u32::try_from(known.len()).unwrap_or(u32::MAX));
            let role = *known.entry(*list).or_insert(next);
            granted.roles.push(role);
            if role != next {
                continue;
            }
            for index in self.parts_of(*list) {
                let Some(part) = self.parts.get(index) else {
                    continue;
                };
                for target in &part.targets {
                    for operation in &part.operations {
                        let key = (role, target.model, target.version, *operation);
                        let other = *granted.by_role.entry(key).or_insert(part.id);
                        if other != part.id && pairs.insert((part.id, other)) {
                            overlaps.entry(index).or_default().push(Overlap {
                                id: part.id,
                                other,
                                client,
                                target: *target,
                                operation: *operation,
                            });
                        }
                    }
                }
            }
        }
        let is_disjoint = overlaps.is_empty();
        // In reverse order, so that earlier positions stay valid.
        for (index, overlaps) in overlaps.iter().rev() {
            let Some(part) = self.parts.get(*index) else {
                continue;
            };
            let at = usize::try_from(part.id.0).unwrap_or(usize::MAX);
            let messages = overlaps.iter().map(&text).collect();
            path.index(at)
                .errors_at(part.reported, messages, OVERLAP_FIX);
        }
        is_disjoint.then_some(granted)
    }

    /// Parts of a list in order.
    fn parts_of(&self, list: usize) -> Vec<usize> {
        let mut parts = Vec::new();
        let mut at = self.lists.get(list).copied().flatten();
        while let Some((before, part)) = at {
            parts.push(part);
            at = self.lists.get(before).copied().flatten();
        }
        parts.reverse();
        parts
    }
}
