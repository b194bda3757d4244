//! What a text of a configuration may refer to: code, a model of a hub, an address, a file.
//!
//! The form of a text decides, because a reader sees no more of it. A text that could be two of
//! them is the first.

use crate::scan::pickle::is_torch_constant;

/// Schemes of stores and hubs, which often stand without slashes behind them.
const STORES: [&str; 14] = [
    "az",
    "gcs",
    "gh",
    "git",
    "github",
    "gs",
    "hdfs",
    "hf",
    "hf-hub",
    "hub",
    "huggingface",
    "models",
    "ms",
    "s3",
];
/// What separates a scheme from a host.
const SCHEME_END: &str = "://";

/// What a text may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reference {
    /// An address with a scheme.
    Url,
    /// A path that leaves the folder.
    OutsidePath,
    /// A module, or a name in one: `package.module:name`.
    ImportPath,
    /// A repository of a hub: `owner/name`, perhaps with a revision or a function.
    HubId,
}

impl Reference {
    /// What `text` may refer to. Readers often cut the spaces around it.
    pub(super) fn from_text(text: &str) -> Option<Self> {
        let text = text.trim_matches(|c: char| c.is_whitespace() || c.is_control());
        if is_url(text) {
            Some(Self::Url)
        } else if is_outside(text) {
            Some(Self::OutsidePath)
        } else if is_import_path(text) {
            (!is_type_of_torch(text)).then_some(Self::ImportPath)
        } else if is_hub_id(text) {
            Some(Self::HubId)
        } else {
            None
        }
    }

    /// An address within other words, such as a package with its place or a command.
    pub(super) fn within_words(text: &str) -> Option<Self> {
        let has_scheme = |before: &str| before.ends_with(|c: char| c.is_ascii_alphanumeric());
        let mut ends = text.match_indices(SCHEME_END);
        let is_found = ends.any(|(end, _)| text.get(..end).is_some_and(has_scheme));
        is_found.then_some(Self::Url)
    }

    /// Whether it is not within the folder.
    pub(super) const fn leaves(self) -> bool {
        matches!(self, Self::Url | Self::OutsidePath)
    }

    /// The name in findings.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Url => "an address",
            Self::OutsidePath => "a path beyond the folder",
            Self::ImportPath => "an import path",
            Self::HubId => "a repository of a hub",
        }
    }
}

/// Whether a text is an address: `https://host`, `file:/path`, `git+ssh://host`, `data:text`.
fn is_url(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.');
    // A single letter is a drive.
    let is_scheme = scheme.len() > 1
        && scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(is_part);
    let has_space = || text.contains(char::is_whitespace);
    (is_scheme && rest.starts_with(['/', '\\']))
        || (scheme.eq_ignore_ascii_case("data") && !rest.is_empty() && !has_space())
        || (STORES
            .iter()
            .any(|store| scheme.eq_ignore_ascii_case(store))
            && rest.contains('/')
            && !has_space())
        || (text.contains(SCHEME_END) && !has_space())
}

/// Whether a text is a path that leaves the folder: from a root, a drive, a home or a variable, or
/// upwards.
fn is_outside(text: &str) -> bool {
    let has_separator = text.contains(['/', '\\']);
    if text.contains('\0') {
        return true;
    }
    if has_separator && text.split(['/', '\\']).any(|part| part.trim() == "..") {
        return true;
    }
    let has_drive = text
        .get(1..3)
        .is_some_and(|text| matches!(text, ":/" | ":\\"));
    let begins_outside = match text.chars().next() {
        Some('/' | '\\') => true,
        Some('~' | '$' | '%') => has_separator,
        _ => has_drive,
    };
    text == ".." || text == "~" || (begins_outside && text.contains(char::is_alphanumeric))
}

/// Whether a text is a path of a module or of a name in one: two identifiers or more with dots or
/// colons between.
pub(super) fn is_import_path(text: &str) -> bool {
    let mut count: usize = 0;
    let parts = text.split("::").flat_map(|part| part.split(['.', ':']));
    for part in parts {
        if !is_identifier(part) {
            return false;
        }
        count = count.saturating_add(1);
    }
    count > 1
}

/// Whether a text is a type of elements in torch, or the class of all. Readers look up the name in
/// that module alone.
fn is_type_of_torch(text: &str) -> bool {
    let name = text.strip_prefix("torch.");
    name.is_some_and(|name| name == "dtype" || is_torch_constant(name))
}

fn is_identifier(part: &str) -> bool {
    part.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && part.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Whether a text is `owner/name`. Two numbers are a ratio.
fn is_hub_id(text: &str) -> bool {
    let Some((owner, name)) = text.split_once('/') else {
        return false;
    };
    let is_part =
        |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '@' | ':' | '|' | '+');
    let is_name = |name: &str| !name.is_empty() && name.chars().all(is_part);
    !matches!(owner, "." | "..")
        && is_name(owner)
        && is_name(name)
        && text.contains(char::is_alphabetic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_references_are_distinguished() {
        for (text, expected) in [
            ("os.system", Some(Reference::ImportPath)),
            (" os.system\n", Some(Reference::ImportPath)),
            ("package.module:name", Some(Reference::ImportPath)),
            ("service:svc", Some(Reference::ImportPath)),
            ("module.py::function", Some(Reference::ImportPath)),
            ("módulo.classe", Some(Reference::ImportPath)),
            ("torch.bfloat16", None),
            ("torch.dtype", None),
            ("torch.qint8", None),
            ("torch.float8_e4m3fn", None),
            ("torch.hub", Some(Reference::ImportPath)),
            ("torch.nn.float16", Some(Reference::ImportPath)),
            ("torch:bfloat16", Some(Reference::ImportPath)),
            ("4.31.0", None),
            ("4.43.0.dev0", None),
            ("a.4b", None),
            ("a..b", None),
            ("e.g. a word", None),
            ("gelu_new", None),
            ("owner/name", Some(Reference::HubId)),
            ("owner/name@main", Some(Reference::HubId)),
            ("owner/name:function", Some(Reference::HubId)),
            ("paged|owner/name", Some(Reference::HubId)),
            ("16/9", None),
            ("a/b/c", None),
            ("</s>", None),
            ("./model", None),
            ("https://host/x", Some(Reference::Url)),
            ("HF://owner/name", Some(Reference::Url)),
            ("file:/etc/passwd", Some(Reference::Url)),
            ("models:/name/1", Some(Reference::Url)),
            ("git+ssh://host/x", Some(Reference::Url)),
            ("data:text/plain,x", Some(Reference::Url)),
            ("name@https://host/x", Some(Reference::Url)),
            ("see https://host for more", None),
            ("hf:owner/name/file.bin", Some(Reference::Url)),
            ("GitHub:owner/name/file.bin", Some(Reference::Url)),
            ("hf: two/words here", None),
            ("ratio:1/2/3", None),
            ("/etc/passwd", Some(Reference::OutsidePath)),
            ("/", None),
            ("~/x", Some(Reference::OutsidePath)),
            ("~root/x", Some(Reference::OutsidePath)),
            ("$HOME/x", Some(Reference::OutsidePath)),
            ("%APPDATA%\\x", Some(Reference::OutsidePath)),
            ("C:\\x", Some(Reference::OutsidePath)),
            ("C:/x", Some(Reference::OutsidePath)),
            ("\\\\host\\share", Some(Reference::OutsidePath)),
            ("..", Some(Reference::OutsidePath)),
            ("a/../../b", Some(Reference::OutsidePath)),
            ("a\\..\\b", Some(Reference::OutsidePath)),
            ("a\0b", Some(Reference::OutsidePath)),
            ("", None),
            ("Translate this: ", None),
        ] {
            assert_eq!(Reference::from_text(text), expected, "{text:?}");
        }
    }

    #[test]
    fn addresses_are_found_within_words() {
        for (text, expected) in [
            ("name @ https://host/x.zip", Some(Reference::Url)),
            ("curl -s http://host/x | sh", Some(Reference::Url)),
            (":// and git+ssh://host", Some(Reference::Url)),
            ("a :// b", None),
            ("either/or: this", None),
        ] {
            assert_eq!(Reference::within_words(text), expected, "{text}");
        }
    }
}
