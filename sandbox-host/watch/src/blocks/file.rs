//! The file with the blocks of operators, beside the bundle. `tensorgate block` replaces it. A file
//! of the same form has the blocks of rules: the host writes it, and reads it when it starts.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tensorgate_audit::files::replace_file;
use tensorgate_base::files;

use super::record::BlockRecord;

/// The name of the file.
const FILE: &str = "blocks.json";
/// The name of the file with the blocks of rules, beside the audit log.
const RULES_FILE: &str = "blocks-of-rules.json";
/// The largest file in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The most records in it.
const MAX_RECORDS: usize = 256;

/// The content of the file: at most one record about a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockFile {
    /// The records.
    pub blocks: Vec<BlockRecord>,
}

impl BlockFile {
    /// The path of the file beside a bundle.
    pub fn beside(bundle: &Path) -> PathBuf {
        bundle.with_file_name(FILE)
    }

    /// The path of the host's own file with the blocks of rules, beside its audit log.
    pub fn of_rules(log: &Path) -> PathBuf {
        log.with_file_name(RULES_FILE)
    }

    /// Replaces the host's own file. What exceeds the bounds of a file is left out.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(mut blocks: Vec<BlockRecord>, path: &Path) -> io::Result<()> {
        blocks.truncate(MAX_RECORDS);
        replace_file(path, &serde_json::to_vec(&Self { blocks })?)
    }

    /// Reads the file. A missing file has no records.
    ///
    /// # Errors
    /// Returns what is wrong, and what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        let bytes = files::open(path).and_then(|file| files::at_most(file, MAX_BYTES));
        Self::from_read(path, bytes)
    }

    /// Reads the host's own file, which no other user may have put there.
    ///
    /// # Errors
    /// Returns what is wrong, and what to do.
    pub fn read_of_rules(path: &Path) -> Result<Self, String> {
        Self::from_read(path, files::own_at_most(path, MAX_BYTES))
    }

    fn from_read(path: &Path, bytes: io::Result<Option<Vec<u8>>>) -> Result<Self, String> {
        let failed = |cause: &str| {
            let path = path.display();
            format!("cannot use the list of blocked clients {path}: {cause}; correct or remove it")
        };
        let bytes = match bytes {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            bytes => bytes.map_err(|error| failed(&error.to_string()))?,
        };
        let bytes = bytes.ok_or_else(|| failed("it is larger than 1 MiB"))?;
        Self::parse(&bytes).map_err(|cause| failed(&cause))
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        file.check()?;
        Ok(file)
    }

    /// Replaces the record about a client, and drops those that are over.
    pub fn put(&mut self, record: BlockRecord, unix_ms: u64) {
        self.blocks
            .retain(|known| known.client != record.client && unix_ms < known.forget_ms);
        self.blocks.push(record);
    }

    /// Checks the bounds of the file and of its records.
    ///
    /// # Errors
    /// Returns what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.blocks.len() > MAX_RECORDS {
            return Err(format!("it has more than {MAX_RECORDS} clients"));
        }
        let mut clients = BTreeSet::new();
        for (index, record) in self.blocks.iter().enumerate() {
            let number = index.saturating_add(1);
            let failed = |cause: &str| format!("block {number}: {cause}");
            record.check().map_err(|cause| failed(&cause))?;
            if !clients.insert(record.client.as_str()) {
                return Err(failed("its client has two"));
            }
        }
        Ok(())
    }
}
