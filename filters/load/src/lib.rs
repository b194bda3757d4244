//! Loads the configuration of a filter: JSON, base64, then the compiled policy.
//!
//! Each worker of a proxy has a copy of this code, which is large, and runs it once for each
//! configuration. So it is a crate of its own, which is compiled for size.
#![forbid(unsafe_code)]

use tensorgate_policy::{Compiled, Fault, FilterConfiguration, LoadFault};

/// Loads the compiled policy of a configuration. A VM's memory never shrinks, so the configuration
/// is freed as soon as it is decoded, and in any case before this returns.
///
/// # Errors
/// The configuration is too large, not a configuration of a filter, or of another release.
pub fn load(configuration: impl AsRef<[u8]>) -> Result<Compiled, Fault> {
    let compiled = decode(configuration.as_ref())?;
    drop(configuration);
    read(&compiled)
}

/// The compiled policy's bytes.
fn decode(written: &[u8]) -> Result<Vec<u8>, Fault> {
    let most = FilterConfiguration::MAX_BYTES;
    if written.len() > most {
        return Err(Fault::error(
            "",
            format!("configuration is larger than {most} bytes"),
        ));
    }
    let encoded: FilterConfiguration<'_> = serde_json::from_slice(written).map_err(|fault| {
        let cause = "configuration has no compiled policy; render it with this release";
        Fault::error("", format!("{cause}: {fault}"))
    })?;
    encoded
        .decode()
        .map_err(|fault| Fault::error("bundle", fault.to_string()))
}

/// Loads the compiled policy. It is not generic, so this crate has its code.
fn read(compiled: &[u8]) -> Result<Compiled, Fault> {
    Compiled::load(compiled).map_err(|fault| not_loaded(&fault))
}

/// A compiled policy that this filter cannot load, as a fault of its configuration.
pub fn not_loaded(fault: &LoadFault) -> Fault {
    Fault::error("bundle", fault.to_string())
}
