//! Suggests a name for one that is not known.

/// The most similar of the known names, if its similarity, from 0 to 1, is at least this.
pub fn most_similar<'k>(
    name: &str,
    known: impl IntoIterator<Item = &'k String>,
    least: f64,
) -> Option<&'k str> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known.as_str()))
        .filter(|(similarity, _)| *similarity >= least)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, known)| known)
}
