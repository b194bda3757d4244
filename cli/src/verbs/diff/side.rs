//! One of the two policies of a comparison, whatever it was read from.

use std::path::Path;

use tensorgate_cli_common::Failure;
use tensorgate_cli_common::ui::{Ui, printable};
use tensorgate_policy::validate::validate;
use tensorgate_policy::{Policy, raw};
use tensorgate_policy_load::load::{generation, load};

use super::rendered;

/// One of the two policies.
pub(super) struct Side {
    pub policy: Policy,
    /// The canonical form.
    pub raw: raw::Policy,
    generation: String,
    pub is_rendered: bool,
    /// Whether limits depend on the number of pods, which is not known.
    pub is_undivided: bool,
}

impl Side {
    /// Reads and validates a policy, in any form.
    pub fn read(path: &Path, replicas: Option<u32>) -> Result<Self, Failure> {
        if let Some(bundle) = rendered::bundle(path)? {
            let (policy, _) = validate(&bundle.policy).map_err(|faults| {
                let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
                Failure::Input(printable(&format!(
                    "{}: this release cannot enforce generation {}: {}",
                    path.display(),
                    bundle.generation,
                    faults.join("; ")
                )))
            })?;
            return Ok(Self {
                policy,
                raw: bundle.policy,
                generation: bundle.generation,
                is_rendered: true,
                is_undivided: false,
            });
        }
        let mut loaded = load(path)?;
        if replicas.is_some() {
            loaded = loaded.divided(replicas)?;
        }
        Ok(Self {
            is_undivided: !loaded.limits_to_divide().is_empty(),
            policy: loaded.policy,
            raw: loaded.bundle.policy,
            generation: loaded.bundle.generation,
            is_rendered: false,
        })
    }

    /// Says which version this is.
    pub fn note(&self, ui: &Ui, path: &Path) -> Result<(), Failure> {
        let (path, named) = (path.display(), &self.generation);
        ui.note(&printable(&format!("{path}: generation {named}")));
        let own = generation(&self.raw).map_err(|error| Failure::Failed(error.to_string()))?;
        if own != *named {
            ui.note(&printable(&format!(
                "warning: {path}: the content has generation {own} here: another release wrote it, or it was edited by hand"
            )));
        }
        Ok(())
    }
}
