//! Signing keys, and required signatures of handlers and models.

use std::collections::BTreeMap;

use tensorgate_policy::policy::{ModelSigner, SignedAs, SignedBy};
use tensorgate_policy::report::{Path, quote};
use tensorgate_policy::values::unhex;

use super::names;
use super::usage::Usage;
use crate::raw;

/// Maximum keys of a handler or model: an old and a new one per team.
const MAX_KEYS: usize = 16;
/// Maximum size of a public key in PEM; one on P-521 has 268 bytes.
const MAX_KEY_BYTES: usize = 16 << 10;
/// Maximum size of root certificates in PEM: sixteen of 16 KiB.
const MAX_CERTIFICATE_BYTES: usize = 256 << 10;
/// Maximum size of a trusted root of Sigstore in a policy, in bytes. The public one has less than
/// 10 KB. Readers of files take larger ones: a policy may have one for each of its keys.
const MAX_INLINE_ROOT_BYTES: usize = 128 << 10;
/// Maximum length of an identity, and of its provider's URL.
const MAX_IDENTITY_BYTES: usize = 2 << 10;
/// In each PEM block that holds a private key.
const PRIVATE_KEY: &str = "PRIVATE KEY-----";

/// The valid keys of a policy, by name.
pub(super) type Signers = BTreeMap<String, ModelSigner>;

/// The keys that models refer to: the document's, and the valid ones among them.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub(super) policy: &'a raw::Policy,
    pub(super) signers: &'a Signers,
}

/// Validates all keys. Handlers read theirs from the document.
pub(super) fn keys(
    path: &Path,
    raw: &BTreeMap<String, raw::SigningKey>,
    used: &Usage<'_>,
) -> (Signers, Option<()>) {
    let mut signers = Signers::new();
    let mut owners: BTreeMap<ModelSigner, &String> = BTreeMap::new();
    let mut valid = Some(());
    for (name, raw) in raw {
        let path = path.key(name);
        let named = names::name(&path, name);
        let signer = signer(&path, raw);
        // Revoking one name would leave the key valid under the other.
        let twin = signer.as_ref().and_then(|signer| owners.get(signer));
        if let Some(twin) = twin {
            let field = path.field(kind(raw));
            valid = field.fail(format!("is the same key as {}", quote(twin)));
        }
        if !used.keys.contains(name.as_str()) {
            path.warn(
                format!("no handler or model is signed by key {}", quote(name)),
                "remove it",
            );
        }
        match named.and(signer) {
            Some(signer) => {
                owners.insert(signer.clone(), name);
                signers.insert(name.clone(), signer);
            }
            None => valid = None,
        }
    }
    (signers, valid)
}

/// The field that a key with a single one has.
const fn kind(raw: &raw::SigningKey) -> &'static str {
    if raw.public_key.is_some() {
        "public_key"
    } else if raw.certificates.is_some() {
        "certificates"
    } else if raw.identity.is_some() {
        "identity"
    } else {
        "ed25519"
    }
}

/// A key, which has exactly one field, or those of an identity.
fn signer(path: &Path, raw: &raw::SigningKey) -> Option<ModelSigner> {
    let fields = [
        ("ed25519", &raw.ed25519),
        ("public_key", &raw.public_key),
        ("public_key_file", &raw.public_key_file),
        ("certificates", &raw.certificates),
        ("certificates_file", &raw.certificates_file),
        ("identity", &raw.identity),
    ];
    let mut given = fields.into_iter().filter(|(_, text)| text.is_some());
    let first = given.next();
    if let Some((second, _)) = given.next() {
        return path.field(second).fail_with_fix(
            "is beside another key: each name has exactly one",
            "a name of its own for each key",
        );
    }
    if raw.identity.is_none() {
        without_identity(path, raw)?;
    }
    match first {
        Some(("identity", Some(text))) => identity(path, raw, text),
        Some(("public_key", Some(text))) => {
            let path = path.field("public_key");
            pem(&path, text, "PUBLIC KEY", MAX_KEY_BYTES)?;
            Some(ModelSigner::PublicKey(text.clone()))
        }
        Some(("certificates", Some(text))) => {
            let path = path.field("certificates");
            pem(&path, text, "CERTIFICATE", MAX_CERTIFICATE_BYTES)?;
            Some(ModelSigner::Certificates(text.clone()))
        }
        Some((file @ ("public_key_file" | "certificates_file"), _)) => {
            // The loader replaces the file's name by its text.
            let path = path.field(file);
            path.fail("the file was not read: the policy is checked without its files")
        }
        _ => {
            let path = path.field("ed25519");
            let fix = "64 lower-case hex digits, as `tensorgate handler sign` prints them";
            let text = path.required(raw.ed25519.as_ref(), fix)?;
            let key = unhex::<32>(text.as_bytes()).map(ModelSigner::Ed25519);
            key.or_else(|| path.fail_with_fix("is not an Ed25519 public key", fix))
        }
    }
}

/// Checks that nothing is given that only an identity has.
fn without_identity(path: &Path, raw: &raw::SigningKey) -> Option<()> {
    let fields = [
        ("identity_provider", &raw.identity_provider),
        ("trusted_root", &raw.trusted_root),
        ("trusted_root_file", &raw.trusted_root_file),
    ];
    match fields.into_iter().find(|(_, text)| text.is_some()) {
        None => Some(()),
        Some((field, _)) => path.field(field).fail_with_fix(
            "has no effect without identity",
            "identity: the mail address or URI of the signer",
        ),
    }
}

/// A Sigstore identity.
fn identity(path: &Path, raw: &raw::SigningKey, identity: &str) -> Option<ModelSigner> {
    let fix = "the mail address or URI of the signer";
    let identity = line(&path.field("identity"), identity, fix);
    let provider_path = path.field("identity_provider");
    let fix = "the URL of the provider that vouches for the identity";
    let provider = provider_path
        .required(raw.identity_provider.as_ref(), fix)
        .and_then(|text| line(&provider_path, text, fix));
    let root_path = path.field("trusted_root");
    let root = match (&raw.trusted_root, &raw.trusted_root_file) {
        (Some(text), None) if text.len() <= MAX_INLINE_ROOT_BYTES => Some(text.clone()),
        (Some(text), None) => {
            let message = format!("{} bytes are too long", text.len());
            root_path.fail_with_fix(message, format!("at most {MAX_INLINE_ROOT_BYTES} bytes"))
        }
        (Some(_), Some(_)) => {
            let path = path.field("trusted_root_file");
            path.fail_with_fix("is beside trusted_root", "remove one")
        }
        // The loader replaces the file's name by its text.
        (None, Some(_)) => path
            .field("trusted_root_file")
            .fail("the file was not read: the policy is checked without its files"),
        (None, None) => root_path.fail_with_fix(
            "is missing",
            "trusted_root_file: the trusted_root.json of the Sigstore instance",
        ),
    };
    Some(ModelSigner::Identity {
        identity: identity?,
        provider: provider?,
        trusted_root: root?,
    })
}

/// A line of text that is not empty.
fn line(path: &Path, text: &str, fix: &str) -> Option<String> {
    if text.is_empty() || text.len() > MAX_IDENTITY_BYTES || text.chars().any(char::is_control) {
        return path.fail_with_fix("is empty, too long, or more than a line", fix);
    }
    Some(text.into())
}

/// Checks the size and the labels of a PEM text. No message quotes it.
fn pem(path: &Path, text: &str, label: &str, max_bytes: usize) -> Option<()> {
    if text.contains(PRIVATE_KEY) {
        return path.fail_with_fix(
            "is a private key: everyone who can read the policy could sign with it",
            "the public key, as `openssl pkey -pubout` prints it, and a new private key",
        );
    }
    if text.len() > max_bytes {
        let message = format!("{} bytes are too long", text.len());
        return path.fail_with_fix(message, format!("at most {max_bytes} bytes"));
    }
    if !text.contains(&format!("-----BEGIN {label}-----")) {
        let message = format!("has no PEM block `{label}`");
        return path.fail_with_fix(message, format!("-----BEGIN {label}-----"));
    }
    Some(())
}

/// Names of keys of which one must have signed.
fn key_names(path: &Path, names: &[String]) -> Option<()> {
    path.not_empty(names, "the name of a key, or remove it")?;
    path.distinct(names)?;
    if names.len() > MAX_KEYS {
        let message = format!("{} keys are too many, {MAX_KEYS} are allowed", names.len());
        return path.fail(message);
    }
    Some(())
}

/// Those of which one must have signed a model.
pub(super) fn model_signers(path: &Path, names: &[String], keys: Keys<'_>) -> Option<Signers> {
    key_names(path, names)?;
    path.each(names, |path, name| {
        let written = &keys.policy.keys;
        if !written.contains_key(name) {
            return path.unknown("key", name, written.keys());
        }
        // An invalid key is reported at its own location.
        Some((name.clone(), keys.signers.get(name)?.clone()))
    })
}

/// Required signers of a handler. The outer `None` is a fault, the inner one means no signature.
pub(super) fn signed_by(
    path: &Path,
    raw: &raw::Handler,
    policy: &raw::Policy,
) -> Option<Option<SignedBy>> {
    let as_path = path.field("signed_as");
    let signed_as = match &raw.signed_as {
        None => None,
        Some(text) => {
            let read = SignedAs::parse(text);
            if read.is_none() {
                as_path.error_with_fix(
                    format!("{} is not a component's name and version", quote(text)),
                    "name@version, as its signer gave them",
                );
            }
            Some(read?)
        }
    };
    let by_path = path.field("signed_by");
    let Some(names) = &raw.signed_by else {
        if signed_as.is_some() {
            let fix = "name the keys with signed_by";
            return as_path.fail_with_fix("has no effect without signed_by", fix);
        }
        if policy.keys.values().any(|key| key.ed25519.is_some()) {
            let fix = "signed_by: [KEY], or remove the policy's keys";
            path.warn(
                "the policy has keys, but this handler's signature is not checked",
                fix,
            );
        }
        return Some(None);
    };
    key_names(&by_path, names)?;
    let mut keys = BTreeMap::new();
    for (index, name) in names.iter().enumerate() {
        let Some(key) = policy.keys.get(name) else {
            return by_path
                .index(index)
                .unknown("key", name, policy.keys.keys());
        };
        if key.ed25519.is_none() && kind(key) != "ed25519" {
            return by_path.index(index).fail_with_fix(
                format!("key {} is not one for components", quote(name)),
                "a key with ed25519",
            );
        }
        // An invalid key is reported at its own location.
        keys.insert(name.clone(), unhex(key.ed25519.as_ref()?.as_bytes())?);
    }
    Some(Some(SignedBy { keys, signed_as }))
}
