//! The charges and permits of one request. Filters have made some of them before, as their context
//! says, and the host makes the others. So each is made exactly once if both have one version of
//! the policy, and otherwise at least once.

use tensorgate_policy::decision::{
    Acquire, AcquireOutcome, BodySeen, FilterWork, Maker, maker_of_charge, maker_of_permit,
};
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::policy::RemainingQuota;
use tensorgate_policy::{Charge, ChargeOutcome, Denial, Reason};

use super::{Counted, Counters, DenialOrigin};

/// The charges and permits of one request.
#[derive(Debug)]
pub(super) struct Charges {
    /// What the filters do with the request.
    work: FilterWork,
    /// The remaining quotas of the limits that filters have charged.
    reported: Vec<RemainingQuota>,
    /// Whether the filters applied the policy that judges here.
    is_own_version: bool,
    /// Whether the filters have left the rest of the request to the host.
    is_left_to_host: bool,
    /// Who has made the last charge.
    last_maker: Maker,
}

impl Charges {
    /// Begins with what the filters do and have charged.
    pub(super) const fn new(
        work: FilterWork,
        reported: Vec<RemainingQuota>,
        is_own_version: bool,
    ) -> Self {
        Self {
            work,
            reported,
            is_own_version,
            is_left_to_host: work.leaves_charge,
            last_maker: Maker::Filter,
        }
    }

    /// The charges of a request that no filter has read.
    pub(super) fn of_host() -> Self {
        Self::new(FilterWork::default(), Vec::new(), true)
    }

    /// Whether a filter has checked the whole body before it forwarded the head.
    pub(super) const fn is_buffered(&self) -> bool {
        self.work.checks && self.work.buffered
    }

    /// Makes a charge, or returns the outcome that the filters report. Their limits are taken from
    /// the front. The limits of another policy cannot be matched with this one's, so a charge of
    /// its filters counts as made.
    pub(super) fn make(
        &mut self,
        charge: &Charge,
        body: BodySeen,
        counters: &dyn Counters,
    ) -> Counted {
        // The filters do nothing after the host's first charge for the request. They cannot always
        // say so: where the body names the model, its head may be forwarded before.
        self.is_left_to_host |= charge.is_of_host() && !charge.is_of_content();
        self.last_maker = match self.may_be_left(charge) {
            true => Maker::Host,
            false => maker_of_charge(&self.work, charge, body),
        };
        match self.last_maker {
            Maker::Host => counters.charge(charge),
            Maker::Filter if self.is_own_version => {
                let reported = self.reported.len().min(charge.limit_charges.len());
                let quotas = self.reported.drain(..reported).collect();
                Counted::Done(ChargeOutcome::from_quotas(quotas))
            }
            Maker::Filter => Counted::Done(ChargeOutcome::CHARGED),
        }
    }

    /// Whether filters with another policy may have left a charge that this policy would let them
    /// make. One that has made it reports quotas, unless it forwarded the head before the body
    /// named the model. The host then makes it too, to a state of its own: no charge at all would
    /// be a way around the limit.
    fn may_be_left(&self, charge: &Charge) -> bool {
        !self.is_own_version && !charge.is_of_content() && self.reported.is_empty()
    }

    /// Acquires the permits that the filters do not have.
    pub(super) fn acquire(
        &self,
        mut acquire: Acquire,
        body: BodySeen,
        counters: &dyn Counters,
    ) -> AcquireOutcome {
        acquire
            .permits
            .retain(|permit| maker_of_permit(&self.work, &permit.scope, body) == Maker::Host);
        match acquire.permits.is_empty() {
            true => AcquireOutcome::Acquired,
            false => counters.acquire(&acquire),
        }
    }

    /// What a denial of the head says about gate and host. Every filter judges the head.
    pub(super) fn origin_of_head(&self, denial: &Denial) -> DenialOrigin {
        self.origin(denial, !self.is_left_to_host)
    }

    /// What a denial of a body of so many bytes says about gate and host.
    pub(super) fn origin_of_body(&self, denial: &Denial, bytes: u64) -> DenialOrigin {
        let is_judged = self.work.checks && !self.is_left_to_host && self.work.reads(bytes);
        self.origin(denial, is_judged)
    }

    fn origin(&self, denial: &Denial, is_judged_by_filter: bool) -> DenialOrigin {
        match (denial.reason, denial.overload, self.last_maker) {
            (Reason::CostExceeded | Reason::Concurrency, ..)
            | (_, Some(OverloadCause::Store | OverloadCause::RateLimitService), _)
            | (Reason::RateLimited, _, Maker::Host) => DenialOrigin::Counted,
            (Reason::RateLimited, _, Maker::Filter) => DenialOrigin::Disagreement,
            _ if is_judged_by_filter => DenialOrigin::Disagreement,
            _ => DenialOrigin::FirstCheck,
        }
    }
}

#[cfg(test)]
mod tests {
    use tensorgate_policy::decision::LimitCharge;
    use tensorgate_policy::policy::{Allowance, Holder, Limit, Unit, Wait};
    use tensorgate_policy::values::Scope;

    use super::*;

    fn charge(unit: Unit) -> Charge {
        let allowance = Allowance {
            unit,
            limit: Limit::Day(7),
            scope: Scope::Local,
            holder: Holder::Client,
        };
        Charge {
            limit_charges: vec![LimitCharge {
                allowance,
                amount: 1,
            }],
            ..Charge::default()
        }
    }

    #[test]
    fn charges_that_a_filter_of_another_policy_does_not_report_are_the_hosts() {
        let work = FilterWork {
            counts: true,
            max_body_bytes: 64,
            ..FilterWork::default()
        };
        let quota = RemainingQuota {
            left: 3,
            full_after_ns: 0,
            wait: Wait::None,
        };
        for (is_own_version, reported) in [
            (true, vec![]),
            (true, vec![quota]),
            (false, vec![]),
            (false, vec![quota]),
        ] {
            let expected = !is_own_version && reported.is_empty();
            let charges = Charges::new(work, reported, is_own_version);
            let found = charges.may_be_left(&charge(Unit::Requests));
            assert_eq!(found, expected, "{charges:?}");
            assert!(!charges.may_be_left(&charge(Unit::Bytes)));
        }
    }
}
