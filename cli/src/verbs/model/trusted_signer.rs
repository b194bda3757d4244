//! Whom a verb trusts to have signed a model: a key, or root certificates.

use std::path::PathBuf;

use clap::Args;
use tensorgate_artifact::model_signing::{ModelKey, Roots, Trust};
use tensorgate_cli_common::Failure;

use super::inputs::{certificates, read_text, shown};

/// Whom a verb trusts.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct TrustedSigner {
    /// Public key of the signer, PEM.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Trusted root certificates, PEM, and authorities that a signature may lack. Repeatable.
    #[arg(long, value_name = "FILE")]
    certificate_chain: Vec<PathBuf>,
}

/// What was read.
#[derive(Debug)]
enum Signers {
    Key(Box<ModelKey>),
    Roots(Roots),
}

/// The trusted key or certificates, with the text that they were read from.
#[derive(Debug)]
pub struct Trusted {
    signers: Signers,
    /// The PEM text.
    pub text: String,
}

impl TrustedSigner {
    /// Reads the files.
    ///
    /// # Errors
    /// One of them cannot be read, or holds something else.
    pub fn read(&self) -> Result<Trusted, Failure> {
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
}

impl Trusted {
    /// As a verifier takes it.
    pub fn trust(&self) -> Trust<'_> {
        match &self.signers {
            Signers::Key(key) => Trust::Key(key),
            Signers::Roots(roots) => Trust::Roots(roots),
        }
    }
}
