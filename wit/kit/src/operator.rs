//! The binary operators on arrays.

/// A binary operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// a + b
    Add,
    /// a - b
    Subtract,
    /// a × b
    Multiply,
    /// a / b; whole numbers become `Fp64`.
    Divide,
    /// a / b, rounded down.
    FloorDivide,
    /// The remainder of `FloorDivide`, which has the sign of b.
    Remainder,
    /// a to the power of b.
    Power,
    /// The lesser of the two.
    Minimum,
    /// The greater of the two.
    Maximum,
    /// a = b, as `Bool`.
    Equal,
    /// a ≠ b, as `Bool`.
    NotEqual,
    /// a < b, as `Bool`.
    Less,
    /// a ≤ b, as `Bool`.
    LessEqual,
    /// a > b, as `Bool`.
    Greater,
    /// a ≥ b, as `Bool`.
    GreaterEqual,
}

impl Operator {
    /// Whether the result is `Bool`.
    pub(crate) const fn compares(self) -> bool {
        matches!(
            self,
            Self::Equal
                | Self::NotEqual
                | Self::Less
                | Self::LessEqual
                | Self::Greater
                | Self::GreaterEqual
        )
    }
}
