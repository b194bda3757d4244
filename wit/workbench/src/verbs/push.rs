//! The `handler push` verb: pushes a component and its signature to a registry.

use std::path::PathBuf;

use clap::Args;
use tensorgate_artifact::MAX_SIGNATURE_BYTES;
use tensorgate_artifact::component::{self, signature_of};
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::load::read_at_most;
use tensorgate_cli_common::runtime;
use tensorgate_cli_common::trust::Trust;
use tensorgate_cli_common::ui::Ui;
use tensorgate_componentize::surface;

use crate::project::{component_at, read_component};
use crate::registry::credentials::Credentials;
use crate::registry::reference::Reference;
use crate::registry::wire::Wire;
use crate::registry::{PushContent, push};

/// Push a component and its signature to an OCI registry.
#[derive(Args)]
#[command(
    after_help = "Uses HTTPS only. Credentials come from Docker's config.json ($DOCKER_CONFIG, else ~/.docker), as `docker login` writes it without a \
credential helper. An existing tag is never moved to other content: push another version. Prints the digest.\n\n\
Example: tensorgate handler push registry.example.com/handlers/scale:1.4.0 scale"
)]
pub struct Push {
    /// REGISTRY/REPOSITORY or REGISTRY/REPOSITORY:TAG (default tag: the signed version).
    #[arg(value_name = "REFERENCE")]
    reference: Reference,
    /// Component file, or project folder.
    #[arg(default_value = ".")]
    component: PathBuf,
    /// Trusted certificate authorities instead of the system's, PEM.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Push {
    /// Pushes the component.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let file = component_at(&self.component)?;
        let bytes = read_component(&file).map_err(Failure::Input)?;
        let beside = signature_of(&file);
        let most = u64::try_from(MAX_SIGNATURE_BYTES).unwrap_or(u64::MAX);
        let unsigned = |why: String| {
            Failure::Input(format!(
                "{}: {why}; sign the component first: tensorgate handler sign",
                beside.display()
            ))
        };
        let signature = read_at_most(&beside, most)
            .map_err(|error| unsigned(error.to_string()))?
            .ok_or_else(|| unsigned("is not a signature".to_owned()))?;
        // Users of the component check the signing key; here the signature is only checked to match
        // the component.
        let signed_as =
            component::says(&signature, &bytes).map_err(|fault| unsigned(fault.to_string()))?;
        let surface = surface(&bytes)
            .ok()
            .filter(|surface| surface.component)
            .ok_or_else(|| {
                Failure::Input(format!("{} is not a WebAssembly component", file.display()))
            })?;
        let trust = Trust::from_file(self.ca.as_deref()).map_err(Failure::Input)?;
        let credentials =
            Credentials::for_registry(self.reference.registry()).map_err(Failure::Input)?;
        let content = PushContent {
            component: bytes,
            signature,
            signed_as,
            imports: surface.imports,
            exports: surface.exports,
        };
        let wire = Wire::new(trust, credentials, &self.reference);
        let pushed = runtime()?
            .block_on(push(wire, &self.reference, &content))
            .map_err(|error| Failure::Failed(error.to_string()))?;
        if ui.json {
            ui.json_line(&pushed);
        } else {
            ui.line(&pushed.reference);
            ui.note(&format!(
                "as {}:{}, with the signature {}",
                self.reference.repository(),
                pushed.tag,
                pushed.signature
            ));
        }
        Ok(())
    }
}
