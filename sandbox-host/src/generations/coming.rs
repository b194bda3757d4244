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
    /// A policy is about to be loaded: whom it no longer lets in is out at once, as long as what this gives lives. Of several the last one counts.
    pub fn announce(&self, policy: &Arc<Policy>) -> Announced<'_> {
        {
            let mut coming = self.coming.write().unwrap_or_else(PoisonError::into_inner);
            *coming = Some(Arc::clone(policy));
        }
        // Open streams look again.
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
        Announced {
            generations: self,
            policy: Arc::clone(policy),
        }
    }

    /// Whether whom a policy let in is still let in by the newest, and by the one that is coming.
    ///
    /// # Errors
    /// The cause, for the log.
    pub fn still_lets_in(
        &self,
        generation: &Arc<Generation>,
        client: Option<&str>,
        credential: Option<&str>,
    ) -> Result<(), String> {
        let newest = self.newest();
        if !Arc::ptr_eq(generation, &newest) && !lets_in(newest.policy(), client, credential) {
            let name = newest.name();
            return Err(format!(
                "policy {name} no longer lets this client or its credential in"
            ));
        }
        let coming = self.coming.read().unwrap_or_else(PoisonError::into_inner);
        if coming
            .as_deref()
            .is_none_or(|policy| lets_in(policy, client, credential))
        {
            return Ok(());
        }
        let cause = "the policy that is being loaded does not let this client or its credential in";
        Err(cause.to_owned())
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        let coming = self.generations.coming.write();
        let mut coming = coming.unwrap_or_else(PoisonError::into_inner);
        let same = |coming: &Arc<Policy>| Arc::ptr_eq(coming, &self.policy);
        if coming.as_ref().is_some_and(same) {
            *coming = None;
        }
    }
}
