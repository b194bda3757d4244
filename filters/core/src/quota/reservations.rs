//! Token reservations of a request, in local limits and in shared limits. Both are settled when the
//! response reports the used tokens, and not otherwise.

use tensorgate_policy::decision::Charge;

use super::Receipt;

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
}
