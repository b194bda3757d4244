//! Whom a verb trusts to have signed a model: a key, root certificates, or a Sigstore identity.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args};
use tensorgate_artifact::model_signing::{
    ModelKey, Rejection, Roots, Trust, TrustedIdentity, TrustedRoot, Verified, verify,
    verify_identity,
};
use tensorgate_cli_common::Failure;

use super::inputs::{certificates, read_text};
use crate::text::shown;

/// Whom a verb trusts.
// The group is declared by name: one that clap derives has no members beside a flattened struct.
#[derive(Args, Debug)]
#[group(skip)]
#[command(
    group = ArgGroup::new("trusted_signer")
        .args(["key", "certificate_chain", "trusted_root"])
        .required(true)
)]
pub struct TrustedSigner {
    /// Public key of the signer, PEM.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Trusted root certificates, PEM, and authorities that a signature may lack. Repeatable.
    #[arg(long, value_name = "FILE")]
    certificate_chain: Vec<PathBuf>,
    /// Trusted root of Sigstore, JSON: the authorities and logs to believe about an identity.
    #[arg(
        long,
        value_name = "FILE",
        requires = "identity",
        requires = "identity_provider"
    )]
    trusted_root: Option<PathBuf>,
    // A missing `requires` is not reported beside a conflict, so conflicts are named.
    /// Mail address or URI of the signer, compared exactly.
    #[arg(
        long,
        value_name = "NAME",
        requires = "trusted_root",
        conflicts_with_all = ["key", "certificate_chain"]
    )]
    identity: Option<String>,
    /// URL of the provider that vouches for the identity, compared exactly.
    #[arg(
        long,
        value_name = "URL",
        requires = "trusted_root",
        conflicts_with_all = ["key", "certificate_chain"]
    )]
    identity_provider: Option<String>,
}

/// What was read.
#[derive(Debug)]
enum Signers {
    Key(Box<ModelKey>),
    Roots(Roots),
    Identity(Box<TrustedIdentity>),
}

/// The trusted key, certificates or identity, with the text that they were read from.
#[derive(Debug)]
pub struct Trusted {
    signers: Signers,
    /// Everything that decides who is trusted.
    pub text: String,
}

impl TrustedSigner {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read, or holds something else.
    pub fn read(&self) -> Result<Trusted, Failure> {
        if let Some(file) = &self.trusted_root {
            return self.read_identity(file);
        }
        if let Some(file) = &self.key {
            let text = read_text(file)?;
            let key = ModelKey::from_pem(&text)
                .map_err(|fault| Failure::Input(format!("{} {fault}", shown(file))))?;
            return Ok(Trusted {
                signers: Signers::Key(Box::new(key)),
                text,
            });
        }
        let mut text = String::new();
        for file in &self.certificate_chain {
            text.push_str(&read_text(file)?);
        }
        let roots = Roots::new(certificates(&self.certificate_chain)?)
            .map_err(|fault| Failure::Input(format!("--certificate-chain: {fault}")))?;
        Ok(Trusted {
            signers: Signers::Roots(roots),
            text,
        })
    }

    /// The Sigstore identity that must have signed.
    fn read_identity(&self, file: &Path) -> Result<Trusted, Failure> {
        let (Some(identity), Some(provider)) = (&self.identity, &self.identity_provider) else {
            return Err(Failure::Input(
                "--trusted-root needs --identity and --identity-provider".to_owned(),
            ));
        };
        let text = read_text(file)?;
        let root = TrustedRoot::read(text.as_bytes())
            .map_err(|fault| Failure::Input(format!("{} {fault}", shown(file))))?;
        let trusted = TrustedIdentity {
            root,
            identity: identity.clone(),
            provider: provider.clone(),
        };
        Ok(Trusted {
            signers: Signers::Identity(Box::new(trusted)),
            // No argument has a zero byte, so different ones are different texts.
            text: format!("{identity}\0{provider}\0{text}"),
        })
    }
}

impl Trusted {
    /// Verifies a bundle. `now_s` is a time in seconds since 1970, at which certificates of a chain
    /// must be valid.
    ///
    /// # Errors
    /// Why it is rejected.
    pub fn verify(&self, bundle: &[u8], now_s: u64) -> Result<Verified, Rejection> {
        match &self.signers {
            Signers::Key(key) => verify(bundle, Trust::Key(key), now_s),
            Signers::Roots(roots) => verify(bundle, Trust::Roots(roots), now_s),
            Signers::Identity(trusted) => verify_identity(bundle, trusted),
        }
    }
}
