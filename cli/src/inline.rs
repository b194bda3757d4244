//! Files that a policy names become what they hold, so that neither the filter nor the host ever reads one: key sets of issuers, digests of API
//! keys, lists of what was revoked. What the entries say is validation's to judge; here they are only read and bounded.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tensorgate_policy::{Fault, Severity, raw};

use crate::load::read_at_most;

/// Largest file of these, bytes. A hundred thousand keys' digests are 7 MiB.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// A JSON Web Key Set (RFC 7517, 5). Other members are passed over.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<raw::Jwk>,
}

/// Puts every file's content in its place. Returns the files, for whoever watches them, and what is wrong with them.
pub fn inline(policy: &mut raw::Policy, root: &Path) -> (Vec<PathBuf>, Vec<Fault>) {
    let mut reader = Reader {
        root,
        files: Vec::new(),
        faults: Vec::new(),
    };
    for (name, issuer) in &mut policy.issuers {
        let path = format!("issuers.{}.jwks.file", quoted(name));
        let Some(jwks) = issuer.jwks.as_mut().filter(|jwks| jwks.keys.is_empty()) else {
            continue;
        };
        if let Some(text) = reader.take(&mut jwks.file, &path) {
            match serde_json::from_str::<KeySet>(&text) {
                Ok(set) => jwks.keys = set.keys,
                // The message names a line and a member, never a value.
                Err(error) => reader.fault(&path, format!("is not a JSON Web Key Set: {error}")),
            }
        }
    }
    for (name, client) in &mut policy.clients {
        let path = format!("clients.{}.api_keys_file", quoted(name));
        if let Some(text) = reader.take(&mut client.api_keys_file, &path) {
            for line in lines(&text) {
                let (sha256, not_after) = match line.split_once(char::is_whitespace) {
                    Some((sha256, day)) => (sha256, Some(day.trim().to_owned())),
                    None => (line, None),
                };
                client.api_keys.push(raw::ApiKey {
                    sha256: Some(sha256.to_owned()),
                    not_after,
                });
            }
        }
    }
    let revoked = &mut policy.revoked;
    if let Some(text) = reader.take(&mut revoked.jti_file, "revoked.jti_file") {
        revoked.jti.extend(lines(&text).map(str::to_owned));
    }
    if let Some(text) = reader.take(&mut revoked.keys_file, "revoked.keys_file") {
        // What follows the digest is a note: whose it was, when it was revoked.
        let digests = lines(&text).filter_map(|line| line.split_whitespace().next());
        revoked.keys.extend(digests.map(str::to_owned));
    }
    if let Some(text) = reader.take(&mut revoked.certificates_file, "revoked.certificates_file") {
        // As `openssl x509 -fingerprint -sha256` writes one, too.
        let digests = lines(&text).filter_map(|line| line.split_whitespace().next());
        let plain = digests.map(|digest| digest.replace(':', "").to_ascii_lowercase());
        revoked.certificates.extend(plain);
    }
    if let Some(text) = reader.take(&mut revoked.serials_file, "revoked.serials_file") {
        // As `openssl x509 -serial -ext authorityKeyIdentifier` writes them, too.
        let plain = lines(&text).map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words.join(" ").replace(':', "").to_ascii_lowercase()
        });
        // A list without entries is one: it is looked at from the first request on.
        revoked.serials.get_or_insert_default().extend(plain);
    }
    (reader.files, reader.faults)
}

/// Entries of a list, one a line; empty lines and those that begin with `#` are none.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

struct Reader<'r> {
    root: &'r Path,
    files: Vec<PathBuf>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    /// Takes a file's name out of the policy and reads it. One that cannot be read is told of here, once.
    fn take(&mut self, name: &mut Option<String>, path: &str) -> Option<String> {
        let name = PathBuf::from(name.take()?);
        let file = self.root.join(&name);
        self.files.push(name);
        let text = match read_at_most(&file, MAX_FILE_BYTES) {
            Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()),
            Ok(None) => Err(format!("is larger than {MAX_FILE_BYTES} bytes")),
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        text.map_err(|why| self.fault(path, format!("{} {why}", file.display())))
            .ok()
    }

    fn fault(&mut self, path: &str, message: String) {
        self.faults.push(Fault {
            severity: Severity::Error,
            path: path.to_owned(),
            message,
            fix: None,
        });
    }
}

/// A name as a path of the policy spells it.
fn quoted(name: &str) -> String {
    let mut path = String::new();
    crate::source::path::push_key(&mut path, name);
    path
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_entry_is_a_line_that_says_something() {
        let read: Vec<_> = lines("# note\n\n a \r\nb\n#c\n").collect();
        assert_eq!(read, ["a", "b"]);
    }
}
