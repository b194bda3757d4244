//! OCI manifests: a component in CNCF's WebAssembly layout, and its signature as an artifact that
//! refers to it. The same component always gives the same bytes.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tensorgate_policy::hex;
use tensorgate_policy::policy::SignedAs;

/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const WASM: &str = "application/wasm";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const SIGNATURE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The layout requires a creation time. A constant keeps pushes reproducible.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// A content descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type.
    pub media_type: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// Size in bytes.
    pub size: u64,
    /// Type of the artifact, for manifests in an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// The descriptor of some content.
    pub fn new(media_type: &str, content: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest(content),
            size: u64::try_from(content.len()).unwrap_or(u64::MAX),
            artifact_type: None,
        }
    }
}

/// A digest in OCI's form.
pub fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    schema_version: u8,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'static str>,
    config: Descriptor,
    layers: [Descriptor; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
}

#[derive(Serialize)]
struct Annotations {
    #[serde(rename = "org.opencontainers.image.title")]
    title: String,
    #[serde(rename = "org.opencontainers.image.version")]
    version: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'c> {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: [String; 1],
    component: Surface<'c>,
}

#[derive(Serialize)]
struct Surface<'c> {
    exports: &'c [String],
    imports: &'c [String],
    target: Option<&'c str>,
}

/// Blobs, and the manifest that names them.
pub struct Pushed {
    /// The blobs.
    pub blobs: Vec<Vec<u8>>,
    /// The manifest.
    pub manifest: Vec<u8>,
}

/// Manifest and blobs of a component.
///
/// # Errors
/// The JSON cannot be written.
pub fn component_manifest(
    component: &[u8],
    signed_as: &SignedAs,
    imports: &[String],
    exports: &[String],
) -> Result<Pushed, serde_json::Error> {
    let config = serde_json::to_vec(&Config {
        created: CREATED,
        architecture: "wasm",
        // The layout's value for components, independent of their imports.
        os: "wasip2",
        layer_digests: [digest(component)],
        component: Surface {
            exports,
            imports,
            target: None,
        },
    })?;
    let manifest = serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        artifact_type: None,
        config: Descriptor::new(WASM_CONFIG, &config),
        layers: [Descriptor::new(WASM, component)],
        subject: None,
        annotations: Some(Annotations {
            title: signed_as.name().to_owned(),
            version: signed_as.version().to_owned(),
        }),
    })?;
    Ok(Pushed {
        blobs: vec![component.to_vec(), config],
        manifest,
    })
}

/// Manifest and blobs of the signature of another manifest.
///
/// # Errors
/// The JSON cannot be written.
pub fn signature_manifest(signature: &[u8], of: &[u8]) -> Result<Pushed, serde_json::Error> {
    let empty = b"{}";
    let manifest = serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        artifact_type: Some(SIGNATURE),
        config: Descriptor::new(EMPTY, empty),
        layers: [Descriptor::new(SIGNATURE, signature)],
        subject: Some(Descriptor::new(MANIFEST, of)),
        annotations: None,
    })?;
    Ok(Pushed {
        blobs: vec![signature.to_vec(), empty.to_vec()],
        manifest,
    })
}

/// An index of the manifests that refer to another one, for registries without the referrers API.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrers {
    schema_version: u8,
    media_type: String,
    manifests: Vec<Descriptor>,
}

impl Referrers {
    /// An empty index.
    pub fn none() -> Self {
        Self {
            schema_version: 2,
            media_type: INDEX.to_owned(),
            manifests: Vec::new(),
        }
    }

    /// Adds a signature's manifest; `false` if it was already listed.
    pub fn add(&mut self, signature: &[u8]) -> bool {
        let descriptor = Descriptor {
            artifact_type: Some(SIGNATURE.to_owned()),
            ..Descriptor::new(MANIFEST, signature)
        };
        let new = !(self.manifests.iter()).any(|known| known.digest == descriptor.digest);
        if new {
            self.manifests.push(descriptor);
        }
        new
    }
}
