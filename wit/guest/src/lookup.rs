//! Features from services that the policy names.

pub use crate::bindings::granted::tensorgate::handler::lookup::{Column, Failure};

/// Looks up features for keys in a lookup of the policy, and returns a column for each feature. The
/// host loads a component that calls this only if its policy has `lookups:`. As with
/// [`crate::fetch`], the host runs the call again once the values are available.
///
/// # Errors
/// Why the lookup failed.
#[cfg(target_arch = "wasm32")]
pub fn lookup<F: AsRef<str>, K: AsRef<str>>(
    lookup: &str,
    features: &[F],
    keys: &[K],
) -> Result<Vec<Column>, Failure> {
    let features: Vec<String> = features
        .iter()
        .map(|name| name.as_ref().to_owned())
        .collect();
    let keys: Vec<String> = keys.iter().map(|key| key.as_ref().to_owned()).collect();
    crate::bindings::granted::tensorgate::handler::lookup::get(lookup, &features, &keys)
}

/// Returns what [`crate::testing::set_feature`] sets. There is no host here.
///
/// # Errors
/// Why the lookup failed.
#[cfg(not(target_arch = "wasm32"))]
pub fn lookup<F: AsRef<str>, K: AsRef<str>>(
    lookup: &str,
    features: &[F],
    keys: &[K],
) -> Result<Vec<Column>, Failure> {
    let columns = features.iter().map(|feature| Column {
        feature: feature.as_ref().to_owned(),
        values: keys
            .iter()
            .map(|key| crate::testing::feature(lookup, feature.as_ref(), key.as_ref()))
            .collect(),
    });
    Ok(columns.collect())
}
