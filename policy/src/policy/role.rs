//! Roles: clients with the same grants. Permissions are stored once per role, because each worker
//! of a proxy holds all of them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::{ClientId, GrantId, ModelId};
use crate::request::Operation;

/// Clients of one policy that have the same grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RoleId(pub(crate) u32);

/// Permissions of all clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted {
    /// Role of each client, in client order.
    pub(crate) roles: Vec<RoleId>,
    /// The grant for a role, model, version index and operation.
    pub(crate) by_role: BTreeMap<(RoleId, ModelId, u32, Operation), GrantId>,
}

impl Granted {
    /// Role of a client; `None` only for an id of another policy.
    pub(crate) fn role(&self, client: ClientId) -> Option<RoleId> {
        self.roles.get(usize::try_from(client.0).ok()?).copied()
    }

    /// The grant for a client, model, version index and operation.
    pub(crate) fn get(
        &self,
        client: ClientId,
        model: ModelId,
        version: u32,
        operation: Operation,
    ) -> Option<GrantId> {
        let key = (self.role(client)?, model, version, operation);
        self.by_role.get(&key).copied()
    }

    /// Client, model, version index, operation and grant, in this order.
    pub(crate) fn iter(
        &self,
    ) -> impl Iterator<Item = (ClientId, ModelId, u32, Operation, GrantId)> + '_ {
        let clients = (0..).map(ClientId).zip(&self.roles);
        clients.flat_map(|(client, &role)| {
            // The smallest key.
            let first = (role, ModelId(0), 0, Operation::Infer);
            let entries = self.by_role.range(first..);
            entries.take_while(move |((of, ..), _)| *of == role).map(
                move |(&(_, model, version, operation), &grant)| {
                    (client, model, version, operation, grant)
                },
            )
        })
    }
}
