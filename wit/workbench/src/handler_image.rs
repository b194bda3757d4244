//! A handler as an OCI image: the component in CNCF's WebAssembly layout, and its signature as an
//! artifact that refers to it.

use serde::Serialize;
use tensorgate_policy::policy::SignedAs;

use crate::oci_layout::{Descriptor, Layout, MANIFEST};

const WASM: &str = "application/wasm";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const SIGNATURE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The layout requires a creation time. A constant keeps images reproducible.
const CREATED: &str = "1970-01-01T00:00:00Z";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'d> {
    schema_version: u8,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'static str>,
    config: Descriptor,
    layers: [&'d Descriptor; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'d Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations<'d>>,
}

#[derive(Serialize)]
struct Annotations<'a> {
    #[serde(rename = "org.opencontainers.image.title")]
    title: &'a str,
    #[serde(rename = "org.opencontainers.image.version")]
    version: &'a str,
}

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
        let manifest = serde_json::to_vec(&Manifest {
            schema_version: 2,
            media_type: MANIFEST,
            artifact_type: None,
            config: layout.add(WASM_CONFIG, config),
            layers: [&layer],
            subject: None,
            annotations: Some(Annotations {
                title: self.signed_as.name(),
                version: self.signed_as.version(),
            }),
        })?;
        Ok(layout.add_manifest(tag, manifest))
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
        let manifest = serde_json::to_vec(&Manifest {
            schema_version: 2,
            media_type: MANIFEST,
            artifact_type: Some(SIGNATURE),
            config: layout.add(EMPTY, b"{}".to_vec()),
            layers: [&layer],
            subject: Some(component),
            annotations: None,
        })?;
        Ok(layout.add_manifest(tag, manifest))
    }
}
