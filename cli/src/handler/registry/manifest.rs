//! What a registry keeps: a component as CNCF's layout for WebAssembly has it, its signature as an artifact that refers to it. The same
//! component gives the same bytes, whenever it is pushed.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tensorgate_policy::hex;
use tensorgate_policy::policy::SignedAs;

/// A manifest's media type.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index's.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const WASM: &str = "application/wasm";
const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
const SIGNATURE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The layout wants an instant; the same for all, or two pushes of one component would differ.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// Content by its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    pub media_type: String,
    /// `sha256:` and 64 hex digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// What a manifest is of, in an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// Of content.
    pub fn of(media_type: &str, content: &[u8]) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest(content),
            size: u64::try_from(content.len()).unwrap_or(u64::MAX),
            artifact_type: None,
        }
    }
}

/// A digest as registries write it.
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

/// Content that is pushed together: blobs, and the manifest that names them.
pub struct Pushed {
    /// Blobs.
    pub blobs: Vec<Vec<u8>>,
    /// The manifest.
    pub manifest: Vec<u8>,
}

/// A component.
///
/// # Errors
/// None but what JSON cannot say.
pub fn of_component(
    component: &[u8],
    signed_as: &SignedAs,
    imports: &[String],
    exports: &[String],
) -> Result<Pushed, serde_json::Error> {
    let config = serde_json::to_vec(&Config {
        created: CREATED,
        architecture: "wasm",
        // The layout's word for a component, whatever it imports.
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
        config: Descriptor::of(WASM_CONFIG, &config),
        layers: [Descriptor::of(WASM, component)],
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

/// The signature of what another manifest names.
///
/// # Errors
/// None but what JSON cannot say.
pub fn of_signature(signature: &[u8], of: &[u8]) -> Result<Pushed, serde_json::Error> {
    let empty = b"{}";
    let manifest = serde_json::to_vec(&Manifest {
        schema_version: 2,
        media_type: MANIFEST,
        artifact_type: Some(SIGNATURE),
        config: Descriptor::of(EMPTY, empty),
        layers: [Descriptor::of(SIGNATURE, signature)],
        subject: Some(Descriptor::of(MANIFEST, of)),
        annotations: None,
    })?;
    Ok(Pushed {
        blobs: vec![signature.to_vec(), empty.to_vec()],
        manifest,
    })
}

/// An index of what refers to a manifest, for registries that keep none themselves.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Referrers {
    schema_version: u8,
    media_type: String,
    manifests: Vec<Descriptor>,
}

impl Referrers {
    /// One of nothing.
    pub fn none() -> Self {
        Self {
            schema_version: 2,
            media_type: INDEX.to_owned(),
            manifests: Vec::new(),
        }
    }

    /// With one more; `false` if it was there.
    pub fn add(&mut self, signature: &[u8]) -> bool {
        let descriptor = Descriptor {
            artifact_type: Some(SIGNATURE.to_owned()),
            ..Descriptor::of(MANIFEST, signature)
        };
        let new = !(self.manifests.iter()).any(|known| known.digest == descriptor.digest);
        if new {
            self.manifests.push(descriptor);
        }
        new
    }
}
