//! Token reservations of a request, in local limits and in shared limits. Both are settled when the
//! response reports the used tokens, and not otherwise.

use tensorgate_policy::{Charge, Now, Policy};

use crate::host::Proxy;
use crate::quota::{QuotaFault, Receipt, settle};
use crate::rate_limit_service::settle_reservation;

/// Reservations of one request.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    /// In the store of this gateway's workers.
    pub(crate) local: Vec<Receipt>,
    /// In the rate-limit service, if it supports reservations.
    pub(crate) shared: Vec<Charge>,
}

impl Reservations {
    pub(crate) const fn is_empty(&self) -> bool {
        self.local.is_empty() && self.shared.is_empty()
    }

    /// Settles the reservations. The service's answer is not awaited.
    pub(crate) fn settle(
        &self,
        policy: &Policy,
        proxy: &mut dyn Proxy,
        request_id: &str,
        used: u64,
        now: Now,
    ) -> Result<(), QuotaFault> {
        for charge in &self.shared {
            settle_reservation(policy, proxy, charge, request_id, used, now);
        }
        for receipt in &self.local {
            settle(proxy, receipt, now, used)?;
        }
        Ok(())
    }
}
