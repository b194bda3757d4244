//! Files of a model.

use serde::{Deserialize, Serialize};

/// The files of a model, and who vouches for them: `manifest`, or `signed_by`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Artifact {
    /// The model's file or folder, relative to the policy.
    pub path: Option<String>,
    /// The manifest of the files, as `tensorgate model manifest` writes it, relative to the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
    /// With `manifest`: SHA-256 of the manifest's file, 64 lower-case hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Keys of which one must have signed the files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_by: Option<Vec<String>>,
    /// With `signed_by`: the name that the signature must give the model. Without it, another model
    /// of the same signer is accepted in its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// With `signed_by`: the first day, UTC, on which it may have been signed, YYYY-MM-DD. A
    /// signature without a time is refused. With a key or a certificate, the signer says the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<String>,
    /// With `signed_by`: the signature's file, relative to the policy. By default it is `model.sig`
    /// in a folder, and `FILE.sig` beside a single file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Allowed formats of the files, as `tensorgate model scan` prints them; every format that the
    /// scan calls safe if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub formats: Option<Vec<String>>,
    /// Allowed kinds of code, which the model's server runs: `triton-python` (`*.py`, and a
    /// `config.pbtxt` that names the Python backend) and `torchscript`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow: Option<Vec<String>>,
    /// Files that are accepted although they are not safe, by their paths and digests. They may
    /// have any format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exceptions: Option<Vec<ArtifactException>>,
}

/// A file of a model that is accepted although it is not safe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ArtifactException {
    /// SHA-256 of the whole file, 64 lower-case hex digits.
    pub sha256: Option<String>,
    /// The file's path below `artifact.path`, with `/` between names; of a model that is one file,
    /// its name. The same content is refused at any other path.
    pub path: Option<String>,
    /// Why it is accepted, in at most 500 characters.
    pub reason: Option<String>,
    /// The last day on which it is accepted, UTC, YYYY-MM-DD. Then the model is not ready any more.
    pub until: Option<String>,
}
