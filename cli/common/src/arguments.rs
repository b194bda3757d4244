//! Parses the arguments of a program.

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

/// The argument in place of a file that stands for standard input.
pub const STANDARD_INPUT: &str = "-";

/// Whether a file's name stands for standard input.
pub fn is_standard_input(file: &Path) -> bool {
    file.as_os_str() == STANDARD_INPUT
}

/// The parsed arguments, of which the first is the program's name. Errors end the process.
pub fn parse<P: Parser>(arguments: impl IntoIterator<Item = OsString>) -> P {
    P::try_parse_from(arguments).unwrap_or_else(|mut error| {
        // For an unknown option, clap suggests to pass it as a value, which no user means.
        if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
            tips.retain(|tip| !tip.to_string().contains("as a value"));
            if !tips.is_empty() {
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
            }
        }
        error.exit()
    })
}
