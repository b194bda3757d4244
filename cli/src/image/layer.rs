//! A layer of an image as a tar archive in gzip. The same files always give the same bytes: entries
//! are sorted, belong to root, and have one time.

use std::collections::BTreeMap;
use std::io::{self, Write};

use flate2::write::GzEncoder;
use flate2::{Compression, GzBuilder};
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};
use tensorgate_policy::hex;

/// Media type of a packed layer.
pub const MEDIA_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// Mode of folders that only hold others.
const FOLDER: u32 = 0o755;
/// The value of gzip's field for the operating system that names none. Source: RFC 1952, 2.3.1.
const UNKNOWN_SYSTEM: u8 = 255;

/// Files and folders of a layer.
#[derive(Debug, Default)]
pub struct Layer {
    /// By path; a folder's ends with a slash, so that it sorts before what it holds.
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    kind: EntryType,
    mode: u32,
    content: Vec<u8>,
}

/// A layer that can be added to a layout.
#[derive(Debug)]
pub struct Packed {
    /// The archive in gzip.
    pub gzip: Vec<u8>,
    /// Digest of the archive itself, which an image's configuration has.
    pub diff_id: String,
}

impl Layer {
    /// Adds a folder.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.parents(path);
        let folder = Entry {
            kind: EntryType::Directory,
            mode,
            content: Vec::new(),
        };
        self.entries.insert(format!("{path}/"), folder);
    }

    /// Adds a file, and the folders that it is in.
    pub fn file(&mut self, path: &str, mode: u32, content: Vec<u8>) {
        self.parents(path);
        let file = Entry {
            kind: EntryType::Regular,
            mode,
            content,
        };
        self.entries.insert(path.to_owned(), file);
    }

    fn parents(&mut self, path: &str) {
        for (at, _) in path.match_indices('/') {
            let parent = path.get(..=at).unwrap_or_default().to_owned();
            self.entries.entry(parent).or_insert(Entry {
                kind: EntryType::Directory,
                mode: FOLDER,
                content: Vec::new(),
            });
        }
    }

    /// Writes the archive. All entries have this time, in Unix seconds.
    ///
    /// # Errors
    /// A path is too long for an archive.
    pub fn pack(self, time_s: u64) -> io::Result<Packed> {
        let gzip = GzBuilder::new()
            .operating_system(UNKNOWN_SYSTEM)
            .write(Vec::new(), Compression::default());
        let mut archive = Builder::new(Hashed {
            digest: Sha256::new(),
            inner: gzip,
        });
        for (path, entry) in self.entries {
            let mut header = Header::new_ustar();
            header.set_entry_type(entry.kind);
            header.set_mode(entry.mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(time_s);
            header.set_size(u64::try_from(entry.content.len()).unwrap_or(u64::MAX));
            archive.append_data(&mut header, path, entry.content.as_slice())?;
        }
        let Hashed { digest, inner } = archive.into_inner()?;
        Ok(Packed {
            gzip: inner.finish()?,
            diff_id: format!("sha256:{}", hex(&digest.finalize())),
        })
    }
}

/// Computes the digest of what passes through.
struct Hashed {
    digest: Sha256,
    inner: GzEncoder<Vec<u8>>,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
