//! The `handler image` verb: writes a component and its signature as an OCI image layout.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_cli_common::oci_layout::{Layout, MAX_TAG_BYTES, is_tag};
use tensorgate_cli_common::ui::Ui;
use tensorgate_componentize::surface;
use tensorgate_settings::component::{self, signature_of};
use tensorgate_signature::MAX_SIGNATURE_BYTES;

use crate::handler_image::SignedComponent;
use crate::project::{component_at, read_component};
use crate::tools::expect_new_folder;

/// What is added to a component's tag for its signature. No component has such a tag.
const SIGNATURE_SUFFIX: &str = ".sig";

/// Write a component and its signature as an OCI image layout, which `skopeo` or `oras` copies to a
/// registry.
#[derive(Args)]
#[command(
    after_help = "Nothing is sent anywhere. The folder has two images: TAG is the component, TAG.sig its signature, which refers to it. \
The same component and signature give the same bytes.\n\n\
Example: tensorgate handler image --into scale-image scale && \
for tag in 1.4.0.sig 1.4.0; do \
skopeo copy --preserve-digests oci:scale-image:$tag docker://registry.example.com/handlers/scale:$tag; done"
)]
pub struct Image {
    /// Component file, or project folder.
    #[arg(default_value = ".")]
    component: PathBuf,
    /// Folder of the layout, new or empty.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// Tag of the component (default: the signed version).
    #[arg(long)]
    tag: Option<String>,
}

#[derive(Serialize)]
struct Written<'a> {
    folder: String,
    tag: &'a str,
    digest: &'a str,
    signature_tag: &'a str,
    signature: &'a str,
}

impl Image {
    /// Writes the layout.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let image = self.signed_component()?;
        let tag = self.tag.as_deref().unwrap_or(image.signed_as.version());
        let signature_tag = format!("{tag}{SIGNATURE_SUFFIX}");
        if !is_tag(tag) || !is_tag(&signature_tag) || tag.ends_with(SIGNATURE_SUFFIX) {
            return Err(Failure::Input(format!(
                "{tag:?} cannot be the component's tag: at most {} letters, digits and . _ -, \
                 and no {SIGNATURE_SUFFIX} at the end",
                MAX_TAG_BYTES.saturating_sub(SIGNATURE_SUFFIX.len())
            )));
        }
        expect_new_folder(&self.into)?;
        let shown = self.into.display();
        let json_failed =
            |error| Failure::Failed(format!("cannot write a manifest as JSON: {error}"));
        let mut layout = Layout::default();
        let component = image.add_component(&mut layout, tag).map_err(json_failed)?;
        let signature = image
            .add_signature(&mut layout, &signature_tag, &component)
            .map_err(json_failed)?;
        layout
            .write(&self.into)
            .map_err(|error| Failure::Failed(format!("cannot write {shown}: {error}")))?;
        if ui.json {
            ui.json_line(&Written {
                folder: shown.to_string(),
                tag,
                digest: component.digest(),
                signature_tag: &signature_tag,
                signature: signature.digest(),
            });
            return Ok(());
        }
        ui.line(&format!("{tag} {}", component.digest()));
        ui.line(&format!("{signature_tag} {}", signature.digest()));
        ui.note(&format!(
            "next: for tag in {signature_tag} {tag}; do skopeo copy --preserve-digests 'oci:{shown}:'$tag docker://REGISTRY/REPOSITORY:$tag; done"
        ));
        Ok(())
    }

    /// Reads the component and its signature. Users of the component check the signing key; here
    /// the signature is only checked to match the component.
    fn signed_component(&self) -> Result<SignedComponent, Failure> {
        let file = component_at(&self.component)?;
        let bytes = read_component(&file).map_err(Failure::Input)?;
        let beside = signature_of(&file);
        let unsigned = |why: String| {
            Failure::Input(format!(
                "{}: {why}; sign the component first: tensorgate handler sign",
                beside.display()
            ))
        };
        let most = u64::try_from(MAX_SIGNATURE_BYTES).unwrap_or(u64::MAX);
        let signature = read_at_most(&beside, most)
            .map_err(|error| unsigned(error.to_string()))?
            .ok_or_else(|| unsigned("is not a signature".to_owned()))?;
        let signed_as = component::claimed_identity(&signature, &bytes)
            .map_err(|fault| unsigned(fault.to_string()))?;
        let surface = surface(&bytes)
            .ok()
            .filter(|surface| surface.component)
            .ok_or_else(|| {
                Failure::Input(format!("{} is not a WebAssembly component", file.display()))
            })?;
        Ok(SignedComponent {
            component: bytes,
            signature,
            signed_as,
            imports: surface.imports,
            exports: surface.exports,
        })
    }
}
