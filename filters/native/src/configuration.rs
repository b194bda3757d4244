//! The configuration of a filter, as `render` writes it.

use tensorgate_policy::{Bundle, Fault, FilterConfiguration, Severity, compile_for_filter};

/// Compiles the JSON of a bundle into the configuration of a filter.
///
/// # Errors
/// The JSON is not a bundle, or its policy has faults.
pub fn configuration(bundle_json: impl AsRef<[u8]>) -> Result<String, Vec<Fault>> {
    let bundle: Bundle = serde_json::from_slice(bundle_json.as_ref())
        .map_err(|cause| error(format!("configuration is not a policy bundle: {cause}")))?;
    let compiled = compile_for_filter(&bundle, bundle.headers, bundle.filter.as_deref())?;
    let limit = FilterConfiguration::MAX_PLAIN_BYTES;
    let encoded = FilterConfiguration::new(&compiled.to_bytes(), limit)
        .map_err(|cause| error(format!("the compiled policy {cause}")))?;
    serde_json::to_string(&encoded).map_err(|cause| error(cause.to_string()))
}

/// A fault of the configuration as such.
pub(crate) fn error(message: String) -> Vec<Fault> {
    vec![Fault {
        severity: Severity::Error,
        path: String::new(),
        message,
        fix: None,
    }]
}
