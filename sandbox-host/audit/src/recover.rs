//! Recovers a log at the start of a host: finds its end and compares it with the head file. Damage
//! is moved aside and reported in the next record, never repaired silently. The log continues,
//! because an attacker must not be able to prevent the gate from starting.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use crate::files::{Folder, Paths, first_record, move_aside, open_regular, replace_file};
use crate::key::{KeyError, SigningKey, VerifyingKey, hex};
use crate::line::{self, Hash, Line, Seal};
use crate::record::{Decision, Event, Found, Open};
use crate::sequence::{Marks, SequenceTracker};

/// How much of a log's end is read at a start, in bytes: the requests of its last moments, and more
/// than a thousand records of the largest size, the distance between two checkpoints.
const TAIL_BYTES: usize = 4 << 20;
/// The largest head file in bytes.
const MAX_HEAD_BYTES: u64 = 4 << 10;

/// Why a log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Its key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its files cannot be used.
    #[error("cannot write the audit log {path}: {source}")]
    File {
        /// The path of the log.
        path: PathBuf,
        /// The error.
        source: io::Error,
    },
}

/// The settings of a log.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The current file.
    pub path: PathBuf,
    /// The signing key's file. The default is beside the log.
    pub key_file: Option<PathBuf>,
    /// Whether records are chained.
    pub chain: bool,
    /// The size at which a file is closed, in bytes.
    pub file_bytes: u64,
    /// The number of closed files that are kept.
    pub files: u32,
}

/// A log that can be continued.
#[derive(Debug)]
pub struct Recovered {
    /// Its files.
    pub store: Folder,
    /// Its ID.
    pub log: String,
    /// How its records are sealed.
    pub seal: Seal,
    /// The number of the last record.
    pub seq: u64,
    /// The hash of the last record.
    pub last: Hash,
    /// The number of the first record that is kept.
    pub oldest_seq: u64,
    /// The number of the first record of the current file. `None` if the file is empty.
    pub first_seq: Option<u64>,
    /// The damage that was found.
    pub found: Vec<Found>,
    /// The last requests, which Envoy may still report.
    pub recent: Vec<Decision>,
    /// The entries of Envoy that are recorded.
    pub heard: Marks,
}

/// The end of a file: its complete lines and the rest.
#[derive(Default)]
struct Tail {
    lines: Vec<Vec<u8>>,
    torn: Vec<u8>,
    whole_bytes: u64,
}

/// Checks a log, moves damage aside, and opens it.
pub fn recover(settings: &Settings) -> Result<Recovered, AuditError> {
    let failed = |source| AuditError::File {
        path: settings.path.clone(),
        source,
    };
    let paths = Paths::new(&settings.path);
    let lock = Folder::lock(&paths).map_err(failed)?;
    let seal = if settings.chain {
        let file = settings.key_file.clone().unwrap_or_else(|| paths.key());
        let key = SigningKey::read_or_make(&file)?;
        key.public().write(&paths.public())?;
        Seal::Chain(key)
    } else {
        Seal::None
    };
    let mut found = Vec::new();
    let closed = paths.all_closed().map_err(failed)?;
    let live = tail(paths.log()).map_err(failed)?;
    let live = move_torn(&paths, live, &mut found).map_err(failed)?;
    let empty = live.lines.is_empty();
    let end = if empty {
        match closed.last() {
            Some((_, path)) => tail(path).map_err(failed)?,
            None => Tail::default(),
        }
    } else {
        live
    };
    let mut state = State::from_tail(&end, &seal, &mut found);
    let first_line = first_record(paths.log()).map_err(failed)?;
    if let Seal::Chain(key) = &seal {
        let anything = !end.lines.is_empty() || !closed.is_empty();
        state.check_head(&paths, &key.public(), anything, &mut found);
    }
    if state.damaged && !empty {
        // The last record is unreadable, so no record can be chained to it or written after it.
        move_aside(&paths, state.seq.saturating_add(1)).map_err(failed)?;
    }
    let log = state
        .log
        .or_else(|| match &first_line.as_ref()?.event {
            Event::Open(open) => Some(open.log.clone()),
            _ => None,
        })
        .map_or_else(random_id, Ok)
        .map_err(failed)?;
    if let Seal::Chain(_) = &seal
        && !paths.head().exists()
    {
        // Before the first record, so that a log without a head file has always lost it.
        let text = head(&log, state.seq, state.last, &seal).map_err(failed)?;
        replace_file(&paths.head(), text.as_bytes()).map_err(failed)?;
    }
    let first_seq = if state.damaged || empty {
        None
    } else {
        first_line.map(|line| line.seq)
    };
    let next = state.seq.saturating_add(1);
    let (recent, heard) = last_moments(&end);
    let keep = usize::try_from(settings.files).unwrap_or(usize::MAX);
    Ok(Recovered {
        store: Folder::open(paths, keep, lock).map_err(failed)?,
        log,
        seal,
        seq: state.seq,
        last: state.last,
        oldest_seq: closed
            .first()
            .map_or_else(|| first_seq.unwrap_or(next), |(first, _)| *first),
        first_seq,
        found,
        recent,
        heard,
    })
}

/// The end of a log.
struct State {
    seq: u64,
    last: Hash,
    log: Option<String>,
    damaged: bool,
}

impl State {
    fn from_tail(end: &Tail, seal: &Seal, found: &mut Vec<Found>) -> Self {
        let nothing = Self {
            seq: 0,
            last: Hash::default(),
            log: None,
            damaged: false,
        };
        let Some(last) = end.lines.last() else {
            return nothing;
        };
        let read = match seal {
            Seal::Chain(_) => line::open(last)
                .map(|line| (line.seq, line.hash))
                .map_err(|fault| fault.to_string()),
            Seal::None => serde_json::from_slice::<Line>(last)
                .map(|line| (line.seq, Hash::default()))
                .map_err(|fault| fault.to_string()),
        };
        match read {
            Ok((seq, last)) => Self {
                seq,
                last,
                ..nothing
            },
            Err(fault) => {
                note(found, "damaged", format!("the last line: {fault}"));
                Self {
                    damaged: true,
                    // As far as known. The head file is more reliable if it exists.
                    seq: end
                        .lines
                        .iter()
                        .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
                        .map(|line| line.seq)
                        .max()
                        .unwrap_or_default(),
                    ..nothing
                }
            }
        }
    }

    /// Compares the end with the head file. Missing records are reported, and numbering continues
    /// after them.
    fn check_head(
        &mut self,
        paths: &Paths,
        key: &VerifyingKey,
        anything: bool,
        found: &mut Vec<Found>,
    ) {
        let read = match read_head(&paths.head()) {
            Ok(read) => read,
            Err(cause) => return note(found, "head-invalid", cause),
        };
        let Some(text) = read else {
            if anything {
                note(found, "head-missing", "its last line is unknown".into());
            }
            return;
        };
        let head = match Head::read(&text, Some(key)) {
            Ok(head) => head,
            Err(cause) => return note(found, "head-invalid", cause.to_owned()),
        };
        self.log = Some(head.log);
        if self.damaged && head.seq >= self.seq {
            (self.seq, self.last) = (head.seq, head.last);
        } else if head.seq > self.seq {
            let detail = format!(
                "its head names line {} as the last, its files end with {}",
                head.seq, self.seq
            );
            note(found, "truncated", detail);
            (self.seq, self.last) = (head.seq, head.last);
        } else if head.seq == self.seq && head.last != self.last {
            let detail = format!("line {} is not the one that the head names", head.seq);
            note(found, "rewritten", detail);
        }
    }
}

/// Adds damage to the list and logs it.
pub(super) fn note(found: &mut Vec<Found>, what: &str, detail: String) {
    tracing::error!(
        what,
        detail,
        "audit log changed while the host was not running"
    );
    found.push(Found {
        what: what.to_owned(),
        detail,
    });
}

/// The signed end of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The log's ID.
    pub log: String,
    /// The number of the last record.
    pub seq: u64,
    /// The hash of the last record.
    pub last: Hash,
}

impl Head {
    /// Parses a head file. With a key, its signature is verified.
    pub fn read(text: &[u8], key: Option<&VerifyingKey>) -> Result<Self, &'static str> {
        let text = text.trim_ascii_end();
        let sealed = line::open(text).map_err(|_| "it is not a head file")?;
        let line: Line = serde_json::from_slice(text).map_err(|_| "it is not a head file")?;
        let Event::Head { log } = line.event else {
            return Err("it is not a head file");
        };
        if key.is_some_and(|key| !sealed.signed_by(key)) {
            return Err("it is not signed by this log's key");
        }
        Ok(Self {
            log,
            seq: sealed.seq,
            last: sealed.prev,
        })
    }
}

/// The text of a head file.
pub fn head(log: &str, seq: u64, last: Hash, seal: &Seal) -> io::Result<String> {
    let event = Event::Head {
        log: log.to_owned(),
    };
    let line = line::line(seq, SystemTime::now(), event);
    let (text, _) = line::seal(&line, last, seal)?;
    Ok(text + "\n")
}

/// Reads a head file. `None` if it is missing.
pub fn read_head(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let mut text = Vec::new();
    match open_regular(path) {
        Ok(file) => file
            .take(MAX_HEAD_BYTES)
            .read_to_end(&mut text)
            .map(|_| Some(text))
            .map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// The first record of a new or restarted host.
pub fn opening(recovered: &Recovered, why: &str) -> Open {
    Open {
        log: recovered.log.clone(),
        why: why.to_owned(),
        key: match &recovered.seal {
            Seal::Chain(key) => Some(key.public().to_hex()),
            Seal::None => None,
        },
        oldest_seq: recovered.oldest_seq,
        found: recovered.found.clone(),
        heard: recovered.heard.clone(),
    }
}

/// Moves bytes after the last complete line to a file of their own. A crash during a write leaves
/// them.
fn move_torn(paths: &Paths, mut tail: Tail, found: &mut Vec<Found>) -> io::Result<Tail> {
    if tail.torn.is_empty() {
        return Ok(tail);
    }
    let seq = tail
        .lines
        .last()
        .and_then(|line| serde_json::from_slice::<Line>(line).ok())
        .map_or(0, |line| line.seq);
    let aside = paths.torn(seq.saturating_add(1));
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&aside)
        .and_then(|mut file| io::Write::write_all(&mut file, &tail.torn))?;
    std::fs::OpenOptions::new()
        .write(true)
        .custom_flags(libc::O_NOFOLLOW)
        .open(paths.log())?
        .set_len(tail.whole_bytes)?;
    let detail = format!(
        "{} bytes of an incomplete line after line {seq}, SHA-256 {}, were moved to another file",
        tail.torn.len(),
        hex(&Sha256::digest(&tail.torn)),
    );
    note(found, "torn", detail);
    tail.torn.clear();
    Ok(tail)
}

/// The lines at the end of a file. What comes before [`TAIL_BYTES`] is not read.
fn tail(path: &Path) -> io::Result<Tail> {
    let mut file = match open_regular(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tail::default()),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let reach = u64::try_from(TAIL_BYTES).unwrap_or(u64::MAX);
    let skipped = length.saturating_sub(reach);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(reach).read_to_end(&mut bytes)?;
    let mut pieces: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let torn = pieces.pop().unwrap_or_default().to_vec();
    // The first part is the end of a skipped line.
    let whole = pieces.into_iter().skip(usize::from(skipped > 0));
    let torn_bytes = u64::try_from(torn.len()).unwrap_or(u64::MAX);
    Ok(Tail {
        lines: whole.map(<[u8]>::to_vec).collect(),
        torn,
        whole_bytes: length.saturating_sub(torn_bytes),
    })
}

/// The requests at the end of a log, and the entries that are recorded.
fn last_moments(end: &Tail) -> (Vec<Decision>, Marks) {
    let (mut recent, mut heard) = (Vec::new(), SequenceTracker::default());
    for text in &end.lines {
        let Ok(line) = serde_json::from_slice::<Line>(text) else {
            continue;
        };
        note_sequence(&mut heard, &line.event);
        if let Event::Decision(decision) = line.event {
            recent.push(*decision);
        }
    }
    (recent, heard.marks())
}

/// Marks the entries that a record contains or settles.
pub(crate) fn note_sequence(heard: &mut SequenceTracker, event: &Event) {
    match event {
        Event::Decision(decision) => {
            if let Some(entry) = &decision.entry {
                heard.set_entry(entry);
            }
        }
        Event::Amend(amend) => {
            if let Some(entry) = &amend.entry {
                heard.set_entry(entry);
            }
        }
        Event::Lost { vm, first, count } => {
            heard.set(vm, first.saturating_add(*count).saturating_sub(1));
        }
        Event::Open(Open { heard: marks, .. }) | Event::Checkpoint { heard: marks, .. } => {
            for (vm, last) in marks {
                heard.set(vm, *last);
            }
        }
        Event::Policy { .. }
        | Event::Copy(_)
        | Event::CutOff(_)
        | Event::Artifact(_)
        | Event::Alert(_)
        | Event::Block(_)
        // A checkpoint after it has the marks of what it counts.
        | Event::Rejections(_)
        | Event::Dropped { .. }
        | Event::Stop
        | Event::Head { .. } => {}
    }
}

fn random_id() -> io::Result<String> {
    let mut id = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut id)?;
    Ok(hex(&id))
}
