//! A client that uses a credential that it has not used before: a new key or token, or one that an
//! attacker has added.

use tensorgate_policy::values::WatchRule;

use super::known::{Known, Use};
use super::{ClientTable, Rule};
use crate::alert::{Evidence, Finding, Subject};
use crate::observation::Observation;
use crate::table::{Slot, hash};
use crate::time::Time;

/// The bytes of a client's state, with what it has on the heap.
#[cfg(test)]
pub(super) const CLIENT_BYTES: usize =
    crate::table::key_bytes::<Known>() + super::known::HEAP_BYTES;

/// The rule `new-credential`.
#[derive(Debug, Default)]
pub(super) struct NewCredential {
    clients: ClientTable<Known>,
}

impl Rule for NewCredential {
    fn id(&self) -> WatchRule {
        WatchRule::NewCredential
    }

    fn observe(&mut self, seen: &Observation, now: Time) -> Option<Finding> {
        let name = seen.client.as_ref()?;
        let credential = seen.credential.as_ref()?;
        let Slot { state, is_shared } = self.clients.slot(name, now);
        let is_new = state.observe(hash(credential), now) == Use::New;
        // Clients that share state have different credentials.
        if !is_new || is_shared {
            return None;
        }
        Some(Finding {
            subject: Subject::Client(name.clone()),
            since: now,
            evidence: Evidence {
                observed: 1.0,
                usual: 0.0,
                unit: "new credentials",
            },
            what: format!("uses {credential}, a credential that it has not used before"),
            advice: "If its team has not created one, remove the credential from the policy and \
                     find out who added it.",
        })
    }

    fn shared_uses(&self) -> u64 {
        self.clients.shared_uses()
    }

    fn save(&self, out: &mut Vec<u8>) {
        self.clients.save(out);
    }

    fn load(&mut self, input: &mut &[u8]) -> Option<()> {
        self.clients = ClientTable::load(input)?;
        Some(())
    }
}
