//! Registry credentials that `docker login` stored in `config.json`. Error messages never contain
//! any part of them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use tensorgate_cli_common::load::read_at_most;

/// Largest `config.json`, bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A user name and password, encoded for Basic authentication.
#[derive(Clone)]
pub struct Credentials(Option<String>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    creds_store: Option<String>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
    identitytoken: Option<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Credentials")
            .field(&self.0.is_some())
            .finish()
    }
}

impl Credentials {
    /// The credentials for a registry, if the user has logged in there.
    ///
    /// # Errors
    /// The file is unusable, or delegates to a credential helper.
    pub fn for_registry(registry: &str) -> Result<Self, String> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let folder = set("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".docker")));
        let Some(file) = folder.map(|folder| folder.join("config.json")) else {
            return Ok(Self(None));
        };
        let bytes = match read_at_most(&file, MAX_FILE_BYTES) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Err(format!("{} is too large", file.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self(None)),
            Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
        };
        Self::read(&bytes, registry).map_err(|why| format!("{}: {why}", file.display()))
    }

    fn read(bytes: &[u8], registry: &str) -> Result<Self, String> {
        // Serde's own message could contain a secret value.
        let config: Config = serde_json::from_slice(bytes)
            .map_err(|error| format!("is not Docker's configuration (line {})", error.line()))?;
        let plain = |name: &str| {
            let name = name.strip_prefix("https://").unwrap_or(name);
            name.split('/').next().unwrap_or_default().to_owned()
        };
        let entry = (config.auths.iter()).find(|(name, _)| plain(name) == registry);
        let entry = entry.map(|(_, entry)| entry);
        let helped = config
            .cred_helpers
            .keys()
            .any(|name| plain(name) == registry);
        if helped
            || (entry.is_some_and(|entry| entry.auth.is_none()) && config.creds_store.is_some())
        {
            return Err(format!(
                "credentials for {registry} are in a credential helper, which is not supported: log in without one"
            ));
        }
        let Some(entry) = entry else {
            return Ok(Self(None));
        };
        if entry
            .identitytoken
            .as_ref()
            .is_some_and(|token| !token.is_empty())
        {
            return Err(format!(
                "{registry} has an identity token, which is not supported: log in with a password or an access token"
            ));
        }
        let pair = entry.auth.as_ref().filter(|auth| !auth.is_empty());
        let Some(pair) = pair else {
            return Ok(Self(None));
        };
        let decoded = STANDARD.decode(pair).ok();
        let decoded = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
        let good =
            decoded.is_some_and(|text| text.contains(':') && !text.contains(char::is_control));
        if good {
            Ok(Self(Some(pair.clone())))
        } else {
            Err(format!(
                "the entry for {registry} is not a user name and password"
            ))
        }
    }

    /// Value of the `authorization` header.
    pub fn basic(&self) -> Option<String> {
        self.0.as_ref().map(|pair| format!("Basic {pair}"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn only_the_registrys_own_credentials_are_used_and_none_are_printed() {
        let pair = STANDARD.encode("user:secret");
        let config = format!(
            r#"{{"auths": {{"https://one.example/v2/": {{"auth": "{pair}"}}, "two.example": {{"identitytoken": "secret"}}, "three.example": {{}}, "four.example": {{"auth": "c2VjcmV0"}}}}, "credHelpers": {{"five.example": "x"}}, "credsStore": "desktop"}}"#
        );
        let read = |registry: &str| Credentials::read(config.as_bytes(), registry);
        assert_eq!(
            read("one.example").unwrap().basic().unwrap(),
            format!("Basic {pair}")
        );
        assert!(read("other.example").unwrap().basic().is_none());
        assert!(read("one.example.evil").unwrap().basic().is_none());
        for registry in [
            "two.example",
            "three.example",
            "four.example",
            "five.example",
        ] {
            let why = read(registry).unwrap_err();
            assert!(
                !why.contains("secret") && !why.contains("c2VjcmV0"),
                "{why}"
            );
        }
        let why = Credentials::read(
            br#"{"auths": {"one.example": {"auth": 7, "secret"#,
            "one.example",
        );
        assert!(!why.unwrap_err().contains("secret"));
        assert!(!format!("{:?}", read("one.example").unwrap()).contains(&pair));
    }
}
