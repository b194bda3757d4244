//! The filter's counters. A proxy's metrics outlive a change of configuration, as the VM does: they are defined once a VM.

use std::cell::OnceCell;

use tensorgate_policy::policy::Shadow;

use super::abi;
use crate::host::{Asked, HostFault};
use crate::record::{Verdict, shadow_metric};

type Counters<T> = OnceCell<Vec<(T, u32)>>;

thread_local! {
    /// By outcome.
    static COUNTERS: Counters<Verdict> = const { OnceCell::new() };
    /// What is in shadow, by reason.
    static SHADOWS: Counters<&'static str> = const { OnceCell::new() };
    /// Questions to the rate limit service.
    static ASKED: Counters<Asked> = const { OnceCell::new() };
}

/// Defines them, unless they are.
pub(super) fn define() -> Result<(), HostFault> {
    COUNTERS.with(|counters| fill(counters, Verdict::all().map(|it| (it, it.metric()))))?;
    let shadows = Shadow::REASONS
        .into_iter()
        .map(|reason| (reason.name(), shadow_metric(reason)));
    SHADOWS.with(|counters| fill(counters, shadows))?;
    ASKED.with(|counters| fill(counters, Asked::ALL.into_iter().map(|it| (it, it.metric()))))
}

fn fill<T>(
    counters: &Counters<T>,
    named: impl Iterator<Item = (T, String)>,
) -> Result<(), HostFault> {
    if counters.get().is_none() {
        let defined: Result<Vec<_>, _> = named
            .map(|(what, name)| Ok((what, abi::define_counter(&name)?)))
            .collect();
        // Only this function sets it, and the cell was empty a moment ago on this one thread.
        let _ = counters.set(defined?);
    }
    Ok(())
}

fn increment<T: PartialEq>(counters: &Counters<T>, what: &T) {
    let defined = counters.get().map_or(&[][..], Vec::as_slice);
    if let Some((_, counter)) = defined.iter().find(|(known, _)| known == what) {
        abi::increment(*counter);
    }
}

pub(super) fn verdict(verdict: Verdict) {
    COUNTERS.with(|counters| increment(counters, &verdict));
}

pub(super) fn shadow(reason: &str) {
    SHADOWS.with(|counters| {
        let defined = counters.get().map_or(&[][..], Vec::as_slice);
        if let Some((_, counter)) = defined.iter().find(|(known, _)| *known == reason) {
            abi::increment(*counter);
        }
    });
}

pub(super) fn asked(asked: Asked) {
    ASKED.with(|counters| increment(counters, &asked));
}
