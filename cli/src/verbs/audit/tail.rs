//! Follows an audit log while the host writes it. Rotation and replaced files are followed as far
//! as the closed files are kept.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use tensorgate_audit::files::Paths;
use tensorgate_audit::line::{Line, MAX_LINE_BYTES};
use tensorgate_audit::verify::files;

/// A log, and how far it was read.
pub struct Tail {
    paths: Paths,
    /// The file that is read.
    open: Option<BufReader<File>>,
    /// The start of a line whose end is not written yet.
    partial: Vec<u8>,
    /// Number of the last record.
    last_seq: u64,
}

impl Tail {
    /// Follows a log from its first record, or from its current end.
    pub fn new(log: &Path, at_end: bool) -> io::Result<Self> {
        let paths = Paths::new(log);
        files(&paths)?;
        let mut tail = Self {
            paths,
            open: None,
            partial: Vec::new(),
            last_seq: 0,
        };
        if at_end {
            // The number of the last record is not known: closed files are older than the end.
            let closed = tail.paths.all_closed()?;
            tail.last_seq = closed.last().map_or(0, |(first, _)| *first);
            let mut live = File::open(log)?;
            live.seek(SeekFrom::End(0))?;
            tail.open = Some(BufReader::new(live));
        }
        Ok(tail)
    }

    /// Calls `then` with every new readable line and its text, oldest first, as long as it returns
    /// `true`. Returns whether to continue.
    pub fn each_new(&mut self, mut then: impl FnMut(Line, &str) -> bool) -> io::Result<bool> {
        loop {
            // The next file is looked up before the last lines of this one are read. So a line
            // that was written before a rotation is not missed.
            let next = self.next()?;
            while self.next_line()? {
                let text = std::mem::take(&mut self.partial);
                let text = String::from_utf8_lossy(&text);
                let text = text.trim_end();
                if let Ok(line) = serde_json::from_str::<Line>(text) {
                    self.last_seq = line.seq;
                    if !then(line, text) {
                        return Ok(false);
                    }
                }
            }
            let Some(next) = next else {
                return Ok(true);
            };
            self.partial.clear();
            self.open = Some(BufReader::new(next));
        }
    }

    /// Reads until a line is complete. Of an oversized line, each part counts as one.
    fn next_line(&mut self) -> io::Result<bool> {
        let Some(open) = &mut self.open else {
            return Ok(false);
        };
        let room = MAX_LINE_BYTES.saturating_sub(self.partial.len());
        let room = u64::try_from(room).unwrap_or(u64::MAX);
        open.take(room).read_until(b'\n', &mut self.partial)?;
        Ok(self.partial.ends_with(b"\n") || self.partial.len() >= MAX_LINE_BYTES)
    }

    /// The file after the open one: the oldest closed file with later records, or the current one.
    /// `None` if there is none yet.
    fn next(&self) -> io::Result<Option<File>> {
        let id = |file: &File| file.metadata().map(|it| (it.dev(), it.ino()));
        let open = self
            .open
            .as_ref()
            .map(|open| id(open.get_ref()))
            .transpose()?;
        // The current file is opened first: if it is closed meanwhile, the list has it.
        let live = match File::open(self.paths.log()) {
            Ok(live) => Some(live),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if let (Some(live), Some(open)) = (&live, open)
            && id(live)? == open
        {
            return Ok(None);
        }
        let closed = self.paths.all_closed()?;
        for (_, path) in closed.iter().filter(|(first, _)| *first > self.last_seq) {
            // The oldest closed files are removed as others are added.
            let Ok(file) = File::open(path) else {
                continue;
            };
            if Some(id(&file)?) != open {
                return Ok(Some(file));
            }
        }
        Ok(live)
    }
}
