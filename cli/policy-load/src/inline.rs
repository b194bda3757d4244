//! Replaces file references in a policy with the contents of the files.
//!
//! Neither the filter nor the host reads these files: key sets of issuers, digests of API keys,
//! keys that sign models, and revocation lists. This module only reads and bounds them; validation
//! checks the entries.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_policy::values::Jwk;
use tensorgate_policy::{Fault, Severity};
use tensorgate_policy_compiler::raw;

use crate::lists::{FileReferences, KeysFile, List, MAX_FILE_BYTES, api_key, lines};

/// The fix for a missing key set, or file of keys.
const PATH_FIX: &str = "create it, or correct the path, which is relative to the policy";
/// The fix for a missing revocation list.
const LIST_FIX: &str = "create it: an empty file revokes nothing";

/// A JSON Web Key Set (RFC 7517, section 5). Other members are ignored.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Jwk>,
}

/// Result of inlining a policy's files.
pub struct Inlined {
    /// The files, as the policy names them.
    pub read: Vec<PathBuf>,
    /// Files that cannot be used.
    pub faults: Vec<Fault>,
    /// The file references that may take effect independently of the rest of the policy.
    pub named: FileReferences,
}

/// Replaces each file reference with the file's content.
pub fn inline(policy: &mut raw::Policy, root: &Path) -> Inlined {
    let mut reader = Reader {
        root,
        files: Vec::new(),
        faults: Vec::new(),
    };
    let mut named = FileReferences {
        revoked: policy.revoked.clone(),
        ..FileReferences::default()
    };
    for (name, issuer) in &mut policy.issuers {
        let path = format!("issuers.{}.jwks.file", quoted(name));
        let Some(jwks) = issuer.jwks.as_mut().filter(|jwks| jwks.keys.is_empty()) else {
            continue;
        };
        if let Some(text) = reader.take(&mut jwks.file, &path, PATH_FIX) {
            match serde_json::from_str::<KeySet>(&text) {
                Ok(set) => jwks.keys = set.keys,
                // The error names a line and a member, never a value.
                Err(error) => {
                    reader.fault(&path, format!("is not a JSON Web Key Set: {error}"), None);
                }
            }
        }
    }
    for (name, client) in &mut policy.clients {
        if let Some(file) = &client.api_keys_file {
            let own = client.api_keys.iter().filter_map(|key| key.sha256.clone());
            let file = KeysFile {
                file: file.into(),
                own: own.collect(),
            };
            named.keys.insert(name.clone(), file);
        }
        let path = format!("clients.{}.api_keys_file", quoted(name));
        if let Some(text) = reader.take(&mut client.api_keys_file, &path, PATH_FIX) {
            client.api_keys.extend(lines(&text).map(api_key));
        }
    }
    for (name, key) in &mut policy.keys {
        // A key that has both a text and a file keeps both, which validation reports.
        for (text, file, field) in [
            (
                &mut key.public_key,
                &mut key.public_key_file,
                "public_key_file",
            ),
            (
                &mut key.certificates,
                &mut key.certificates_file,
                "certificates_file",
            ),
            (
                &mut key.trusted_root,
                &mut key.trusted_root_file,
                "trusted_root_file",
            ),
        ] {
            if text.is_none() {
                let path = format!("keys.{}.{field}", quoted(name));
                *text = reader.take(file, &path, PATH_FIX);
            }
        }
    }
    let revoked = &mut policy.revoked;
    for list in List::ALL {
        if let Some(text) = reader.take(list.file(revoked), list.field(), LIST_FIX) {
            let entries = lines(&text).map(|line| list.entry(line));
            list.entries(revoked).extend(entries);
        }
    }
    Inlined {
        read: reader.files,
        faults: reader.faults,
        named,
    }
}

struct Reader<'r> {
    root: &'r Path,
    files: Vec<PathBuf>,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    /// Takes a file's name out of the policy and reads the file. Records a fault if the file cannot
    /// be read; `fix` is for a file that does not exist.
    fn take(&mut self, name: &mut Option<String>, path: &str, fix: &str) -> Option<String> {
        let name = PathBuf::from(name.take()?);
        let file = self.root.join(&name);
        self.files.push(name);
        let mut missing = None;
        let text = match read_at_most(&file, MAX_FILE_BYTES) {
            Ok(Some(bytes)) => String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned()),
            Ok(None) => Err(format!("is larger than {MAX_FILE_BYTES} bytes")),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                missing = Some(fix);
                Err("does not exist".to_owned())
            }
            Err(error) => Err(format!("cannot be read: {error}")),
        };
        text.map_err(|why| self.fault(path, format!("{} {why}", file.display()), missing))
            .ok()
    }

    fn fault(&mut self, path: &str, message: String, fix: Option<&str>) {
        self.faults.push(Fault {
            severity: Severity::Error,
            path: path.to_owned(),
            message,
            fix: fix.map(Into::into),
        });
    }
}

/// A name as it is spelt in a policy path.
fn quoted(name: &str) -> String {
    let mut path = String::new();
    tensorgate_policy_text::path::push_key(&mut path, name);
    path
}
