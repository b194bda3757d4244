//! The bill of materials of a release (CycloneDX, JSON): an artifact that refers to an image. It
//! also has the version that the images get.

use serde::Deserialize;
use tensorgate_cli_common::oci_layout::is_tag;

/// Its file in a release.
pub const FILE: &str = "sbom.cdx.json";
/// Its media type, as IANA registers it.
pub const MEDIA_TYPE: &str = "application/vnd.cyclonedx+json";

#[derive(Deserialize)]
struct Document {
    #[serde(rename = "bomFormat")]
    format: String,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    component: Component,
}

#[derive(Deserialize)]
struct Component {
    version: String,
}

/// Why a document is no bill of materials of a release.
#[derive(Debug, thiserror::Error)]
pub enum SbomFault {
    /// It is not JSON, or lacks what is needed.
    #[error("is not an SBOM of a release: {0}")]
    Json(#[from] serde_json::Error),
    /// It has another format.
    #[error("is not an SBOM in CycloneDX's format")]
    Format,
    /// Images could not be tagged with the version.
    #[error("has the version {0:?}, which cannot be the tag of an image")]
    Version(String),
}

/// The release's version.
///
/// # Errors
/// The document is not CycloneDX, or its version is no tag.
pub fn version(sbom: &[u8]) -> Result<String, SbomFault> {
    let document: Document = serde_json::from_slice(sbom)?;
    if document.format != "CycloneDX" {
        return Err(SbomFault::Format);
    }
    let version = document.metadata.component.version;
    if is_tag(&version) {
        Ok(version)
    } else {
        Err(SbomFault::Version(version))
    }
}
