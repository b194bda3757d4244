//! `model confirm`, which is a verb of `tensorgate` itself. It is listed here with the others.

use std::ffi::OsString;

use clap::Args;
use tensorgate_cli_common::Failure;

/// Confirm that a model's server has loaded the verified files, after they had changed.
///
/// It talks to a running gate, so `tensorgate` itself does it.
#[derive(Args)]
pub struct Confirm {
    /// The arguments of `tensorgate model confirm`.
    #[arg(
        value_name = "ARGUMENTS",
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    arguments: Vec<OsString>,
}

impl Confirm {
    /// Why this program does not do it.
    pub fn refused() -> Failure {
        Failure::Input("this program talks to no gate: run `tensorgate model confirm`".to_owned())
    }
}
