//! The filter's counters. A proxy's metrics and the VM both outlive a configuration change, so
//! counters are defined once per VM.

use std::cell::OnceCell;

use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::Shadow;

use super::abi;
use crate::host::{HostFault, LimitCallOutcome, Verdict};
use crate::report::record::{overload_metric, shadow_metric};

type Counters<T> = OnceCell<Vec<(T, u32)>>;

thread_local! {
    /// By outcome.
    static COUNTERS: Counters<Verdict> = const { OnceCell::new() };
    /// Rejections as overloaded, by cause.
    static OVERLOADS: Counters<OverloadCause> = const { OnceCell::new() };
    /// Shadow denials, by reason.
    static SHADOWS: Counters<&'static str> = const { OnceCell::new() };
    /// Calls to the rate-limit service.
    static ASKED: Counters<LimitCallOutcome> = const { OnceCell::new() };
}

/// Defines the counters unless they exist.
pub(super) fn define() -> Result<(), HostFault> {
    COUNTERS.with(|counters| fill(counters, Verdict::all().map(|it| (it, it.metric()))))?;
    let overloads = OverloadCause::ALL
        .into_iter()
        .map(|cause| (cause, overload_metric(cause)));
    OVERLOADS.with(|counters| fill(counters, overloads))?;
    let shadows = Shadow::REASONS
        .into_iter()
        .map(|reason| (reason.name(), shadow_metric(reason)));
    SHADOWS.with(|counters| fill(counters, shadows))?;
    ASKED.with(|counters| {
        fill(
            counters,
            LimitCallOutcome::ALL
                .into_iter()
                .map(|it| (it, it.metric())),
        )
    })
}

fn fill<T>(
    counters: &Counters<T>,
    named: impl Iterator<Item = (T, String)>,
) -> Result<(), HostFault> {
    if counters.get().is_none() {
        let defined: Result<Vec<_>, _> = named
            .map(|(what, name)| Ok((what, abi::define_counter(&name)?)))
            .collect();
        // Only this function sets the cell, and the cell was empty before on this single thread.
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

pub(super) fn overload(cause: OverloadCause) {
    OVERLOADS.with(|counters| increment(counters, &cause));
}

pub(super) fn shadow(reason: &str) {
    SHADOWS.with(|counters| {
        let defined = counters.get().map_or(&[][..], Vec::as_slice);
        if let Some((_, counter)) = defined.iter().find(|(known, _)| *known == reason) {
            abi::increment(*counter);
        }
    });
}

pub(super) fn asked(asked: LimitCallOutcome) {
    ASKED.with(|counters| increment(counters, &asked));
}
