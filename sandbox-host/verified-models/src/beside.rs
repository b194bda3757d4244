//! The signed files in the folder of a model's file.

use std::borrow::Cow;
use std::fs::File;

use rustix::fs::OFlags;
use tensorgate_models::files::open_folder::FILE;
use tensorgate_models::files::{FoundFile, FoundModel, folder_and_name};
use tensorgate_models::scan::folder::Beside;

/// The folder of a file of a model. Files that are not signed are not in it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignedFolder<'a> {
    found: &'a FoundModel,
    /// Its path, empty at the top.
    path: &'a str,
}

impl<'a> SignedFolder<'a> {
    /// The folder of a file.
    pub(crate) fn of(file: &'a FoundFile, found: &'a FoundModel) -> Self {
        let (path, _) = folder_and_name(&file.location);
        Self { found, path }
    }

    /// The files in the folder, each with its name.
    fn files(&self) -> impl Iterator<Item = (&'a str, &'a FoundFile)> {
        let path = self.path;
        self.found.signed.iter().filter_map(move |file| {
            let (folder, name) = folder_and_name(&file.location);
            (folder == path).then_some((name, file))
        })
    }
}

impl Beside for SignedFolder<'_> {
    fn names(&self) -> Result<Cow<'_, [String]>, String> {
        let names = self.files().map(|(name, _)| name.to_owned());
        Ok(Cow::Owned(names.collect()))
    }

    fn open(&self, name: &str) -> Result<File, String> {
        let found = self.files().find(|(known, _)| *known == name);
        let (_, file) = found.ok_or_else(|| "is not there, or is not signed".to_owned())?;
        let opened = self.found.open(file, FILE | OFlags::NOFOLLOW);
        opened.map_err(|fault| format!("cannot be read: {fault}"))
    }
}
