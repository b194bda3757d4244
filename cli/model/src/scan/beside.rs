//! The folder of a file that is scanned, where a loader looks for the rest of the model.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use tensorgate_models::files::open_folder::{file_type, look, names, open_file};
use tensorgate_models::scan::folder::Beside;

/// The most names of a folder that are looked at.
const MAX_NAMES: usize = 10_000;

/// The names in a folder, which are read once for all of its files.
pub type FolderNames = OnceLock<Result<Vec<String>, String>>;

/// An open folder.
#[derive(Clone, Copy, Debug)]
pub struct OpenFolder<'a> {
    /// The folder.
    pub folder: &'a OwnedFd,
    /// Its names, once a file has asked for them.
    pub names: &'a FolderNames,
    /// The longest file that is read, bytes.
    pub max_bytes: u64,
}

impl Beside for OpenFolder<'_> {
    fn names(&self) -> Result<Cow<'_, [String]>, String> {
        match self.names.get_or_init(|| read_names(self.folder)) {
            Ok(names) => Ok(Cow::Borrowed(names.as_slice())),
            Err(cause) => Err(cause.clone()),
        }
    }

    fn open(&self, name: &str) -> Result<File, String> {
        let name = OsStr::new(name);
        let cause = |error: Errno| match error {
            Errno::NOENT => "is not there".to_owned(),
            Errno::LOOP => "is a link, which is not followed".to_owned(),
            error => format!("cannot be read: {error}"),
        };
        // What is no file is never opened.
        match file_type(&look(self.folder, name).map_err(cause)?) {
            FileType::RegularFile => {}
            FileType::Symlink => return Err(cause(Errno::LOOP)),
            _ => return Err("is no regular file".to_owned()),
        }
        let file = File::from(open_file(self.folder, name).map_err(cause)?);
        let state = fstat(&file).map_err(cause)?;
        if file_type(&state) != FileType::RegularFile {
            return Err("is no regular file".to_owned());
        }
        let bytes = u64::try_from(state.st_size).unwrap_or(u64::MAX);
        if bytes > self.max_bytes {
            let most = self.max_bytes;
            return Err(format!("has {bytes} bytes: --max-bytes allows {most}"));
        }
        Ok(file)
    }
}

/// The names in a folder, if there are not too many.
fn read_names(folder: &OwnedFd) -> Result<Vec<String>, String> {
    let names = names(folder, MAX_NAMES).map_err(|error| error.to_string())?;
    let names = names.ok_or_else(|| format!("lies beside more than {MAX_NAMES} names"))?;
    // A name that is no text is none that a model can give.
    let names = names.into_iter().filter_map(|name| name.into_string().ok());
    Ok(names.collect())
}
