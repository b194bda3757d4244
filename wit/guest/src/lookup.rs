//! Features from services that the policy names.

pub use crate::bindings::granted::tensorgate::handler::lookup::{Column, Failure};

/// A column of values for each feature, from the policy's lookup of that name. A component that calls this is not loaded without
/// `lookups:` in its policy. As with [`crate::fetch`], the call ends here and runs again once the values are at hand.
///
/// # Errors
/// Why there are none.
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

/// What [`crate::testing::set_feature`] says: there is no host here.
///
/// # Errors
/// Why there are none.
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
