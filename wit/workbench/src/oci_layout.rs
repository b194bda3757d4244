//! An OCI image layout: a folder of blobs and tagged manifests, which `skopeo` and `oras` copy to a
//! registry. Source: OCI image specification 1.1, "Image Layout".

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tensorgate_policy::hex;

/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// File that marks a folder as a layout.
const MARKER: (&str, &str) = ("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
/// Annotation of a manifest in the index: its tag.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The longest tag, in bytes. Source: OCI distribution specification.
pub const MAX_TAG_BYTES: usize = 128;

/// A content descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

impl Descriptor {
    /// `sha256:` and 64 hex digits.
    pub fn digest(&self) -> &str {
        &self.digest
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index<'m> {
    schema_version: u8,
    media_type: &'static str,
    manifests: &'m [Descriptor],
}

/// A layout that is not written yet. The same content always gives the same bytes.
#[derive(Default)]
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
            annotations: BTreeMap::new(),
        };
        self.blobs.insert(sha256, content);
        descriptor
    }

    /// Adds a manifest under a tag.
    pub fn add_manifest(&mut self, tag: &str, content: Vec<u8>) -> Descriptor {
        let descriptor = self.add(MANIFEST, content);
        let mut tagged = descriptor.clone();
        tagged.annotations.insert(REF_NAME, tag.to_owned());
        self.manifests.push(tagged);
        descriptor
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
        let (marker, text) = MARKER;
        write_new(&folder.join(marker), text.as_bytes())?;
        let index = serde_json::to_vec(&Index {
            schema_version: 2,
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
