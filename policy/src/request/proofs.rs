//! Kinds of proof of a caller's identity.

use serde::{Deserialize, Serialize};
use tensorgate_values::named;

named! {
    /// A kind of proof, as a policy names it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub enum Proof {
        /// An API key.
        ApiKey = "api_key",
        /// A token of an issuer.
        Jwt = "jwt",
        /// A client certificate.
        Mtls = "mtls",
        /// Metadata of another filter.
        Metadata = "metadata",
    }
}

impl Proof {
    const fn bit(self) -> u8 {
        match self {
            Self::ApiKey => 1,
            Self::Jwt => 2,
            Self::Mtls => 4,
            Self::Metadata => 8,
        }
    }
}

/// A set of kinds of proof.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proofs(u8);

impl Proofs {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// The set with one more kind.
    #[must_use]
    pub const fn with(self, proof: Proof) -> Self {
        Self(self.0 | proof.bit())
    }

    /// Whether the sets have a common kind.
    pub const fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the set contains all kinds of `other`.
    pub const fn holds(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Encodes the set as four bits.
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// Decodes four bits; `None` for more.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 16 { Some(Self(bits)) } else { None }
    }
}

impl FromIterator<Proof> for Proofs {
    fn from_iter<I: IntoIterator<Item = Proof>>(proofs: I) -> Self {
        proofs.into_iter().fold(Self::NONE, Self::with)
    }
}

/// Proofs that a model requires, in addition to a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Requires {
    /// At least one of these.
    AnyOf(Proofs),
    /// All of these, for the same client.
    AllOf(Proofs),
}

impl Requires {
    /// Whether these proofs suffice.
    pub const fn met_by(self, proofs: Proofs) -> bool {
        match self {
            Self::AnyOf(wanted) => proofs.meets(wanted),
            Self::AllOf(wanted) => proofs.holds(wanted),
        }
    }

    /// Whether all proofs that suffice for this also suffice for the other.
    pub fn implies(self, other: Self) -> bool {
        let sets = (0..=u8::MAX).map_while(Proofs::from_bits);
        sets.filter(|proofs| self.met_by(*proofs))
            .all(|proofs| other.met_by(proofs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_is_one_of_them_and_all_is_every_one() {
        use Proof::{ApiKey, Jwt, Mtls};
        let set = |proofs: &[Proof]| proofs.iter().copied().collect::<Proofs>();
        let wanted = set(&[Jwt, Mtls]);
        for (proofs, any, all) in [
            (&[][..], false, false),
            (&[ApiKey], false, false),
            (&[Jwt], true, false),
            (&[Mtls, ApiKey], true, false),
            (&[Mtls, Jwt], true, true),
            (&Proof::ALL, true, true),
        ] {
            let proofs = set(proofs);
            assert_eq!(Requires::AnyOf(wanted).met_by(proofs), any, "{proofs:?}");
            assert_eq!(Requires::AllOf(wanted).met_by(proofs), all, "{proofs:?}");
            assert_eq!(Proofs::from_bits(proofs.to_bits()), Some(proofs));
        }
        assert_eq!(Proofs::from_bits(16), None);
    }

    #[test]
    fn more_proofs_are_enough_where_fewer_are_and_not_the_other_way_round() {
        use Proof::{ApiKey, Jwt, Mtls};
        use Requires::{AllOf, AnyOf};
        let set = |proofs: &[Proof]| proofs.iter().copied().collect::<Proofs>();
        for (one, other, expected) in [
            (AnyOf(set(&[Jwt])), AnyOf(set(&[Jwt, Mtls])), true),
            (AnyOf(set(&[Jwt, Mtls])), AnyOf(set(&[Jwt])), false),
            (AllOf(set(&[Jwt, Mtls])), AllOf(set(&[Mtls])), true),
            (AllOf(set(&[Mtls])), AllOf(set(&[Jwt, Mtls])), false),
            (AllOf(set(&[Jwt, Mtls])), AnyOf(set(&[ApiKey, Mtls])), true),
            (AnyOf(set(&[Mtls])), AllOf(set(&[Mtls])), true),
            (AnyOf(set(&[Jwt, Mtls])), AllOf(set(&[Jwt, Mtls])), false),
        ] {
            assert_eq!(one.implies(other), expected, "{one:?} {other:?}");
        }
    }
}
