//! The author's modules, as a development component reads them.

use std::collections::BTreeMap;

use tensorgate_cli_common::Failure;

use crate::copy::Copy;
use crate::dev::modules;

/// The modules of a project as functions, by their paths below its folder.
#[derive(Debug)]
pub struct Sources(BTreeMap<String, Vec<u8>>);

impl Sources {
    /// Converts the modules of a copied project. The inner error says why a development component
    /// cannot run them.
    ///
    /// # Errors
    /// A tool is missing or fails.
    pub fn of(copy: &Copy) -> Result<Result<Self, String>, Failure> {
        let modules = modules::converted(copy.root(), &copy.project())?;
        Ok(modules.map(Self))
    }

    /// All modules in one list of bytes, as `wit/development.wit` says.
    pub fn archive(&self) -> Vec<u8> {
        let mut archive = Vec::new();
        for (path, content) in &self.0 {
            for part in [path.as_bytes(), content.as_slice()] {
                let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
                archive.extend_from_slice(&length.to_le_bytes());
                archive.extend_from_slice(part);
            }
        }
        archive
    }

    /// The same with a module without a name: a call loads the code and returns nothing.
    pub fn archive_to_check(&self) -> Vec<u8> {
        [self.archive(), vec![0; 8]].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_modules_of_a_call_are_packed_by_path() {
        let modules = [("lib/b.js", ""), ("handler.js", "a")];
        let sources =
            Sources(BTreeMap::from(modules.map(|(path, text)| {
                (path.to_owned(), text.as_bytes().to_vec())
            })));
        let archive = sources.archive();
        assert_eq!(
            archive,
            b"\x0a\0\0\0handler.js\x01\0\0\0a\x08\0\0\0lib/b.js\0\0\0\0"
        );
        let checked = sources.archive_to_check();
        assert_eq!(checked, [archive.as_slice(), &[0; 8]].concat());
    }
}
