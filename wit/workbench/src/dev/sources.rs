//! The author's files, as a development component reads them: those of Python as they are, those of
//! JavaScript as functions.

use std::collections::BTreeMap;
use std::path::Path;

use tensorgate_cli_common::Failure;

use crate::case;
use crate::copy::Copy;
use crate::dev::modules;
use crate::project::{Language, MANIFEST};

/// Largest total of the files, bytes. Every call copies them.
const MAX_BYTES: usize = 16 << 20;

/// Folders that a call does not need: cases, the contract, build outputs, and the package that the
/// runtime has.
const LEFT: [&str; 4] = [case::FOLDER, "wit", "build", "tensorgate"];

/// The files of a project by their paths below its folder.
#[derive(Debug, Default)]
pub struct Sources(BTreeMap<String, Vec<u8>>);

impl Sources {
    /// Reads the files of a copied project. The inner error says why a development component cannot
    /// run them.
    ///
    /// # Errors
    /// A tool is missing or fails.
    pub fn of(language: Language, copy: &Copy) -> Result<Result<Self, String>, Failure> {
        let project = copy.project();
        let files = if language == Language::Js {
            modules::converted(copy.root(), &project)?
        } else {
            let (mut files, mut bytes) = (BTreeMap::new(), 0);
            read(&project, "", &mut files, &mut bytes).map(|()| files)
        };
        Ok(files.map(Self))
    }

    /// The path and content of each file.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let files = self.0.iter();
        files.map(|(path, content)| (path.as_str(), content.as_slice()))
    }

    /// All files in one list of bytes, as `wit/development.wit` says.
    pub fn archive(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        for (path, content) in self.files() {
            for part in [path.as_bytes(), content] {
                let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
                archive.extend_from_slice(&length.to_le_bytes());
                archive.extend_from_slice(part);
            }
        }
        archive
    }

    /// The same with a file without a name: a call loads the code and returns nothing.
    pub fn archive_to_check(&self) -> Vec<u8> {
        [self.archive(), vec![0; 8]].concat()
    }

    /// Files for a test.
    #[cfg(test)]
    pub fn from_texts(texts: &[(&str, &str)]) -> Self {
        let texts = texts.iter();
        Self(
            texts
                .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
                .collect(),
        )
    }
}

/// Adds the files below a folder. `below` is its path, with a slash at its end unless it is empty.
/// A name that is not UTF-8 cannot be imported, and is left out.
fn read(
    folder: &Path,
    below: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
    bytes: &mut usize,
) -> Result<(), String> {
    let failed = |cause: std::io::Error| format!("cannot read {}: {cause}", folder.display());
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if below.is_empty() && (LEFT.contains(&name.as_str()) || name == MANIFEST) {
            continue;
        }
        // Follows links, which stay inside of a copied project. One to a folder above never ends,
        // so only links to files are followed.
        let kind = entry.file_type().map_err(failed)?;
        let path = format!("{below}{name}");
        if kind.is_dir() {
            read(&entry.path(), &format!("{path}/"), files, bytes)?;
            continue;
        }
        let Ok(content) = std::fs::read(entry.path()) else {
            continue;
        };
        *bytes = bytes.saturating_add(content.len());
        if *bytes > MAX_BYTES {
            return Err(format!("its files have more than {} MiB", MAX_BYTES >> 20));
        }
        files.insert(path, content);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use tensorgate_client::run::Scratch;

    use super::*;

    #[test]
    fn the_files_of_a_call_are_packed_by_path() {
        let scratch = Scratch::new();
        for folder in ["lib", "cases", "tensorgate"] {
            std::fs::create_dir_all(scratch.path().join(folder)).unwrap();
        }
        for (path, text) in [
            ("handler.py", "a"),
            ("lib/b.py", ""),
            ("cases/one.json", "{}"),
            ("tensorgate/kit.py", ""),
            (MANIFEST, ""),
        ] {
            scratch.file(path, text);
        }
        let copy = Copy::new(scratch.path()).unwrap();
        let sources = Sources::of(Language::Python, &copy).unwrap().unwrap();
        assert_eq!(
            sources.archive(),
            b"\x0a\0\0\0handler.py\x01\0\0\0a\x08\0\0\0lib/b.py\0\0\0\0"
        );
        assert_eq!(
            sources.archive_to_check().len(),
            sources.archive().len().saturating_add(8)
        );
    }
}
