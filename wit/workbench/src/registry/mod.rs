//! Pushes components to an OCI registry: blobs first, then the manifest that names them, then the
//! signature, then the tag. The signature's manifest refers to the component's.

mod challenge;
pub mod credentials;
mod manifest;
pub mod reference;
pub mod wire;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;
use tensorgate_policy::policy::SignedAs;

use manifest::{INDEX, MANIFEST, Referrers, digest};
use reference::Reference;
use wire::{Answer, Wire, WireError};

/// Header with the digest of the content that a registry stored.
const CONTENT_DIGEST: &str = "docker-content-digest";
/// Header that shows support for the referrers API.
const SUBJECT: &str = "oci-subject";

/// Why a push failed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The request to the registry failed.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A manifest cannot be written as JSON.
    #[error("cannot write a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// The registry answered with an unexpected status.
    #[error("{host} answers {status} to {what}")]
    Status {
        /// The registry's host.
        host: String,
        /// The status code.
        status: u16,
        /// The request.
        what: &'static str,
    },
    /// The tag already names another manifest.
    #[error("tag {tag} already names {there}, not {ours}: a version can be pushed only once")]
    TagExists {
        /// The tag.
        tag: String,
        /// The digest that the tag names.
        there: String,
        /// The digest of the new manifest.
        ours: String,
    },
    /// The registry stored other content than was sent.
    #[error("{host} reports that it stored {there}, not {ours}")]
    DigestMismatch {
        /// The registry's host.
        host: String,
        /// The digest that the registry reports.
        there: String,
        /// The digest of the content sent.
        ours: String,
    },
}

/// Content to push.
pub struct PushContent {
    /// The component.
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

/// Result of a push.
#[derive(Debug, Serialize)]
pub struct Pushed {
    /// Reference by digest.
    pub reference: String,
    /// The tag.
    pub tag: String,
    /// Digest of the component's manifest.
    pub digest: String,
    /// Digest of the signature's manifest.
    pub signature: String,
}

/// Pushes a component and its signature.
///
/// # Errors
/// The registry rejects one of them, or the tag already names other content.
pub async fn push(wire: Wire, to: &Reference, content: &PushContent) -> Result<Pushed, PushError> {
    let component = manifest::component_manifest(
        &content.component,
        &content.signed_as,
        &content.imports,
        &content.exports,
    )?;
    let signature = manifest::signature_manifest(&content.signature, &component.manifest)?;
    let tag = to.tag().unwrap_or(content.signed_as.version());
    let mut registry = Registry {
        wire,
        base: format!("/v2/{}", to.repository()),
    };
    let ours = digest(&component.manifest);
    if let Some(there) = registry.tag_digest(tag).await?
        && there != ours
    {
        return Err(PushError::TagExists {
            tag: tag.to_owned(),
            there,
            ours,
        });
    }
    for blob in component.blobs.into_iter().chain(signature.blobs) {
        registry.blob(blob.into()).await?;
    }
    // The tag comes last, so that a tagged component always has its signature.
    registry
        .manifest(&ours, MANIFEST, &component.manifest)
        .await?;
    let signed = digest(&signature.manifest);
    let kept = registry
        .manifest(&signed, MANIFEST, &signature.manifest)
        .await?;
    if !kept {
        registry.add_referrer(&ours, &signature.manifest).await?;
    }
    registry
        .manifest(tag, MANIFEST, &component.manifest)
        .await?;
    Ok(Pushed {
        reference: format!("{}/{}@{ours}", to.registry(), to.repository()),
        tag: tag.to_owned(),
        digest: ours,
        signature: signed,
    })
}

struct Registry {
    wire: Wire,
    base: String,
}

impl Registry {
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        media_type: Option<&'static str>,
        body: &[u8],
    ) -> Result<Answer, PushError> {
        let mut headers = HeaderMap::new();
        if let Some(media_type) = media_type {
            let field = if method == Method::PUT {
                CONTENT_TYPE
            } else {
                ACCEPT
            };
            headers.insert(field, HeaderValue::from_static(media_type));
        }
        let path = format!("{}{path}", self.base);
        let body = Bytes::copy_from_slice(body);
        Ok(self.wire.ask(method, &path, &headers, &body).await?)
    }

    fn status(&self, answer: &Answer, what: &'static str) -> PushError {
        PushError::Status {
            host: self.wire.registry().to_owned(),
            status: answer.status().as_u16(),
            what,
        }
    }

    /// The digest that a tag names, if the tag exists.
    async fn tag_digest(&mut self, tag: &str) -> Result<Option<String>, PushError> {
        let path = format!("/manifests/{tag}");
        let answer = self.ask(Method::GET, &path, Some(MANIFEST), &[]).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => Ok(Some(digest(answer.body()))),
            _ => Err(self.status(&answer, "the query for the tag")),
        }
    }

    /// Uploads a blob, unless the registry has it.
    async fn blob(&mut self, blob: Bytes) -> Result<(), PushError> {
        let ours = digest(&blob);
        let there = self
            .ask(Method::HEAD, &format!("/blobs/{ours}"), None, &[])
            .await?;
        if there.status() == StatusCode::OK {
            return Ok(());
        }
        let begun = self.ask(Method::POST, "/blobs/uploads/", None, &[]).await?;
        if begun.status() != StatusCode::ACCEPTED {
            return Err(self.status(&begun, "the start of an upload"));
        }
        let query = format!("digest={}", ours.replace(':', "%3A"));
        let done = self.wire.send_to(begun.headers(), &query, &blob).await?;
        if done.status() != StatusCode::CREATED {
            return Err(self.status(&done, "an upload"));
        }
        self.check_digest(&done, &ours)
    }

    /// Uploads a manifest under a tag or its digest. Returns whether the registry supports the
    /// referrers API.
    async fn manifest(
        &mut self,
        name: &str,
        media_type: &'static str,
        manifest: &[u8],
    ) -> Result<bool, PushError> {
        let path = format!("/manifests/{name}");
        let answer = self
            .ask(Method::PUT, &path, Some(media_type), manifest)
            .await?;
        if answer.status() != StatusCode::CREATED {
            return Err(self.status(&answer, "a manifest"));
        }
        self.check_digest(&answer, &digest(manifest))?;
        Ok(answer.headers().contains_key(SUBJECT))
    }

    /// Adds a signature to the fallback index for registries without the referrers API
    /// (distribution 1.1, "Referrers Tag Schema").
    async fn add_referrer(&mut self, of: &str, signature: &[u8]) -> Result<(), PushError> {
        let tag = of.replace(':', "-");
        let path = format!("/manifests/{tag}");
        let there = self.ask(Method::GET, &path, Some(INDEX), &[]).await?;
        let mut index = match there.status() {
            StatusCode::NOT_FOUND => Referrers::none(),
            StatusCode::OK => serde_json::from_slice(there.body())?,
            _ => return Err(self.status(&there, "the query for the referrers of a manifest")),
        };
        if index.add(signature) {
            let index = serde_json::to_vec(&index)?;
            self.manifest(&tag, INDEX, &index).await?;
        }
        Ok(())
    }

    /// Checks the digest of the stored content, if the registry reports one.
    fn check_digest(&self, answer: &Answer, ours: &str) -> Result<(), PushError> {
        let there = answer.headers().get(CONTENT_DIGEST);
        match there.and_then(|there| there.to_str().ok()) {
            Some(there) if there != ours => Err(PushError::DigestMismatch {
                host: self.wire.registry().to_owned(),
                there: there.to_owned(),
                ours: ours.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
