//! The filter's counters in its proxy. A proxy numbers them when they are defined.

use tensorgate_identity::ConfirmationFault;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::Shadow;

use super::record::{overload_metric, shadow_metric, unconfirmed_metric};
use crate::host::{LimitCallOutcome, Verdict};

/// The proxy's numbers of all counters.
#[derive(Clone, Debug)]
pub struct Counters {
    verdicts: Vec<(Verdict, usize)>,
    overloads: Vec<(OverloadCause, usize)>,
    shadows: Vec<(&'static str, usize)>,
    limit_calls: Vec<(LimitCallOutcome, usize)>,
    unconfirmed: Vec<(ConfirmationFault, usize)>,
}

impl Counters {
    /// Defines every counter by its name.
    ///
    /// # Errors
    /// The first fault of `define`.
    pub fn define<E>(define: impl Fn(&str) -> Result<usize, E>) -> Result<Self, E> {
        let causes = OverloadCause::ALL.into_iter();
        let shadows = Shadow::REASONS.into_iter();
        let limit_calls = LimitCallOutcome::ALL.into_iter();
        let unconfirmed = ConfirmationFault::ALL.into_iter();
        Ok(Self {
            verdicts: defined(Verdict::all().map(|it| (it, it.metric())), &define)?,
            overloads: defined(causes.map(|it| (it, overload_metric(it))), &define)?,
            shadows: defined(shadows.map(|it| (it.name(), shadow_metric(it))), &define)?,
            limit_calls: defined(limit_calls.map(|it| (it, it.metric())), &define)?,
            unconfirmed: defined(unconfirmed.map(|it| (it, unconfirmed_metric(it))), &define)?,
        })
    }

    /// The counter of an outcome.
    pub fn verdict(&self, verdict: Verdict) -> Option<usize> {
        of(&self.verdicts, &verdict)
    }

    /// The counter of rejections as overloaded, by cause.
    pub fn overload(&self, cause: OverloadCause) -> Option<usize> {
        of(&self.overloads, &cause)
    }

    /// The counter of shadow denials, by reason.
    pub fn shadow(&self, reason: &str) -> Option<usize> {
        of(&self.shadows, &reason)
    }

    /// The counter of calls to the rate-limit service.
    pub fn limit_call(&self, outcome: LimitCallOutcome) -> Option<usize> {
        of(&self.limit_calls, &outcome)
    }

    /// The counter of valid tokens whose sender has not proven that they are its own.
    pub fn unconfirmed(&self, fault: ConfirmationFault) -> Option<usize> {
        of(&self.unconfirmed, &fault)
    }
}

fn defined<T, E>(
    named: impl Iterator<Item = (T, String)>,
    define: impl Fn(&str) -> Result<usize, E>,
) -> Result<Vec<(T, usize)>, E> {
    named.map(|(it, name)| Ok((it, define(&name)?))).collect()
}

fn of<T: PartialEq>(counters: &[(T, usize)], it: &T) -> Option<usize> {
    let mut counters = counters.iter();
    counters.find_map(|(known, number)| (known == it).then_some(*number))
}
