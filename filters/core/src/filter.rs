//! The filters and their capabilities.
//!
//! Every filter drives the same decision. A filter skips steps that belong to another filter: it
//! treats their charges as made and their checks as passed. A chain of the three filters therefore
//! decides as the combined filter does.

/// A filter. One module is each of them; its configuration names one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    /// The combined filter with all capabilities.
    Gate,
    /// Authentication and authorization.
    Auth,
    /// Rate limits, budgets and concurrency limits.
    RateLimit,
    /// Validation of tensors against the contract.
    TensorGuard,
}

/// Steps that a filter performs itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Reads credentials, reduces the client's headers to an allow-list and passes the caller's
    /// identity to the upstream.
    pub identify: bool,
    /// Charges requests against rates and budgets, and acquires concurrency permits.
    pub charge: bool,
    /// Decodes the body, validates the body against the model's contract and charges for its
    /// content.
    pub check: bool,
}

/// Why a list of filters is not a valid chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// The chain is empty.
    #[error("a chain has at least one filter")]
    Empty,
    /// A filter appears twice.
    #[error("{} is listed twice", .0.name())]
    Twice(Filter),
    /// The combined filter is next to one of its parts.
    #[error("gate contains auth, rate-limit and tensor-guard: use it alone")]
    GateInChain,
    /// A filter stands before the one that identifies callers.
    #[error("auth must be first: {} needs the caller's identity", .0.name())]
    AuthNotFirst(Filter),
}

impl Filter {
    /// Every filter.
    pub const ALL: [Self; 4] = [Self::Gate, Self::Auth, Self::RateLimit, Self::TensorGuard];

    /// The three separate filters in their usual order.
    pub const THREE: [Self; 3] = [Self::Auth, Self::RateLimit, Self::TensorGuard];

    /// Name of the filter in a chain and in the module's configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Auth => "auth",
            Self::RateLimit => "rate-limit",
            Self::TensorGuard => "tensor-guard",
        }
    }

    /// Finds the filter with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.name() == name)
    }

    /// Steps that this filter performs itself.
    pub const fn capabilities(self) -> Capabilities {
        Capabilities {
            identify: matches!(self, Self::Gate | Self::Auth),
            charge: matches!(self, Self::Gate | Self::RateLimit),
            check: matches!(self, Self::Gate | Self::TensorGuard),
        }
    }

    /// Whether the filter may be part of a chain, and so shares the caller's identity with the next
    /// filters.
    pub const fn shares_identity(self) -> bool {
        !matches!(self, Self::Gate)
    }
}

/// Checks that the filters form a valid chain in this order.
///
/// # Errors
/// The first problem found.
pub fn check_chain(filters: &[Filter]) -> Result<(), ChainFault> {
    let (first, rest) = filters.split_first().ok_or(ChainFault::Empty)?;
    for (position, filter) in filters.iter().enumerate() {
        if filters.iter().take(position).any(|other| other == filter) {
            return Err(ChainFault::Twice(*filter));
        }
    }
    if filters.len() > 1 && filters.contains(&Filter::Gate) {
        return Err(ChainFault::GateInChain);
    }
    if rest.contains(&Filter::Auth) {
        return Err(ChainFault::AuthNotFirst(*first));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_filters_split_the_capabilities_of_the_gate() {
        let of = |pick: fn(Capabilities) -> bool| {
            Filter::ALL
                .into_iter()
                .filter(|filter| pick(filter.capabilities()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            of(|capabilities| capabilities.identify),
            [Filter::Gate, Filter::Auth]
        );
        assert_eq!(
            of(|capabilities| capabilities.charge),
            [Filter::Gate, Filter::RateLimit]
        );
        assert_eq!(
            of(|capabilities| capabilities.check),
            [Filter::Gate, Filter::TensorGuard]
        );
    }

    #[test]
    fn a_chain_has_each_filter_once_auth_first_and_the_gate_alone() {
        use Filter::{Auth, Gate, RateLimit, TensorGuard};
        for (filters, expected) in [
            (&[Gate][..], Ok(())),
            (&Filter::THREE, Ok(())),
            (&[Auth, TensorGuard, RateLimit], Ok(())),
            (&[TensorGuard, RateLimit], Ok(())),
            (&[Auth], Ok(())),
            (&[RateLimit], Ok(())),
            (&[], Err(ChainFault::Empty)),
            (&[Auth, Auth], Err(ChainFault::Twice(Auth))),
            (
                &[RateLimit, TensorGuard, RateLimit],
                Err(ChainFault::Twice(RateLimit)),
            ),
            (&[Gate, RateLimit], Err(ChainFault::GateInChain)),
            (&[Auth, Gate], Err(ChainFault::GateInChain)),
            (&[RateLimit, Auth], Err(ChainFault::AuthNotFirst(RateLimit))),
            (
                &[TensorGuard, RateLimit, Auth],
                Err(ChainFault::AuthNotFirst(TensorGuard)),
            ),
        ] {
            assert_eq!(check_chain(filters), expected, "{filters:?}");
        }
    }

    #[test]
    fn every_name_is_read_back() {
        for filter in Filter::ALL {
            assert_eq!(Filter::from_name(filter.name()), Some(filter));
        }
        assert_eq!(Filter::from_name("Auth"), None);
    }
}
