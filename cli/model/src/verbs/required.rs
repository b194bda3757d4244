//! What a verb requires of a signature beside its signer, and how it says what was found.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use tensorgate_artifact::model_signing::Requirements;
use tensorgate_values::time::start_of_day_unix_s;

use super::inputs::named;

/// What is required of a signature.
#[derive(Args, Debug)]
pub struct RequiredSignature {
    /// Name that the signature must give the model, compared exactly. Without it, another model of
    /// the same signer is accepted.
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    pub subject: Option<String>,
    /// First day, UTC, on which the model may have been signed. Without it, an older version is
    /// accepted.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    pub not_before: Option<u64>,
}

impl RequiredSignature {
    /// The requirements.
    pub fn requirements(&self) -> Requirements<'_> {
        Requirements {
            subject: self.subject.as_deref(),
            not_before_s: self.not_before,
        }
    }
}

/// Why files that the signer left out are refused. `None` if there are none.
pub fn uncovered(paths: &[String]) -> Option<String> {
    (!paths.is_empty()).then(|| {
        format!(
            "the signature leaves out {}: sign the model with it, or accept it with --ignore-path",
            named(paths)
        )
    })
}

/// The value of `--not-before`.
fn day(text: &str) -> Result<u64, String> {
    start_of_day_unix_s(text).ok_or_else(|| "expected a day from 1970 on, as YYYY-MM-DD".to_owned())
}
