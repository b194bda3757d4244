//! A handler as an OCI image: the component in CNCF's WebAssembly layout, and its signature as an
//! artifact that refers to it.

use std::collections::BTreeMap;

use serde::Serialize;
use tensorgate_cli_common::oci_layout::{Descriptor, Layout, TITLE, VERSION};
use tensorgate_policy::policy::SignedAs;

const WASM: &str = "application/wasm";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const SIGNATURE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The layout requires a creation time. A constant keeps images reproducible.
const CREATED: &str = "1970-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'c> {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [&'c str; 1],
    component: Surface<'c>,
}

#[derive(Serialize)]
struct Surface<'c> {
    exports: &'c [String],
    imports: &'c [String],
    target: Option<&'c str>,
}

/// A component and its signature.
pub struct SignedComponent {
    /// The component's bytes.
    pub component: Vec<u8>,
    /// Contents of the signature file.
    pub signature: Vec<u8>,
    /// Name and version in the signature.
    pub signed_as: SignedAs,
    /// Names of the component's imports.
    pub imports: Vec<String>,
    /// Names of the component's exports.
    pub exports: Vec<String>,
}

impl SignedComponent {
    /// Adds the component under a tag. Returns its manifest.
    ///
    /// # Errors
    /// The JSON cannot be written.
    pub fn add_component(
        &self,
        layout: &mut Layout,
        tag: &str,
    ) -> Result<Descriptor, serde_json::Error> {
        let layer = layout.add(WASM, self.component.clone());
        let config = serde_json::to_vec(&Config {
            created: CREATED,
            architecture: "wasm",
            // The layout's value for components, independent of their imports.
            os: "wasip2",
            layer_digests: [layer.digest()],
            component: Surface {
                exports: &self.exports,
                imports: &self.imports,
                target: None,
            },
        })?;
        let annotations = BTreeMap::from([
            (TITLE, self.signed_as.name().to_owned()),
            (VERSION, self.signed_as.version().to_owned()),
        ]);
        let config = layout.add(WASM_CONFIG, config);
        layout.add_image(tag, config, layer, annotations)
    }

    /// Adds the signature of a component's manifest under a tag. Returns the signature's manifest.
    ///
    /// # Errors
    /// The JSON cannot be written.
    pub fn add_signature(
        &self,
        layout: &mut Layout,
        tag: &str,
        component: &Descriptor,
    ) -> Result<Descriptor, serde_json::Error> {
        let layer = layout.add(SIGNATURE, self.signature.clone());
        layout.add_referrer(Some(tag), SIGNATURE, layer, component)
    }
}
