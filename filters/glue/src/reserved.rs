//! What a request has reserved: of this gateway's own limits, and of those that gateways share. Both are settled alike when its answer has said what it
//! used, and by nobody else.

use tensorgate_policy::{Charge, Now, Policy};

use crate::host::Proxy;
use crate::shared_limits::give_back;
use crate::spend::{Receipt, SpendFault, settle};

/// Reservations of one request.
#[derive(Debug, Default)]
pub(crate) struct Reserved {
    /// In the store of this gateway's workers.
    pub(crate) own: Vec<Receipt>,
    /// With the rate limit service, where that is ours.
    pub(crate) shared: Vec<Charge>,
}

impl Reserved {
    pub(crate) const fn is_empty(&self) -> bool {
        self.own.is_empty() && self.shared.is_empty()
    }

    /// Settles them. Of the service's no answer is waited for.
    pub(crate) fn settle(
        &self,
        policy: &Policy,
        proxy: &mut dyn Proxy,
        request_id: &str,
        used: u64,
        now: Now,
    ) -> Result<(), SpendFault> {
        for charge in &self.shared {
            give_back(policy, proxy, charge, request_id, used, now);
        }
        for receipt in &self.own {
            settle(proxy, receipt, now, used)?;
        }
        Ok(())
    }
}
