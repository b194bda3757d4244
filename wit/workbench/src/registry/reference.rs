//! A reference in a registry: `registry.example.com:5000/team/scale:1.4.0`. Characters with a
//! special meaning in URLs are rejected.

use std::str::FromStr;

/// Limits of the distribution specification: a repository's name together with its registry's, and
/// a tag.
const MAX_NAME_BYTES: usize = 255;
const MAX_TAG_BYTES: usize = 128;

/// A registry, a repository and an optional tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
}

impl Reference {
    /// `host` or `host:port`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Name of the repository.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = |why: &str| format!("{why}; it has the form registry.example.com/team/name:tag");
        if text.contains("://") {
            return Err(bad("a reference has no scheme: it is always HTTPS"));
        }
        if text.contains('@') {
            return Err(bad("a digest cannot be given, it results from the push"));
        }
        let (registry, rest) = text
            .split_once('/')
            .ok_or_else(|| bad("no registry is named"))?;
        let (repository, tag) = match rest.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        let (host, port) = match registry.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (registry, None),
        };
        let of = |text: &str, marks: &[u8]| {
            (text.bytes()).all(|byte| byte.is_ascii_alphanumeric() || marks.contains(&byte))
        };
        let named = !host.is_empty()
            && of(host, b".-")
            && !host.starts_with(['.', '-'])
            && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
        // Docker Hub's short form `team/name` is not supported: the registry must be named.
        if !named || !(host.contains('.') || port.is_some() || host == "localhost") {
            return Err(bad("no registry is named"));
        }
        let part = |part: &str| {
            let ends = |end: Option<char>| end.is_some_and(|end| end.is_ascii_alphanumeric());
            of(part, b"._-")
                && !part.bytes().any(|byte| byte.is_ascii_uppercase())
                && ends(part.chars().next())
                && ends(part.chars().last())
                && !part.contains("..")
        };
        if text.len() > MAX_NAME_BYTES + MAX_TAG_BYTES
            || registry.len().saturating_add(repository.len()) >= MAX_NAME_BYTES
            || !repository.split('/').all(part)
        {
            return Err(bad("the repository name is invalid"));
        }
        if let Some(tag) = tag {
            let good = (1..=MAX_TAG_BYTES).contains(&tag.len())
                && of(tag, b"._-")
                && !tag.starts_with(['.', '-']);
            if !good {
                return Err(bad("the tag is invalid"));
            }
        }
        Ok(Self {
            registry: registry.to_ascii_lowercase(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn references_are_unambiguous() {
        let read = |text: &str| text.parse::<Reference>();
        let whole = read("Registry.example.com:5000/team/scale_2:1.4.0").unwrap();
        assert_eq!(
            (whole.registry(), whole.repository(), whole.tag()),
            ("registry.example.com:5000", "team/scale_2", Some("1.4.0"))
        );
        assert_eq!(read("localhost/scale").unwrap().tag(), None);
        for text in [
            "scale",
            "team/scale:1",
            "https://r.example/scale",
            "r.example/../scale",
            "r.example/a/./b",
            "r.example//scale",
            "r.example/scale/",
            "r.example/Scale",
            "r.example/scale:",
            "r.example/scale:..",
            "r.example/scale:a/b",
            "r.example/scale?x:1",
            "r.example/sca%6ce",
            "r.example/scale@sha256:00",
            "user@r.example/scale",
            "r.example:0/scale",
            "r.example:99999/scale",
            "r example/scale",
            "-r.example/scale",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&format!("r.example/{}", "a".repeat(300))).is_err());
    }
}
