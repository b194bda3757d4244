//! Clients that a new policy no longer admits, from the moment at which that policy is known.
//! Loading it may take long, and a revocation must not wait for a compiler or a backend. If the
//! policy cannot become active in the gate, the host rejects these clients by itself.

use std::sync::{Arc, PoisonError};

use tensorgate_policy::Policy;

use super::policy_versions::{PolicyVersion, PolicyVersions, Restriction};
use crate::policy_store::revocation::is_admitted;

/// A policy that is being loaded or waits for it.
pub struct PendingPolicy<'g> {
    generations: &'g PolicyVersions,
    policy: Arc<Policy>,
}

impl PolicyVersions {
    /// Registers a policy to be loaded. Clients that it does not admit are rejected at once, as
    /// long as the returned value lives. All registered policies count, because each becomes active
    /// in turn.
    pub fn announce(&self, policy: &Arc<Policy>) -> PendingPolicy<'_> {
        {
            let mut coming = self.pending.write().unwrap_or_else(PoisonError::into_inner);
            coming.push(Arc::clone(policy));
        }
        self.notify_change();
        PendingPolicy {
            generations: self,
            policy: Arc::clone(policy),
        }
    }

    /// Registers a version that only restricts another. While that one is the newest, clients that
    /// this one does not admit are rejected: before it is loaded, and also if it is discarded
    /// because a filter cannot apply it.
    pub fn tighten(&self, of: &str, policy: &Arc<Policy>) {
        let tighter = Restriction {
            of: of.to_owned(),
            policy: Arc::clone(policy),
        };
        self.set_restriction(Some(tighter));
        self.notify_change();
    }

    /// A version was requested as it is. Clients that another version excluded from it are admitted
    /// again.
    pub fn loosen(&self, version: &str) {
        let known = self.tighter.read().unwrap_or_else(PoisonError::into_inner);
        let of_it = known.as_ref().is_some_and(|tighter| tighter.of == version);
        drop(known);
        if of_it {
            self.set_restriction(None);
        }
    }

    fn set_restriction(&self, tighter: Option<Restriction>) {
        *self.tighter.write().unwrap_or_else(PoisonError::into_inner) = tighter;
    }

    /// Makes open streams check again whether their callers are admitted.
    fn notify_change(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Checks that the newest policy, and those that are being loaded, still admit a client.
    ///
    /// # Errors
    /// Returns the cause, for the log.
    pub fn check_still_allowed(
        &self,
        generation: &Arc<PolicyVersion>,
        client: Option<&str>,
        credential: Option<&str>,
    ) -> Result<(), String> {
        // Policies that are being loaded are checked first. One that becomes active meanwhile is
        // then seen as the newest, and is never missed.
        let out = {
            let coming = self.pending.read().unwrap_or_else(PoisonError::into_inner);
            coming
                .iter()
                .any(|policy| !is_admitted(policy, client, credential))
        };
        if out {
            let cause = "the policy that is being loaded removes this client or its credential";
            return Err(cause.to_owned());
        }
        let newest = self.newest();
        let tighter = self.tighter.read().unwrap_or_else(PoisonError::into_inner);
        let taken_out = tighter.as_ref().is_some_and(|tighter| {
            tighter.of == newest.name() && !is_admitted(&tighter.policy, client, credential)
        });
        drop(tighter);
        if taken_out {
            let cause = "this client or its credential was removed from the policy";
            return Err(cause.to_owned());
        }
        if !Arc::ptr_eq(generation, &newest) && !is_admitted(newest.policy(), client, credential) {
            let name = newest.name();
            return Err(format!(
                "policy {name} no longer has this client or its credential"
            ));
        }
        Ok(())
    }
}

impl Drop for PendingPolicy<'_> {
    fn drop(&mut self) {
        let coming = self.generations.pending.write();
        let mut coming = coming.unwrap_or_else(PoisonError::into_inner);
        let own = |coming: &Arc<Policy>| Arc::ptr_eq(coming, &self.policy);
        if let Some(place) = coming.iter().position(own) {
            coming.swap_remove(place);
        }
    }
}
