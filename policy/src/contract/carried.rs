//! What a request costs: the elements of its input tensors and their bytes in raw form, the same in every protocol. Decides nothing.

use super::{Contract, Elements, TensorRule};
use crate::tensor::{InferRequest, Tensor};

/// Bytes of a `BYTES` element's length in raw form.
const PREFIX_BYTES: u64 = 4;

/// What a request carries, or may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Elements of all inputs together.
    pub elements: u64,
    /// Their bytes in raw form.
    pub bytes: u64,
    /// Tokens of texts, and those that may be generated: at least as many as there will be.
    pub tokens: u64,
}

impl Carried {
    /// A raw body has bytes only.
    pub const fn raw(bytes: u64) -> Self {
        Self {
            elements: 0,
            bytes,
            tokens: 0,
        }
    }

    /// The same for each of so many calls.
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
    /// What a request carries that keeps the contract.
    pub(crate) fn cost(&self, request: &InferRequest<'_>) -> Carried {
        request
            .inputs
            .iter()
            .fold(Carried::default(), |sum, tensor| {
                sum.add(elements(tensor), here(tensor))
            })
    }

    /// The same for one whose elements are still to pass. Only of `BYTES` over gRPC is their size unknown until then: such a body is charged as if
    /// all of its `body_bytes` were theirs, which is a few more than they are, up to the most that the contract lets through.
    pub(crate) fn cost_of_head(
        &self,
        request: &InferRequest<'_>,
        places: &[Elements],
        body_bytes: u64,
    ) -> Carried {
        let mut unknown = false;
        let inputs = request.inputs.iter().zip(places);
        let sum = inputs.fold(Carried::default(), |sum, (tensor, place)| {
            let elements = elements(tensor);
            let bytes = match (place, self.size_bytes(tensor)) {
                (Elements::Here, _) => here(tensor),
                (Elements::Coming(Some(bytes)), _) => u64::try_from(*bytes).unwrap_or(u64::MAX),
                (Elements::Coming(None), Some(size)) => elements.saturating_mul(size),
                (Elements::Coming(None), None) => {
                    unknown = true;
                    0
                }
            };
            sum.add(elements, bytes)
        });
        Carried {
            bytes: if unknown {
                body_bytes.min(self.most().bytes)
            } else {
                sum.bytes
            },
            ..sum
        }
    }

    /// The most that a request can carry within the contract.
    pub(crate) fn most(&self) -> Carried {
        let rules = self.inputs.iter().map(most_of);
        rules.fold(Carried::default(), |sum, most| {
            sum.add(most.elements, most.bytes)
        })
    }

    /// Whether requests may carry this parameter.
    pub fn lists_parameter(&self, name: &str) -> bool {
        self.parameters.iter().any(|(listed, _)| listed == name)
    }

    /// Bytes of one element; `None` where each has a length of its own, and for what has no rule.
    fn size_bytes(&self, tensor: &Tensor<'_>) -> Option<u64> {
        let named = |rule: &&TensorRule| rule.name == tensor.name;
        let size = self.inputs.iter().find(named)?.datatype.size_bytes()?;
        u64::try_from(size).ok()
    }
}

/// The most that one tensor can carry within its rule.
pub(crate) fn most_of(rule: &TensorRule) -> Carried {
    let dims = rule.shape.iter();
    let elements = dims.fold(1_u64, |elements, dim| elements.saturating_mul(dim.max));
    let item = u64::try_from(rule.max_item_bytes.unwrap_or(0)).unwrap_or(u64::MAX);
    let size = match rule.datatype.size_bytes() {
        Some(size) => u64::try_from(size).unwrap_or(u64::MAX),
        None => item.saturating_add(PREFIX_BYTES),
    };
    Carried::default().add(elements, elements.saturating_mul(size))
}

/// Elements that the shape says. A dim below zero keeps no contract.
fn elements(tensor: &Tensor<'_>) -> u64 {
    tensor.shape.iter().fold(1, |elements: u64, dim| {
        elements.saturating_mul(u64::try_from(*dim).unwrap_or(u64::MAX))
    })
}

/// Bytes that are there.
fn here(tensor: &Tensor<'_>) -> u64 {
    let bytes = tensor.data.as_ref().map_or(0, |data| data.len());
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
