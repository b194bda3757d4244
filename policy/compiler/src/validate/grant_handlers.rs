//! A grant's own handlers. They replace the model's handlers and have the same interface; only the
//! outputs for clients may differ.

use std::collections::BTreeMap;

use tensorgate_policy::contract::TensorRule;
use tensorgate_policy::policy::{Accepts, Model, ModelId, OwnHandlers};
use tensorgate_policy::report::{Path, optional, quote};
use tensorgate_policy::request::Protocol;

use super::dims::Symbols;
use super::{handlers, protocols, tensors};
use crate::raw::{self, GrantHandlers};

/// Handlers by model. `granted` are the models that the grant allows.
pub(super) fn handlers(
    path: &Path,
    grant: &raw::Grant,
    (infers, granted): (bool, &[(ModelId, &Model)]),
    policy: &raw::Policy,
) -> Option<BTreeMap<ModelId, OwnHandlers>> {
    let path = path.field("handlers");
    let mut valid = Some(());
    let mut found = BTreeMap::new();
    if !grant.handlers.is_empty() && !infers {
        let message = "are only for inference, which the grant does not allow";
        return path.fail_with_fix(message, "remove them");
    }
    for (name, raw) in &grant.handlers {
        let path = path.key(name);
        let Some((id, model)) = granted.iter().find(|(_, model)| model.name() == name) else {
            // A model with faults is reported at its own location.
            if !policy.models.contains_key(name) || !granted.is_empty() {
                let known = granted.iter().map(|(_, model)| model.name());
                path.unknown::<_, ()>("model of this grant", name, known);
            }
            valid = None;
            continue;
        };
        let Some(written) = policy.models.get(name) else {
            continue;
        };
        match of_model(&path, raw, (*model, written), policy) {
            Some(own) => {
                found.insert(*id, own);
            }
            None => valid = None,
        }
    }
    valid.map(|()| found)
}

fn of_model(
    path: &Path,
    raw: &GrantHandlers,
    (model, written): (&Model, &raw::Model),
    policy: &raw::Policy,
) -> Option<OwnHandlers> {
    let GrantHandlers {
        preprocess,
        postprocess,
        returns,
    } = raw;
    if matches!(model.accepts(), Accepts::OpenAi(_)) {
        let message = "a model of OpenAI's API has no handlers";
        return path.fail_with_fix(message, "remove them");
    }
    if model.is_guardrail() && (postprocess.is_some() || returns.is_some()) {
        let message = "a guardrail answers with the result of its preprocess handlers";
        return path.fail_with_fix(message, "preprocess alone");
    }
    if preprocess.is_none() && postprocess.is_none() {
        return path.fail_with_fix("names no handler", "postprocess: the name of a handler");
    }
    let before = path.field("preprocess");
    let preprocess = optional(preprocess.as_ref(), |chain| {
        handlers::chain(&before, Some(chain), policy)
    });
    let after = path.field("postprocess");
    let none = postprocess.as_ref().is_some_and(|chain| chain.0.is_empty());
    let links = match postprocess {
        Some(_) if none => Some(Some(Vec::new())),
        Some(chain) => handlers::chain(&after, Some(chain), policy).map(Some),
        None => Some(None),
    };
    let returns_path = path.field("returns");
    let returns = match returns {
        Some(_) if postprocess.is_none() || none => {
            let fix = "postprocess: the name of a handler";
            returns_path
                .error_with_fix("needs a postprocess handler that makes these outputs", fix);
            None
        }
        Some(returns) => {
            let own = raw::Model {
                returns: Some(returns.clone()),
                ..written.clone()
            };
            let path = returns_path.field("outputs");
            tensors::rules(&path, &returns.outputs, &Symbols::of(&own)).map(Some)
        }
        None if none => Some(Some(model.backend_outputs().to_vec())),
        None if links.as_ref().is_some_and(Option::is_some) && written.returns.is_none() => {
            let message =
                "is missing: the grant has a postprocess handler, and the model has no returns";
            returns_path.error_with_fix(message, "returns: {outputs: […]}");
            None
        }
        None => Some(None),
    };
    let (preprocess, links, returns) = (preprocess?, links?, returns?);
    if let Some(returns) = &returns {
        check_protocols(path, model, written, returns)?;
    }
    Some(OwnHandlers {
        preprocess,
        postprocess: links,
        returns,
    })
}

/// Whether the model's protocols can represent the outputs for these clients.
fn check_protocols(
    path: &Path,
    model: &Model,
    written: &raw::Model,
    returns: &[TensorRule],
) -> Option<()> {
    if model.protocols().contains(&Protocol::Json) {
        let names = |rules: &[TensorRule]| -> Vec<_> {
            rules
                .iter()
                .map(|rule| (rule.name.clone(), rule.shape.len()))
                .collect()
        };
        if names(returns) != names(model.returns()) {
            return path.field("returns").fail_with_fix(
                format!(
                    "the json of model {} has pointers only for the outputs of its other clients",
                    quote(model.name())
                ),
                "outputs of the same names and ranks, or a model of its own",
            );
        }
    }
    let carried = protocols::ProtocolView {
        versions: &[],
        written: &written.versions,
        inputs: &[],
        outputs: returns,
        content_types: &[],
    };
    let at = path.root().field("models").key(model.name());
    protocols::check(&at, model.protocols(), &carried)
}
