//! Cost of a request: the elements of its input tensors, their bytes in raw form, and tokens. The
//! cost does not depend on the protocol.

use tensorgate_values::tensor::Tensor;
use tensorgate_values::tensor_data::TensorData;

use super::TensorRule;

/// Size of a `BYTES` element's length prefix in raw form.
const PREFIX_BYTES: u64 = 4;

/// Actual or maximum cost of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCost {
    /// Elements of all inputs.
    pub elements: u64,
    /// Bytes of all inputs in raw form.
    pub bytes: u64,
    /// Tokens of texts plus tokens that may be generated, as an upper bound.
    pub tokens: u64,
}

impl RequestCost {
    /// Cost of a raw body, which has bytes only.
    pub const fn raw(bytes: u64) -> Self {
        Self {
            elements: 0,
            bytes,
            tokens: 0,
        }
    }

    /// Cost of `calls` equal calls.
    pub(crate) const fn times(self, calls: u64) -> Self {
        Self {
            elements: self.elements.saturating_mul(calls),
            bytes: self.bytes.saturating_mul(calls),
            tokens: self.tokens.saturating_mul(calls),
        }
    }

    pub(super) fn add(self, elements: u64, bytes: u64) -> Self {
        Self {
            elements: self.elements.saturating_add(elements),
            bytes: self.bytes.saturating_add(bytes),
            tokens: self.tokens,
        }
    }
}

/// Maximum cost of a tensor that satisfies its rule.
pub fn most_of(rule: &TensorRule) -> RequestCost {
    let dims = rule.shape.iter();
    let elements = dims.fold(1_u64, |elements, dim| elements.saturating_mul(dim.max));
    let item = u64::try_from(rule.max_item_bytes.unwrap_or(0)).unwrap_or(u64::MAX);
    let size = match rule.datatype.size_bytes() {
        Some(size) => u64::try_from(size).unwrap_or(u64::MAX),
        None => item.saturating_add(PREFIX_BYTES),
    };
    RequestCost::default().add(elements, elements.saturating_mul(size))
}

/// Number of elements of a shape. Negative dimensions never satisfy a contract.
pub(super) fn elements(tensor: &Tensor<'_>) -> u64 {
    tensor.shape.iter().fold(1, |elements: u64, dim| {
        elements.saturating_mul(u64::try_from(*dim).unwrap_or(u64::MAX))
    })
}

/// Number of bytes present.
pub(super) fn here(tensor: &Tensor<'_>) -> u64 {
    let bytes = tensor.data.as_ref().map_or(0, TensorData::raw_bytes);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
