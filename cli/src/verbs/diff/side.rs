//! One of the two policies of a comparison, whatever it was read from.

use std::path::Path;

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::fault::in_one_line;
use tensorgate_policy::validate::validate;
use tensorgate_policy::{Bundle, Policy, raw};
use tensorgate_policy_load::load::{generation, load};

use super::rendered::{RenderedPolicy, rendered};

/// One of the two policies.
pub(super) struct Side {
    pub policy: Policy,
    /// The canonical form; `None` for a compiled policy, which has what a filter reads.
    pub raw: Option<raw::Policy>,
    pub generation: String,
    pub is_rendered: bool,
    /// Whether limits depend on the number of pods, which is not known.
    pub is_undivided: bool,
}

impl Side {
    /// Reads and validates a policy, in any form.
    pub fn read(path: &Path, replicas: Option<u32>) -> Result<Self, Failure> {
        match rendered(path)? {
            Some(RenderedPolicy::Written(bundle)) => return Self::of_bundle(path, *bundle),
            Some(RenderedPolicy::Compiled(compiled)) => {
                return Ok(Self {
                    policy: compiled.policy,
                    raw: None,
                    generation: compiled.generation,
                    is_rendered: true,
                    is_undivided: false,
                });
            }
            None => {}
        }
        let mut loaded = load(path)?;
        if replicas.is_some() {
            loaded = loaded.divided(replicas)?;
        }
        Ok(Self {
            is_undivided: !loaded.limits_to_divide().is_empty(),
            policy: loaded.policy,
            raw: Some(loaded.bundle.policy),
            generation: loaded.bundle.generation,
            is_rendered: false,
        })
    }

    fn of_bundle(path: &Path, bundle: Bundle) -> Result<Self, Failure> {
        let (policy, _) = validate(&bundle.policy).map_err(|faults| {
            Failure::Input(printable(&format!(
                "{}: this release cannot enforce generation {}: {}",
                path.display(),
                bundle.generation,
                in_one_line(&faults)
            )))
        })?;
        Ok(Self {
            policy,
            raw: Some(bundle.policy),
            generation: bundle.generation,
            is_rendered: true,
            is_undivided: false,
        })
    }

    /// What filters read of the policy, for a comparison.
    pub fn filter_part(&self) -> String {
        format!("{:?}", self.policy.clone().filter_part())
    }

    /// Says which version this is.
    pub fn note(&self, ui: &Ui, path: &Path) -> Result<(), Failure> {
        let (path, named) = (path.display(), &self.generation);
        ui.note(&printable(&format!("{path}: generation {named}")));
        let Some(raw) = &self.raw else {
            ui.note(&printable(&format!(
                "note: {path} has a compiled policy: access, limits, outputs and proofs are compared, and of the rest only whether it is equal; the ConfigMap NAME-policy has all values"
            )));
            return Ok(());
        };
        let own = generation(raw).map_err(|error| Failure::Failed(error.to_string()))?;
        if own != *named {
            ui.note(&printable(&format!(
                "warning: {path}: the content has generation {own} here: another release wrote it, or it was edited by hand"
            )));
        }
        Ok(())
    }
}
