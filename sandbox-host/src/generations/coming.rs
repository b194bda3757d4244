//! Whom a policy no longer lets in, from the moment on at which that policy is known: it may take long until it is in force, and a revocation waits
//! for no compiler and no backend.

use std::sync::{Arc, PoisonError};

use tensorgate_policy::Policy;

use super::{Generation, Generations};
use crate::revocation::lets_in;

/// A policy that is being loaded, or whose turn comes.
pub struct Announced<'g> {
    generations: &'g Generations,
    policy: Arc<Policy>,
}

impl Generations {
    /// A policy is to be loaded: whom it does not let in is out at once, as long as what this gives lives. Of several each counts: every one of them is in
    /// force in its turn, whatever the next one says.
    pub fn announce(&self, policy: &Arc<Policy>) -> Announced<'_> {
        {
            let mut coming = self.coming.write().unwrap_or_else(PoisonError::into_inner);
            coming.push(Arc::clone(policy));
        }
        // Open streams look again.
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
        Announced {
            generations: self,
            policy: Arc::clone(policy),
        }
    }

    /// Whether whom a policy let in is still let in by the newest, and by those that are coming.
    ///
    /// # Errors
    /// The cause, for the log.
    pub fn still_lets_in(
        &self,
        generation: &Arc<Generation>,
        client: Option<&str>,
        credential: Option<&str>,
    ) -> Result<(), String> {
        // Those that come first: one that is in force meanwhile is seen as the newest then, and never as neither.
        let out = {
            let coming = self.coming.read().unwrap_or_else(PoisonError::into_inner);
            coming
                .iter()
                .any(|policy| !lets_in(policy, client, credential))
        };
        if out {
            let cause =
                "the policy that is being loaded does not let this client or its credential in";
            return Err(cause.to_owned());
        }
        let newest = self.newest();
        if !Arc::ptr_eq(generation, &newest) && !lets_in(newest.policy(), client, credential) {
            let name = newest.name();
            return Err(format!(
                "policy {name} no longer lets this client or its credential in"
            ));
        }
        Ok(())
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        let coming = self.generations.coming.write();
        let mut coming = coming.unwrap_or_else(PoisonError::into_inner);
        let own = |coming: &Arc<Policy>| Arc::ptr_eq(coming, &self.policy);
        if let Some(place) = coming.iter().position(own) {
            coming.swap_remove(place);
        }
    }
}
