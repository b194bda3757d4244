//! Whether responses within the contracts of a policy fit the memory budget.

use tensorgate_policy::Policy;
use tensorgate_policy::policy::{Accepts, Model};

use crate::protocol_adapter::ProtocolAdapter;
use crate::response_size::answer_copies;

/// A model whose largest valid response exceeds the memory budget, so that each request would be
/// denied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "model {model:?}: an answer within its contract can take {needs} bytes, limits.buffered_bytes is {gives}"
)]
pub struct BeyondBudget {
    /// The model's name.
    pub model: String,
    /// The largest response with its copies while it is read, in bytes.
    pub needs: usize,
    /// The memory budget in bytes.
    pub gives: usize,
}

/// Every such model of a policy.
pub fn beyond_budget(policy: &Policy) -> Vec<BeyondBudget> {
    let gives = policy.listen().limits().buffered_bytes;
    let mut faults = Vec::new();
    for model in policy.models() {
        let needs = match model.accepts() {
            Accepts::OpenAi(rules) => {
                let copies = answer_copies(rules.screening().answer_links().is_some());
                rules.max_answer_bytes().saturating_mul(copies)
            }
            Accepts::Tensors(_) | Accepts::Raw { .. } => match model.ensemble() {
                None => answer_bytes(policy, model),
                // All of them may be in memory at once.
                Some(ensemble) => {
                    let members = ensemble.steps().iter();
                    let members = members.filter_map(|step| policy.model(step.model()));
                    members.fold(0_usize, |sum, member| {
                        sum.saturating_add(answer_bytes(policy, member))
                    })
                }
            },
        };
        if needs > gives {
            faults.push(BeyondBudget {
                model: model.name().to_owned(),
                needs,
                gives,
            });
        }
    }
    faults
}

fn answer_bytes(policy: &Policy, model: &Model) -> usize {
    let backend = policy.backends().get(model.backend());
    backend.map_or(0, |rule| {
        ProtocolAdapter::for_kind(rule.kind()).response_memory(model)
    })
}
