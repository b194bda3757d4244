//! Components in an OCI registry: blobs first, then the manifest that names them, then its tag; the signature refers to the manifest.

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

/// What a registry calls the content that it has taken.
const CONTENT_DIGEST: &str = "docker-content-digest";
/// By which a registry says that it keeps track of what refers to what.
const SUBJECT: &str = "oci-subject";

/// Why a component was not pushed.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The registry.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// What is pushed cannot be written down.
    #[error("cannot write a manifest: {0}")]
    Json(#[from] serde_json::Error),
    /// It did not do it.
    #[error("{host} answers {status} to {what}")]
    Status {
        /// Who.
        host: String,
        /// With which status.
        status: u16,
        /// To what.
        what: &'static str,
    },
    /// The tag names something else.
    #[error("{tag} is {there} there already, not {ours}: a version is pushed once")]
    Taken {
        /// The tag.
        tag: String,
        /// Its digest there.
        there: String,
        /// What would have become of it.
        ours: String,
    },
    /// It has taken something else than was sent.
    #[error("{host} says that it took {there}, not {ours}")]
    Other {
        /// Who.
        host: String,
        /// What it says.
        there: String,
        /// What was sent.
        ours: String,
    },
}

/// What goes to a registry.
pub struct Shipment {
    /// The component.
    pub component: Vec<u8>,
    /// Its signature's file.
    pub signature: Vec<u8>,
    /// What that calls it.
    pub signed_as: SignedAs,
    /// What it imports.
    pub imports: Vec<String>,
    /// What it exports.
    pub exports: Vec<String>,
}

/// Where it is now.
#[derive(Debug, Serialize)]
pub struct Pushed {
    /// By digest.
    pub reference: String,
    /// By tag.
    pub tag: String,
    /// Its manifest.
    pub digest: String,
    /// Its signature's manifest.
    pub signature: String,
}

/// Pushes a component and its signature.
///
/// # Errors
/// If the registry does not take one of them, or the tag names something else there.
pub async fn push(wire: Wire, to: &Reference, shipment: &Shipment) -> Result<Pushed, PushError> {
    let component = manifest::of_component(
        &shipment.component,
        &shipment.signed_as,
        &shipment.imports,
        &shipment.exports,
    )?;
    let signature = manifest::of_signature(&shipment.signature, &component.manifest)?;
    let tag = to.tag().unwrap_or(shipment.signed_as.version());
    let mut registry = Registry {
        wire,
        base: format!("/v2/{}", to.repository()),
    };
    let ours = digest(&component.manifest);
    if let Some(there) = registry.tagged(tag).await?
        && there != ours
    {
        return Err(PushError::Taken {
            tag: tag.to_owned(),
            there,
            ours,
        });
    }
    for blob in component.blobs.into_iter().chain(signature.blobs) {
        registry.blob(blob.into()).await?;
    }
    // The tag last: whoever finds it finds the signature, too.
    registry
        .manifest(&ours, MANIFEST, &component.manifest)
        .await?;
    let signed = digest(&signature.manifest);
    let kept = registry
        .manifest(&signed, MANIFEST, &signature.manifest)
        .await?;
    if !kept {
        registry.refer(&ours, &signature.manifest).await?;
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

    /// What a tag names, if it names anything. A registry's own word for it, where it has one.
    async fn tagged(&mut self, tag: &str) -> Result<Option<String>, PushError> {
        let path = format!("/manifests/{tag}");
        let answer = self.ask(Method::GET, &path, Some(MANIFEST), &[]).await?;
        match answer.status() {
            StatusCode::NOT_FOUND => Ok(None),
            StatusCode::OK => Ok(Some(digest(answer.body()))),
            _ => Err(self.status(&answer, "a question for the tag")),
        }
    }

    /// Uploads a blob that is not there.
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
        self.took(&done, &ours)
    }

    /// Puts a manifest under a tag or its digest; whether the registry keeps track of what it refers to.
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
        self.took(&answer, &digest(manifest))?;
        Ok(answer.headers().contains_key(SUBJECT))
    }

    /// Adds a signature to the index that stands for what the registry does not keep track of (distribution 1.1, "Referrers Tag Schema").
    async fn refer(&mut self, of: &str, signature: &[u8]) -> Result<(), PushError> {
        let tag = of.replace(':', "-");
        let path = format!("/manifests/{tag}");
        let there = self.ask(Method::GET, &path, Some(INDEX), &[]).await?;
        let mut index = match there.status() {
            StatusCode::NOT_FOUND => Referrers::none(),
            StatusCode::OK => serde_json::from_slice(there.body())?,
            _ => return Err(self.status(&there, "a question for what refers to a manifest")),
        };
        if index.add(signature) {
            let index = serde_json::to_vec(&index)?;
            self.manifest(&tag, INDEX, &index).await?;
        }
        Ok(())
    }

    /// A registry that says what it took must have taken what was sent.
    fn took(&self, answer: &Answer, ours: &str) -> Result<(), PushError> {
        let there = answer.headers().get(CONTENT_DIGEST);
        match there.and_then(|there| there.to_str().ok()) {
            Some(there) if there != ours => Err(PushError::Other {
                host: self.wire.registry().to_owned(),
                there: there.to_owned(),
                ours: ours.to_owned(),
            }),
            _ => Ok(()),
        }
    }
}
