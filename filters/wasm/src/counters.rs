//! The filter's counters. A proxy's metrics and the VM both outlive a configuration change, so
//! counters are defined once per VM.

use std::cell::OnceCell;

use tensorgate_filter_core::host::HostFault;
use tensorgate_filter_core::report::Counters;

use super::abi;

thread_local! {
    static COUNTERS: OnceCell<Counters> = const { OnceCell::new() };
}

/// Defines the counters unless they exist.
pub(crate) fn define() -> Result<(), HostFault> {
    COUNTERS.with(|counters| {
        if counters.get().is_none() {
            let defined = Counters::define(|name| {
                let number = abi::define_counter(name)?;
                Ok(usize::try_from(number).unwrap_or_default())
            })?;
            // The cell was empty before, on this single thread.
            let _ = counters.set(defined);
        }
        Ok(())
    })
}

/// Increments one of them.
pub(crate) fn increment(counter: impl FnOnce(&Counters) -> Option<usize>) {
    let number = COUNTERS.with(|counters| counters.get().and_then(counter));
    if let Some(number) = number.and_then(|number| u32::try_from(number).ok()) {
        abi::increment(number);
    }
}
