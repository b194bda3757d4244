//! Line-based files that a policy names: revocation lists, and API keys of a client.
//!
//! They are read in two ways. Inlining reads every line, and validation then checks them. While a
//! change of policy is held, only well-formed lines are read, so that revocations take effect
//! regardless of other faults.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use tensorgate_cli_common::bounded_file::read_at_most;
use tensorgate_policy::values::KeyFormat;
use tensorgate_policy_compiler::raw;
use tensorgate_policy_compiler::validate;

/// SHA-256 of a file's contents.
pub type Contents = [u8; 32];

/// Largest list file, bytes. The digests of a hundred thousand keys take 7 MiB.
pub const MAX_FILE_BYTES: u64 = 8 << 20;
/// Hex digits of a digest.
const DIGEST_CHARS: usize = 64;

/// What the entries of a list revoke.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum List {
    /// Tokens.
    Jti,
    /// API keys.
    Keys,
    /// Client certificates by fingerprint.
    Certificates,
    /// Client certificates by serial number.
    Serials,
}

/// File references of a policy, before any file is read.
#[derive(Clone, Debug, Default)]
pub struct FileReferences {
    /// The `revoked` section: inline entries, and names of lists.
    pub revoked: raw::Revoked,
    /// Clients' files of API keys.
    pub keys: BTreeMap<String, KeysFile>,
}

/// A client's file of API keys.
#[derive(Clone, Debug)]
pub struct KeysFile {
    /// Path of the file, relative to the policy.
    pub file: PathBuf,
    /// Digests of the keys that the policy itself lists for the client.
    pub own: Vec<String>,
}

/// Entries read from revocation lists.
#[derive(Clone, Debug, Default)]
pub struct Revocations {
    /// Every well-formed entry, in the order of the lists.
    pub revoked: raw::Revoked,
    /// The lists that were read completely.
    pub read: BTreeMap<PathBuf, (List, Contents)>,
}

impl List {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Jti, Self::Keys, Self::Certificates, Self::Serials];

    /// The policy key that names the list's file.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Jti => "revoked.jti_file",
            Self::Keys => "revoked.keys_file",
            Self::Certificates => "revoked.certificates_file",
            Self::Serials => "revoked.serials_file",
        }
    }

    /// The file name in a section, if there is one.
    pub const fn file(self, section: &mut raw::Revoked) -> &mut Option<String> {
        match self {
            Self::Jti => &mut section.jti_file,
            Self::Keys => &mut section.keys_file,
            Self::Certificates => &mut section.certificates_file,
            Self::Serials => &mut section.serials_file,
        }
    }

    /// The entries in a section.
    pub fn entries(self, section: &mut raw::Revoked) -> &mut Vec<String> {
        match self {
            Self::Jti => &mut section.jti,
            Self::Keys => &mut section.keys,
            Self::Certificates => &mut section.certificates,
            // A list without entries is still a list: it is checked from the first request.
            Self::Serials => section.serials.get_or_insert_default(),
        }
    }

    /// The entries as a set.
    fn set(self, section: &raw::Revoked) -> BTreeSet<&String> {
        let entries = match self {
            Self::Jti => &section.jti,
            Self::Keys => &section.keys,
            Self::Certificates => &section.certificates,
            Self::Serials => return section.serials.iter().flatten().collect(),
        };
        entries.iter().collect()
    }

    /// A line as an entry of the policy; empty if the line has none.
    pub fn entry(self, line: &str) -> String {
        // Text after a digest is a note, for example the owner or the date.
        let first = || line.split_whitespace().next().unwrap_or_default();
        match self {
            Self::Jti => line.to_owned(),
            Self::Keys => first().to_owned(),
            // The output of `openssl x509 -fingerprint -sha256` is accepted too.
            Self::Certificates => first().replace(':', "").to_ascii_lowercase(),
            // The output of `openssl x509 -serial -ext authorityKeyIdentifier` is accepted too.
            Self::Serials => {
                let words: Vec<_> = line.split_whitespace().collect();
                words.join(" ").replace(':', "").to_ascii_lowercase()
            }
        }
    }
}

/// Entries of a file, one per line. Empty lines and lines that begin with `#` are skipped.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// A line of an API key file: a digest, optionally followed by the last valid day and `any`. The
/// day is validated later.
pub fn api_key(line: &str) -> raw::ApiKey {
    let (sha256, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let (day, format) = match rest.trim().strip_suffix("any") {
        Some(day) if day.is_empty() || day.ends_with(char::is_whitespace) => (day, KeyFormat::Any),
        _ => (rest, KeyFormat::Tensorgate),
    };
    let day = day.trim();
    raw::ApiKey {
        sha256: Some(sha256.to_owned()),
        not_after: (!day.is_empty()).then(|| day.into()),
        format,
    }
}

impl Revocations {
    /// Reads the current entries of the sections' lists.
    ///
    /// A list that is unreadable or too large adds nothing here, and its earlier entries stay
    /// revoked. The last line of a file counts only once `is_whole` confirms that the file is
    /// complete.
    pub fn read(
        sections: &[raw::Revoked],
        root: &Path,
        is_whole: impl Fn(&Path, &Contents) -> bool,
    ) -> Self {
        let mut revocations = Self::default();
        let revoked = &mut revocations.revoked;
        for section in sections {
            let mut section = section.clone();
            for list in List::ALL {
                let name = list.file(&mut section).take();
                list.entries(revoked).append(list.entries(&mut section));
                let Some(file) = name.map(|name| root.join(name)) else {
                    continue;
                };
                let Ok(Some(bytes)) = read_at_most(&file, MAX_FILE_BYTES) else {
                    continue;
                };
                let contents = Sha256::digest(&bytes).into();
                let whole = is_whole(&file, &contents);
                let text = String::from_utf8_lossy(&bytes);
                let text = if whole { &text } else { complete(&text) };
                let entries = lines(text).map(|line| list.entry(line));
                list.entries(revoked).extend(entries);
                if whole || text.len() == bytes.len() {
                    revocations.read.insert(file, (list, contents));
                }
            }
        }
        // Upper-case digests are accepted: the list is faulty, but the intent is clear.
        for digest in &mut revoked.keys {
            digest.make_ascii_lowercase();
        }
        validate::keep_well_formed(revoked);
        revocations
    }

    /// Whether a policy already revokes every entry.
    pub fn are_in(&self, policy: &raw::Revoked) -> bool {
        List::ALL.iter().all(|list| {
            let (read, known) = (list.set(&self.revoked), list.set(policy));
            read.is_subset(&known)
        })
    }

    /// The lists whose entries equal those of a policy.
    pub fn same_in(&self, policy: &raw::Revoked) -> impl Iterator<Item = &Path> {
        let same = self
            .read
            .iter()
            .filter(|(_, (list, _))| list.set(&self.revoked) == list.set(policy));
        same.map(|(file, _)| file.as_path())
    }
}

/// The lines that end with a line break.
fn complete(text: &str) -> &str {
    text.rfind('\n')
        .and_then(|end| text.get(..=end))
        .unwrap_or_default()
}

/// Digests in clients' API key files, together with the policy's own. A file that is incomplete or
/// has an invalid line is skipped.
pub fn keys_left(
    named: &BTreeMap<String, KeysFile>,
    root: &Path,
    is_whole: impl Fn(&Path, &Contents) -> bool,
) -> BTreeMap<String, BTreeSet<String>> {
    let left = named.iter().filter_map(|(client, named)| {
        let file = root.join(&named.file);
        let bytes = read_at_most(&file, MAX_FILE_BYTES).ok()??;
        if !is_whole(&file, &Sha256::digest(&bytes).into()) {
            return None;
        }
        let text = String::from_utf8(bytes).ok()?;
        let digests = lines(&text).map(|line| api_key(line).sha256.filter(|text| is_digest(text)));
        let digests: Option<BTreeSet<_>> = digests.collect();
        let mut digests = digests?;
        digests.extend(named.own.iter().cloned());
        Some((client.clone(), digests))
    });
    left.collect()
}

fn is_digest(text: &str) -> bool {
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == DIGEST_CHARS && text.bytes().all(digit)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;
    use tensorgate_cli_common::private_dir::PrivateDir;

    use super::*;

    const A: &str = "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a";
    const B: &str = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b";

    #[test]
    fn a_line_of_a_file_of_keys_has_a_digest_a_day_and_a_format() {
        for (line, not_after, format) in [
            ("aa", None, KeyFormat::Tensorgate),
            ("aa 2027-01-31", Some("2027-01-31"), KeyFormat::Tensorgate),
            ("aa  any", None, KeyFormat::Any),
            ("aa 2027-01-31\tany", Some("2027-01-31"), KeyFormat::Any),
            // Invalid: the day must precede `any`.
            (
                "aa any 2027-01-31",
                Some("any 2027-01-31"),
                KeyFormat::Tensorgate,
            ),
            ("aa any any", Some("any"), KeyFormat::Any),
            ("aa many", Some("many"), KeyFormat::Tensorgate),
            ("aa Any", Some("Any"), KeyFormat::Tensorgate),
        ] {
            let expected = raw::ApiKey {
                sha256: Some("aa".to_owned()),
                not_after: not_after.map(Into::into),
                format,
            };
            assert_eq!(api_key(line), expected, "{line:?}");
        }
    }

    #[test]
    fn entries_are_lines_that_are_neither_empty_nor_comments() {
        let read: Vec<_> = lines("# note\n\n a \r\nb\n#c\n").collect();
        assert_eq!(read, ["a", "b"]);
    }

    #[test]
    fn well_formed_entries_count_despite_malformed_lines() {
        let folder = PrivateDir::new().unwrap();
        let section: raw::Revoked = serde_json::from_value(json!({
            "jti": ["own"], "jti_file": "jti", "keys_file": "keys", "certificates_file": "none",
            "serials_file": "serials"
        }))
        .unwrap();
        let upper = A.to_uppercase();
        let keys = format!(
            "# keys\n{upper} lost laptop\nno digest\n{B}\n{}",
            A.replace('a', "c")
        );
        for (name, text) in [
            ("jti", "one\ntwo\nthr"),
            ("keys", &keys),
            ("serials", "0A:1F\nnot hex\n0b"),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let read = |whole: bool| {
            let sections = [section.clone()];
            Revocations::read(&sections, folder.path(), |_, _| whole)
        };
        let Revocations {
            revoked,
            read: files,
        } = read(false);
        assert_eq!(
            revoked.jti,
            ["own", "one", "two"],
            "the last line may go on"
        );
        assert_eq!(revoked.keys, [A, B]);
        assert_eq!(revoked.serials.unwrap(), ["0a1f"]);
        assert_eq!(files.len(), 0, "none was read to its end");
        let whole = read(true);
        assert_eq!(whole.revoked.jti, ["own", "one", "two", "thr"]);
        assert_eq!(whole.revoked.keys.len(), 3);
        assert_eq!(whole.revoked.serials.as_ref().unwrap().len(), 2);
        assert_eq!(whole.read.len(), 3);
        let mut policy = whole.revoked.clone();
        assert!(whole.are_in(&policy) && whole.same_in(&policy).count() == 3);
        policy.jti.push("four".into());
        assert!(whole.are_in(&policy) && whole.same_in(&policy).count() == 2);
        policy.keys.clear();
        assert!(!whole.are_in(&policy));
    }

    #[test]
    fn a_file_of_keys_counts_when_it_is_whole_and_every_line_is_a_key() {
        let folder = PrivateDir::new().unwrap();
        let own = vec!["own".to_owned()];
        let file = "keys".into();
        let named = BTreeMap::from([("app".to_owned(), KeysFile { file, own })]);
        let check = |text: &str, whole: bool, expected: Option<&[&str]>| {
            std::fs::write(folder.path().join("keys"), text).unwrap();
            let left = keys_left(&named, folder.path(), |_, _| whole);
            let left = left
                .get("app")
                .map(|left| left.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(left.as_deref(), expected, "{text:?}");
        };
        check(
            &format!("{A} 2030-01-31\n{B}\n"),
            true,
            Some(&[A, B, "own"]),
        );
        check(&format!("{A}\n"), false, None);
        check(&format!("{A}\nno digest\n"), true, None);
        check("", true, Some(&["own"]));
        std::fs::remove_file(folder.path().join("keys")).unwrap();
        assert_eq!(
            keys_left(&named, folder.path(), |_, _| true).len(),
            0,
            "no file"
        );
    }
}
