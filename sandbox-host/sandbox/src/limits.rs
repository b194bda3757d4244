//! Limits on the memory, tables and instances of one call. The limiter remembers its first
//! rejection: a guest that is denied memory ends with `unreachable`, and only the limiter knows
//! why. Memory also counts towards the host's limit, beyond which the call ends at once.

use std::sync::Arc;

use wasmtime::ResourceLimiter;

use crate::fixed_limits::{MAX_CORE_INSTANCES, MAX_MEMORIES, MAX_TABLE_ELEMENTS, MAX_TABLES};
use crate::memory_account::{MemoryAccount, MemoryShare};

/// The memory of all handlers together is at its limit. It ends the call, because a handler that
/// went on without this memory would answer by what other calls do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("all handlers together have the memory that the host gives them")]
pub(super) struct HostMemoryExhausted;

/// The resource limiter of one store.
#[derive(Debug)]
pub(super) struct Limits {
    /// The limit for all linear memories together, in bytes.
    memory_bytes: usize,
    /// The limit for core instances.
    pub(super) instances: u32,
    /// The linear memory in use, in bytes. It never shrinks, because wasm memories do not.
    used_bytes: usize,
    /// What of it is counted towards the host's limit. `None` without such a limit.
    host_share: Option<MemoryShare>,
    /// How often a non-empty memory grew, and by how many bytes in total.
    grows: u32,
    grown_bytes: usize,
    /// The first rejection.
    refused: Option<String>,
}

impl Limits {
    /// The limits of a call with this much linear memory in bytes.
    pub(super) const fn new(memory_bytes: usize) -> Self {
        Self {
            memory_bytes,
            instances: MAX_CORE_INSTANCES,
            used_bytes: 0,
            host_share: None,
            grows: 0,
            grown_bytes: 0,
            refused: None,
        }
    }

    /// The same limits, with the memory counted in an account until these are dropped.
    pub(super) fn counted_in(self, account: &Arc<MemoryAccount>) -> Self {
        Self {
            host_share: Some(MemoryShare::new(Arc::clone(account))),
            ..self
        }
    }

    /// The first rejection, if any.
    pub(super) fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// The peak linear memory in bytes.
    pub(super) const fn peak_bytes(&self) -> usize {
        self.used_bytes
    }

    /// How often a memory grew after its creation.
    pub(super) const fn grows(&self) -> u32 {
        self.grows
    }

    /// By how many bytes memories grew in total.
    pub(super) const fn grown_bytes(&self) -> usize {
        self.grown_bytes
    }

    fn refuse(&mut self, what: impl FnOnce() -> String) -> bool {
        self.refused.get_or_insert_with(what);
        false
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let wanted = self
            .used_bytes
            .saturating_add(desired.saturating_sub(current));
        if wanted > self.memory_bytes {
            let limit = self.memory_bytes;
            return Ok(self.refuse(|| {
                format!(
                    "needs {wanted} bytes of memory, at most {limit}: raise `memory_bytes` of the handler"
                )
            }));
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            // The module's own maximum. The growth fails anyway and must not be counted.
            return Ok(false);
        }
        let more = wanted.saturating_sub(self.used_bytes);
        if let Some(share) = &mut self.host_share
            && !share.grow(more)
        {
            return Err(HostMemoryExhausted.into());
        }
        self.used_bytes = wanted;
        // Growth from zero is the creation.
        if current > 0 && desired > current {
            self.grows = self.grows.saturating_add(1);
            self.grown_bytes = (self.grown_bytes).saturating_add(desired.saturating_sub(current));
        }
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if desired > MAX_TABLE_ELEMENTS {
            return Ok(self.refuse(|| {
                format!("needs a table of {desired} elements, at most {MAX_TABLE_ELEMENTS}")
            }));
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        usize::try_from(self.instances).unwrap_or(usize::MAX)
    }

    fn tables(&self) -> usize {
        usize::try_from(MAX_TABLES).unwrap_or(usize::MAX)
    }

    fn memories(&self) -> usize {
        usize::try_from(MAX_MEMORIES).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_over_all_memories_together() {
        let mut limits = Limits::new(100);
        for (current, desired, maximum, granted, peak, grown) in [
            (0, 60, None, true, 60, (0, 0)),
            (0, 41, None, false, 60, (0, 0)),
            (0, 30, Some(29), false, 60, (0, 0)),
            (0, 30, Some(30), true, 90, (0, 0)),
            (30, 30, None, true, 90, (0, 0)),
            (60, 64, None, true, 94, (1, 4)),
            (64, 70, None, true, 100, (2, 10)),
            (70, 71, None, false, 100, (2, 10)),
            (70, usize::MAX, None, false, 100, (2, 10)),
        ] {
            assert_eq!(
                limits.memory_growing(current, desired, maximum).unwrap(),
                granted,
                "{current} to {desired}"
            );
            assert_eq!(limits.peak_bytes(), peak);
            assert_eq!((limits.grows(), limits.grown_bytes()), grown);
        }
        assert_eq!(
            limits.refused(),
            Some("needs 101 bytes of memory, at most 100: raise `memory_bytes` of the handler")
        );
    }

    #[test]
    fn memory_beyond_the_hosts_limit_ends_the_call_and_is_no_fault_of_the_handler() {
        let account = MemoryAccount::new(100);
        let mut first = Limits::new(80).counted_in(&account);
        let mut second = Limits::new(80).counted_in(&account);
        assert!(first.memory_growing(0, 80, None).unwrap());
        assert!(second.memory_growing(0, 20, None).unwrap());
        let error = second.memory_growing(20, 21, None).unwrap_err();
        assert!(error.downcast_ref::<HostMemoryExhausted>().is_some());
        assert_eq!((second.refused(), second.peak_bytes()), (None, 20));
        assert_eq!(account.used_bytes(), 100);
        assert!(
            !first.memory_growing(80, 81, None).unwrap(),
            "its own limit"
        );
        assert_eq!(account.used_bytes(), 100);
        drop(first);
        assert!(second.memory_growing(20, 80, None).unwrap());
        drop(second);
        assert_eq!(account.used_bytes(), 0);
    }

    #[test]
    fn a_modules_own_maximum_is_no_refusal_of_ours() {
        let mut limits = Limits::new(100);
        assert!(!limits.memory_growing(0, 50, Some(10)).unwrap());
        assert!(!limits.table_growing(0, 50, Some(10)).unwrap());
        assert_eq!(limits.refused(), None);
        assert!(
            !limits
                .table_growing(0, MAX_TABLE_ELEMENTS + 1, None)
                .unwrap()
        );
        assert!(limits.refused().is_some());
    }
}
