//! An OCI image layout: a folder of blobs and tagged manifests, which `skopeo` and `oras` copy to a
//! registry. Source: OCI image specification 1.1, "Image Layout".

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tensorgate_values::hex;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of the configuration that an artifact without one has.
const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// File that marks a folder as a layout.
pub const MARKER: &str = "oci-layout";
const MARKER_TEXT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
const SCHEMA_VERSION: u8 = 2;
/// Annotation of a manifest in the index: its tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of an image: its name. Of a layer: the name of its file.
pub const TITLE: &str = "org.opencontainers.image.title";
/// Annotation of an image: its version.
pub const VERSION: &str = "org.opencontainers.image.version";
/// The longest tag, in bytes. Source: OCI distribution specification.
pub const MAX_TAG_BYTES: usize = 128;

/// Names and values that describe an image, a layer, or an entry of the index.
pub type Annotations = BTreeMap<&'static str, String>;

/// A content descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'static str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: Annotations,
}

impl Descriptor {
    /// `sha256:` and 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Bytes of the content.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// The same descriptor with the name of the file that `oras pull` writes.
    pub fn with_title(mut self, file: &str) -> Self {
        self.annotations.insert(TITLE, file.to_owned());
        self
    }
}

/// A manifest with one layer.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'d> {
    schema_version: u8,
    media_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'static str>,
    config: Descriptor,
    layers: [Descriptor; 1],
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<&'d Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: Annotations,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'m> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'m [Descriptor],
}

/// A layout that is not written yet. The same content always gives the same bytes.
#[derive(Debug, Default)]
pub struct Layout {
    /// By digest in hex, which is also the file's name.
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: Vec<Descriptor>,
}

impl Layout {
    /// Adds a blob.
    pub fn add(&mut self, media_type: &str, content: Vec<u8>) -> Descriptor {
        let sha256 = hex(&Sha256::digest(&content));
        let descriptor = Descriptor {
            media_type: media_type.to_owned(),
            digest: format!("sha256:{sha256}"),
            size: u64::try_from(content.len()).unwrap_or(u64::MAX),
            artifact_type: None,
            annotations: BTreeMap::new(),
        };
        self.blobs.insert(sha256, content);
        descriptor
    }

    /// Adds an image of one layer under a tag. Returns its manifest.
    ///
    /// # Errors
    /// The JSON cannot be written.
    pub fn add_image(
        &mut self,
        tag: &str,
        config: Descriptor,
        layer: Descriptor,
        annotations: Annotations,
    ) -> Result<Descriptor, serde_json::Error> {
        let manifest = Manifest {
            schema_version: SCHEMA_VERSION,
            media_type: MANIFEST,
            artifact_type: None,
            config,
            layers: [layer],
            subject: None,
            annotations,
        };
        self.add_manifest(Some(tag), &manifest)
    }

    /// Adds an artifact that refers to a manifest, its subject. Returns the artifact's manifest.
    ///
    /// Without a tag it is found by its subject alone, and no reader of the layout takes it for the
    /// image.
    ///
    /// # Errors
    /// The JSON cannot be written.
    pub fn add_referrer(
        &mut self,
        tag: Option<&str>,
        artifact_type: &'static str,
        layer: Descriptor,
        subject: &Descriptor,
    ) -> Result<Descriptor, serde_json::Error> {
        let manifest = Manifest {
            schema_version: SCHEMA_VERSION,
            media_type: MANIFEST,
            artifact_type: Some(artifact_type),
            config: self.add(EMPTY, b"{}".to_vec()),
            layers: [layer],
            subject: Some(subject),
            annotations: BTreeMap::new(),
        };
        self.add_manifest(tag, &manifest)
    }

    fn add_manifest(
        &mut self,
        tag: Option<&str>,
        manifest: &Manifest<'_>,
    ) -> Result<Descriptor, serde_json::Error> {
        let descriptor = self.add(MANIFEST, serde_json::to_vec(manifest)?);
        let mut listed = descriptor.clone();
        listed.artifact_type = manifest.artifact_type;
        if let Some(tag) = tag {
            listed.annotations.insert(REF_NAME, tag.to_owned());
        }
        self.manifests.push(listed);
        Ok(descriptor)
    }

    /// Writes the layout into a folder that is new or empty. The index comes last, so that a folder
    /// that was written in part is no layout.
    ///
    /// # Errors
    /// A file cannot be written, or exists.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let blobs = folder.join("blobs/sha256");
        std::fs::create_dir_all(&blobs)?;
        for (sha256, content) in &self.blobs {
            write_new(&blobs.join(sha256), content)?;
        }
        write_new(&folder.join(MARKER), MARKER_TEXT.as_bytes())?;
        let index = serde_json::to_vec(&Index {
            schema_version: SCHEMA_VERSION,
            media_type: INDEX,
            manifests: &self.manifests,
        })?;
        write_new(&folder.join("index.json"), &index)
    }
}

fn write_new(file: &Path, content: &[u8]) -> io::Result<()> {
    io::Write::write_all(&mut std::fs::File::create_new(file)?, content)
}

/// Whether a registry takes this text as a tag.
pub fn is_tag(text: &str) -> bool {
    (1..=MAX_TAG_BYTES).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::{MAX_TAG_BYTES, is_tag};

    #[test]
    fn tags_are_those_of_the_specification() {
        let longest = "a".repeat(MAX_TAG_BYTES);
        for tag in ["1.4.0", "latest", "_1", &longest] {
            assert!(is_tag(tag), "{tag}");
        }
        let longer = "a".repeat(MAX_TAG_BYTES + 1);
        for text in ["", ".1", "-1", "a/b", "a:b", "1.0+build", "é", &longer] {
            assert!(!is_tag(text), "{text}");
        }
    }
}
