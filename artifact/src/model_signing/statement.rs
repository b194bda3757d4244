//! The in-toto statement that is signed: a manifest as JSON.

use std::num::NonZeroU64;

use serde::{Deserialize, Deserializer, Serialize};
use tensorgate_values::{hex, unhex};

use super::json::{JsonFault, at_most, check_members, excerpt, parse};
use super::manifest::{
    MAX_RESOURCES, Manifest, ManifestFault, Pieces, Resource, Rules, root_digest,
};
use super::path::{Exclusions, MAX_EXCLUSIONS, PathFault};
use super::time::{from_rfc3339, rfc3339};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
/// The predicate type of OpenSSF Model Signing 1.0.
const PREDICATE: &str = "https://model_signing/signature/v1.0";
/// The only digest: the one that each implementation must have.
const SHA256: &str = "sha256";
const FILES: &str = "files";
const SHARDS: &str = "shards";

/// Of several subjects so many are read, to say that there is more than one.
const MAX_SUBJECTS: usize = 2;

/// Why a signed payload is not a statement about a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatementFault {
    /// Not the expected JSON.
    #[error("the signed statement is not as the format requires: {0}")]
    Json(#[from] JsonFault),
    /// Another kind of statement.
    #[error("the signed payload is a {0:?}, not an in-toto statement v1")]
    Kind(String),
    /// A statement about something else than a model.
    #[error(
        "the signed predicate is {0:?}, not {expected:?}; sign the model again if release 0.2 of \
         model-signing signed it",
        expected = PREDICATE
    )]
    Predicate(String),
    /// Not exactly one subject.
    #[error("the signed statement does not have exactly one subject")]
    Subjects,
    /// The subject has no name.
    #[error("the subject of the signed statement has no name")]
    Unnamed,
    /// Another digest than SHA-256.
    #[error("the digest {0:?} is not supported; sign the model with sha256")]
    Hash(String),
    /// A text that is not the SHA-256 in lower-case hex digits.
    #[error("the digest of {0:?} is not 64 lower-case hex digits")]
    Digest(String),
    /// Another method, or a size of shards that does not fit it.
    #[error("the method {0:?} with this size of shards is not one of the format")]
    Method(String),
    /// A path to leave out that is not one.
    #[error("the ignored path {0:?} {1}")]
    Exclusion(String, PathFault),
    /// A time of the signature that is not in its only form.
    #[error("the time of the signature is {0:?}, not one such as 2027-01-31T12:00:00Z")]
    Time(String),
    /// The resources are not a manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestFault),
}

/// The members that decide how the rest is read.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    #[serde(deserialize_with = "at_most::<MAX_SUBJECTS, _, _>")]
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

/// The model as a whole. Other members are allowed and mean nothing.
#[derive(Debug, Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: Root,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    annotations: Option<Annotations>,
}

/// What in-toto lets a producer add to a subject. Others are allowed and mean nothing.
#[derive(Debug, Serialize, Deserialize)]
struct Annotations {
    /// When the model was signed, RFC 3339 in UTC. The format has no place of its own for it.
    #[serde(
        rename = "tensorgate.signed_at",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    signed_at: Option<String>,
}

/// Other digests are allowed and mean nothing.
#[derive(Debug, Serialize, Deserialize)]
struct Root {
    sha256: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Predicate {
    #[serde(deserialize_with = "at_most::<MAX_RESOURCES, _, _>")]
    resources: Vec<Descriptor>,
    serialization: Serialization,
}

/// A file or shard. Other members are allowed and mean nothing.
#[derive(Debug, Serialize, Deserialize)]
struct Descriptor {
    name: String,
    digest: String,
    algorithm: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Serialization {
    method: String,
    hash_type: String,
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "shard_bytes"
    )]
    shard_size: Option<NonZeroU64>,
    allow_symlinks: bool,
    #[serde(default, deserialize_with = "at_most::<MAX_EXCLUSIONS, _, _>")]
    ignore_paths: Vec<String>,
}

/// A whole number above zero. `model-signing` writes it with a fraction of zero.
fn shard_bytes<'de, D: Deserializer<'de>>(json: D) -> Result<Option<NonZeroU64>, D::Error> {
    let number = serde_json::Number::deserialize(json)?;
    let integer = number.as_u64().or_else(|| {
        let fraction = number.as_f64()?;
        // Such numbers have no more than 15 digits, so nothing is lost.
        let is_integer = fraction.fract() == 0.0 && (1.0..1e15).contains(&fraction);
        format!("{fraction:.0}").parse().ok().filter(|_| is_integer)
    });
    let bytes = integer.and_then(NonZeroU64::new);
    let fault = || serde::de::Error::custom("the size of shards is not a whole number above zero");
    bytes.map(Some).ok_or_else(fault)
}

/// Writes the statement about a manifest, which is what a signature is over.
///
/// # Errors
/// It cannot be written as JSON.
pub fn write_statement(manifest: &Manifest) -> Result<Vec<u8>, JsonFault> {
    let resources = manifest.by_name();
    let rules = manifest.rules();
    let (method, shard_size) = match rules.pieces {
        Pieces::Files => (FILES, None),
        Pieces::Shards(bytes) => (SHARDS, Some(bytes)),
    };
    let statement = Statement {
        kind: STATEMENT.to_owned(),
        subject: vec![Subject {
            name: manifest.name.clone(),
            digest: Root {
                sha256: hex(&root_digest(&resources)),
            },
            annotations: manifest.signed_at_s.map(|time_s| Annotations {
                signed_at: Some(rfc3339(time_s)),
            }),
        }],
        predicate_type: PREDICATE.to_owned(),
        predicate: Predicate {
            resources: resources.iter().map(Descriptor::of).collect(),
            serialization: Serialization {
                method: method.to_owned(),
                hash_type: SHA256.to_owned(),
                shard_size,
                allow_symlinks: rules.follow_links,
                ignore_paths: rules.exclusions.recorded(),
            },
        },
    };
    Ok(serde_json::to_vec(&statement)?)
}

/// Reads a statement whose signature or digest was verified.
///
/// # Errors
/// It is not a statement about a model, or its manifest has a fault.
pub fn read_statement(payload: &[u8]) -> Result<Manifest, StatementFault> {
    check_members(payload)?;
    let Kind {
        kind,
        predicate_type,
    } = parse(payload)?;
    if kind != STATEMENT {
        return Err(StatementFault::Kind(excerpt(&kind)));
    }
    if predicate_type != PREDICATE {
        return Err(StatementFault::Predicate(excerpt(&predicate_type)));
    }
    let statement: Statement = parse(payload)?;
    let [
        Subject {
            name,
            digest,
            annotations,
        },
    ] = statement.subject.as_slice()
    else {
        return Err(StatementFault::Subjects);
    };
    if name.is_empty() {
        return Err(StatementFault::Unnamed);
    }
    let root = sha256(&digest.sha256, "the model")?;
    let Predicate {
        resources,
        serialization,
    } = statement.predicate;
    let rules = serialization.rules()?;
    let resources: Result<Vec<_>, _> = resources
        .into_iter()
        .map(|descriptor| descriptor.resource(rules.pieces))
        .collect();
    let mut manifest = Manifest::from_listed(name.clone(), rules, resources?, &root)?;
    let signed_at = annotations.as_ref().and_then(|it| it.signed_at.as_deref());
    manifest.signed_at_s = signed_at.map(signing_time).transpose()?;
    Ok(manifest)
}

/// A time in the form in which [`write_statement`] writes it.
fn signing_time(text: &str) -> Result<u64, StatementFault> {
    from_rfc3339(text)
        .filter(|time_s| rfc3339(*time_s) == text)
        .ok_or_else(|| StatementFault::Time(excerpt(text)))
}

fn sha256(digits: &str, of: &str) -> Result<[u8; 32], StatementFault> {
    unhex(digits.as_bytes()).ok_or_else(|| StatementFault::Digest(excerpt(of)))
}

impl Descriptor {
    fn of(resource: &Resource) -> Self {
        Self {
            name: resource.name(),
            digest: hex(&resource.sha256),
            algorithm: SHA256.to_owned(),
        }
    }

    fn resource(self, pieces: Pieces) -> Result<Resource, StatementFault> {
        // `model-signing` writes the size of shards into the algorithm's name.
        let is_sha256 = self.algorithm == SHA256
            || matches!(pieces, Pieces::Shards(bytes)
                if self.algorithm == format!("sha256-sharded-{bytes}"));
        if !is_sha256 {
            return Err(StatementFault::Hash(excerpt(&self.algorithm)));
        }
        let digest = sha256(&self.digest, &self.name)?;
        Ok(Resource::from_name(&self.name, pieces, digest)?)
    }
}

impl Serialization {
    fn rules(self) -> Result<Rules, StatementFault> {
        if self.hash_type != SHA256 {
            return Err(StatementFault::Hash(excerpt(&self.hash_type)));
        }
        let pieces = match (self.method.as_str(), self.shard_size) {
            (FILES, None) => Pieces::Files,
            (SHARDS, Some(bytes)) => Pieces::Shards(bytes),
            _ => return Err(StatementFault::Method(excerpt(&self.method))),
        };
        let exclusions = Exclusions::new(self.ignore_paths)
            .map_err(|(path, fault)| StatementFault::Exclusion(excerpt(&path), fault))?;
        Ok(Rules {
            pieces,
            follow_links: self.allow_symlinks,
            exclusions,
        })
    }
}

#[cfg(test)]
mod tests;
