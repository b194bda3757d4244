//! Cost of a request: the elements of its input tensors, their bytes in raw form, and tokens. The
//! cost does not depend on the protocol.

use super::{Contract, Elements, TensorRule};
use crate::values::tensor::{InferRequest, Tensor};

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

    fn add(self, elements: u64, bytes: u64) -> Self {
        Self {
            elements: self.elements.saturating_add(elements),
            bytes: self.bytes.saturating_add(bytes),
            tokens: self.tokens,
        }
    }
}

impl Contract {
    /// Cost of a request that satisfies the contract.
    pub(crate) fn cost(&self, request: &InferRequest<'_>) -> RequestCost {
        request
            .inputs
            .iter()
            .fold(RequestCost::default(), |sum, tensor| {
                sum.add(elements(tensor), here(tensor))
            })
    }

    /// Cost of a request whose elements are still to come. Only for `BYTES` over gRPC is their size
    /// unknown. Such a request is charged as if all of `body_bytes` were elements, up to the
    /// contract's maximum.
    pub(crate) fn cost_of_head(
        &self,
        request: &InferRequest<'_>,
        places: &[Elements],
        body_bytes: u64,
    ) -> RequestCost {
        let mut unknown = false;
        let inputs = request.inputs.iter().zip(places);
        let sum = inputs.fold(RequestCost::default(), |sum, (tensor, place)| {
            let elements = elements(tensor);
            let bytes = match (place, self.size_bytes(tensor)) {
                (Elements::Inline, _) => here(tensor),
                (Elements::Streamed(Some(bytes)), _) => u64::try_from(*bytes).unwrap_or(u64::MAX),
                (Elements::Streamed(None), Some(size)) => elements.saturating_mul(size),
                (Elements::Streamed(None), None) => {
                    unknown = true;
                    0
                }
            };
            sum.add(elements, bytes)
        });
        RequestCost {
            bytes: if unknown {
                body_bytes.min(self.most().bytes)
            } else {
                sum.bytes
            },
            ..sum
        }
    }

    /// Maximum cost of a request that satisfies the contract.
    pub(crate) fn most(&self) -> RequestCost {
        let rules = self.inputs.iter().map(most_of);
        rules.fold(RequestCost::default(), |sum, most| {
            sum.add(most.elements, most.bytes)
        })
    }

    /// Whether requests may have this parameter.
    pub fn lists_parameter(&self, name: &str) -> bool {
        self.parameters.iter().any(|(listed, _)| listed == name)
    }

    /// Size of one element; `None` for variable sizes and for tensors without a rule.
    fn size_bytes(&self, tensor: &Tensor<'_>) -> Option<u64> {
        let named = |rule: &&TensorRule| rule.name == tensor.name;
        let size = self.inputs.iter().find(named)?.datatype.size_bytes()?;
        u64::try_from(size).ok()
    }
}

/// Maximum cost of a tensor that satisfies its rule.
pub(crate) fn most_of(rule: &TensorRule) -> RequestCost {
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
fn elements(tensor: &Tensor<'_>) -> u64 {
    tensor.shape.iter().fold(1, |elements: u64, dim| {
        elements.saturating_mul(u64::try_from(*dim).unwrap_or(u64::MAX))
    })
}

/// Number of bytes present.
fn here(tensor: &Tensor<'_>) -> u64 {
    let bytes = tensor.data.as_ref().map_or(0, |data| data.len());
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
