//! Which filter this is, and which of the three duties are its own. Decides nothing about requests.
//!
//! Every filter drives the same decision. A duty that is another filter's is skipped: its charge counts as spent, its check as kept.
//! So a chain of the three decides as the fused one does.

/// A filter, by the module that a proxy loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Filter {
    /// All three duties in one module.
    Gate,
    /// Who calls, and whether any grant lets them.
    Auth,
    /// How often, and how many at once.
    RateLimit,
    /// Whether the tensors keep the contract.
    TensorGuard,
}

/// What a filter does itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duties {
    /// Reads credentials, strips what a client sent down to an allow-list, and says who is calling to whoever stands behind.
    pub identify: bool,
    /// Counts requests against rates and budgets, and takes places in flight.
    pub charge: bool,
    /// Decodes the body, holds it against the model's contract, and charges for what it carries.
    pub check: bool,
}

/// Why filters do not make a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// There is none.
    #[error("a chain has at least one filter")]
    Empty,
    /// The same twice.
    #[error("{} comes twice", .0.name())]
    Twice(Filter),
    /// The fused filter beside one of its parts.
    #[error("gate is auth, rate-limit and tensor-guard in one: it stands alone")]
    GateInChain,
    /// A filter in front of the one that says who is calling.
    #[error("auth comes first: {} would not know who is calling", .0.name())]
    AuthNotFirst(Filter),
}

impl Filter {
    /// Every filter.
    pub const ALL: [Self; 4] = [Self::Gate, Self::Auth, Self::RateLimit, Self::TensorGuard];

    /// The three in their usual order.
    pub const THREE: [Self; 3] = [Self::Auth, Self::RateLimit, Self::TensorGuard];

    /// Its name: the module's file without `.wasm`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Auth => "auth",
            Self::RateLimit => "rate-limit",
            Self::TensorGuard => "tensor-guard",
        }
    }

    /// The filter that a name spells.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|filter| filter.name() == name)
    }

    /// What it does itself.
    pub const fn duties(self) -> Duties {
        Duties {
            identify: matches!(self, Self::Gate | Self::Auth),
            charge: matches!(self, Self::Gate | Self::RateLimit),
            check: matches!(self, Self::Gate | Self::TensorGuard),
        }
    }

    /// Whether it may stand in a chain with others of ours, and so tells them who is calling.
    pub const fn shares(self) -> bool {
        !matches!(self, Self::Gate)
    }
}

/// Whether filters make a chain in this order.
///
/// # Errors
/// The first thing wrong with it.
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
    fn the_three_have_every_duty_once_and_the_gate_has_all() {
        let of = |pick: fn(Duties) -> bool| {
            Filter::ALL
                .into_iter()
                .filter(|filter| pick(filter.duties()))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(|duties| duties.identify), [Filter::Gate, Filter::Auth]);
        assert_eq!(
            of(|duties| duties.charge),
            [Filter::Gate, Filter::RateLimit]
        );
        assert_eq!(
            of(|duties| duties.check),
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
