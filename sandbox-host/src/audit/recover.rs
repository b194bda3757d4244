//! What a host finds of the log that it goes on with: where it ended, and whether that is where its head says. Whatever is
//! wrong is set apart and told in the next line, never mended in silence; the log goes on, because a gate that an attacker
//! could keep from starting would be his.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

use super::files::{Folder, Paths, write_whole};
use super::heard::{Heard, Marks};
use super::key::{KeyError, SigningKey, VerifyingKey, hex};
use super::line::{self, Hash, Line, MAX_LINE_BYTES, Seal};
use super::record::{Decision, Event, Found, Open};

/// How much of a log's end is read at a start, bytes: the requests of its last moments, and more than the lines between two checkpoints,
/// a thousand of which, as long as they get, are less.
const TAIL_BYTES: usize = 4 << 20;
/// A head, bytes.
const MAX_HEAD_BYTES: u64 = 4 << 10;

/// Why a log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// Its key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// Its files cannot.
    #[error("cannot write the audit log {path}: {source}")]
    File {
        /// The log.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The file that is written.
    pub path: PathBuf,
    /// The signing key's file; beside the log unless given.
    pub key_file: Option<PathBuf>,
    /// Whether lines are chained.
    pub chain: bool,
    /// Size at which a file is closed, bytes.
    pub file_bytes: u64,
    /// Closed files that are kept.
    pub files: u32,
}

/// A log to go on with.
#[derive(Debug)]
pub struct Recovered {
    /// Its files.
    pub store: Folder,
    /// Its id.
    pub log: String,
    /// How its lines are sealed.
    pub seal: Seal,
    /// The number of the last line.
    pub seq: u64,
    /// The last line's hash.
    pub last: Hash,
    /// The number of the first line that is kept.
    pub oldest_seq: u64,
    /// Where the file that is written begins; nothing for one that is empty.
    pub first_seq: Option<u64>,
    /// What is wrong with it.
    pub found: Vec<Found>,
    /// The requests of its last moments: Envoy may yet tell of them.
    pub recent: Vec<Decision>,
    /// Which of Envoy's entries its lines are made of.
    pub heard: Marks,
}

/// The last whole line of a file and what came before it.
#[derive(Default)]
struct Tail {
    lines: Vec<Vec<u8>>,
    torn: Vec<u8>,
    whole_bytes: u64,
}

/// Looks at a log, sets apart what is broken, and opens it.
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
    let live = set_torn_apart(&paths, live, &mut found).map_err(failed)?;
    let empty = live.lines.is_empty();
    let end = if empty {
        match closed.last() {
            Some((_, path)) => tail(path).map_err(failed)?,
            None => Tail::default(),
        }
    } else {
        live
    };
    let mut state = State::of(&end, &seal, &mut found);
    let first_line = first(paths.log()).map_err(failed)?;
    if let Seal::Chain(key) = &seal {
        let anything = !end.lines.is_empty() || !closed.is_empty();
        state.hold_against_head(&paths, &key.public(), anything, &mut found);
    }
    if state.damaged && !empty {
        // Its last line is not one: nothing can be chained to it, and nothing may be written behind it.
        let aside = match first_line.as_ref() {
            Some(line) => paths.closed(line.seq),
            None => paths.damaged(state.seq.saturating_add(1)),
        };
        std::fs::rename(paths.log(), aside).map_err(failed)?;
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
        // Before the first line, so that a log without a head is always one that lost it.
        let text = head(&log, state.seq, state.last, &seal).map_err(failed)?;
        write_whole(&paths.head(), &text).map_err(failed)?;
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

/// Where a log ends.
struct State {
    seq: u64,
    last: Hash,
    log: Option<String>,
    damaged: bool,
}

impl State {
    fn of(end: &Tail, seal: &Seal, found: &mut Vec<Found>) -> Self {
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
                    // As far as it can be told; the head knows better, if there is one.
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

    /// The head says where the log ended: what is missing is told, and numbers go on behind it.
    fn hold_against_head(
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
                note(
                    found,
                    "head-missing",
                    "nothing says where the log ended".into(),
                );
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
                "it ended with line {}, {} is the last one left",
                head.seq, self.seq
            );
            note(found, "truncated", detail);
            (self.seq, self.last) = (head.seq, head.last);
        } else if head.seq == self.seq && head.last != self.last {
            let detail = format!("line {} is not the one that was written", head.seq);
            note(found, "rewritten", detail);
        }
    }
}

fn note(found: &mut Vec<Found>, what: &str, detail: String) {
    tracing::error!(what, detail, "the audit log is not as it was left");
    found.push(Found {
        what: what.to_owned(),
        detail,
    });
}

/// Where a log ends, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// The log's id.
    pub log: String,
    /// The last line's number.
    pub seq: u64,
    /// The last line's hash.
    pub last: Hash,
}

impl Head {
    /// Reads a head. With a key, it must be signed by it.
    pub fn read(text: &[u8], key: Option<&VerifyingKey>) -> Result<Self, &'static str> {
        let text = text.trim_ascii_end();
        let sealed = line::open(text).map_err(|_| "it is not a head")?;
        let line: Line = serde_json::from_slice(text).map_err(|_| "it is not a head")?;
        let Event::Head { log } = line.event else {
            return Err("it is not a head");
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

/// A head's text.
pub fn head(log: &str, seq: u64, last: Hash, seal: &Seal) -> io::Result<String> {
    let event = Event::Head {
        log: log.to_owned(),
    };
    let line = line::line(seq, SystemTime::now(), event);
    let (text, _) = line::seal(&line, last, seal)?;
    Ok(text + "\n")
}

/// A head's file; nothing if there is none.
pub fn read_head(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(MAX_HEAD_BYTES)
            .read_to_end(&mut text)
            .map(|_| Some(text))
            .map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// The first line that a new or going-on host writes.
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

/// Bytes after the last whole line: a crash in the middle of writing. They go to a file of their own.
fn set_torn_apart(paths: &Paths, mut tail: Tail, found: &mut Vec<Found>) -> io::Result<Tail> {
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
        "{} bytes after line {seq} that were no whole line, sha-256 {}, are set apart",
        tail.torn.len(),
        hex(&Sha256::digest(&tail.torn)),
    );
    note(found, "torn", detail);
    tail.torn.clear();
    Ok(tail)
}

/// The end of a file, in lines; what is before [`TAIL_BYTES`] is not looked at.
fn tail(path: &Path) -> io::Result<Tail> {
    let mut file = match File::open(path) {
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
    // The first piece is the end of a line whose beginning was skipped.
    let whole = pieces.into_iter().skip(usize::from(skipped > 0));
    let torn_bytes = u64::try_from(torn.len()).unwrap_or(u64::MAX);
    Ok(Tail {
        lines: whole.map(<[u8]>::to_vec).collect(),
        torn,
        whole_bytes: length.saturating_sub(torn_bytes),
    })
}

/// A file's first line.
fn first(path: &Path) -> io::Result<Option<Line>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file
            .take(u64::try_from(MAX_LINE_BYTES).unwrap_or(u64::MAX))
            .read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let line = bytes.split(|byte| *byte == b'\n').next();
    Ok(line.and_then(|line| serde_json::from_slice(line).ok()))
}

/// The requests of a log's end, and which entries it is made of.
fn last_moments(end: &Tail) -> (Vec<Decision>, Marks) {
    let (mut recent, mut heard) = (Vec::new(), Heard::default());
    for text in &end.lines {
        let Ok(line) = serde_json::from_slice::<Line>(text) else {
            continue;
        };
        note_heard(&mut heard, &line.event);
        if let Event::Decision(decision) = line.event {
            recent.push(*decision);
        }
    }
    (recent, heard.marks())
}

/// Marks the entries that a line is made of, or says are settled.
pub fn note_heard(heard: &mut Heard, event: &Event) {
    match event {
        Event::Decision(decision) => {
            if let Some(entry) = &decision.entry {
                heard.mark_entry(entry);
            }
        }
        Event::Amend(amend) => {
            if let Some(entry) = &amend.entry {
                heard.mark_entry(entry);
            }
        }
        Event::Lost { vm, first, count } => {
            heard.mark(vm, first.saturating_add(*count).saturating_sub(1));
        }
        Event::Open(Open { heard: marks, .. }) | Event::Checkpoint { heard: marks, .. } => {
            for (vm, last) in marks {
                heard.mark(vm, *last);
            }
        }
        Event::Policy { .. }
        | Event::Copy(_)
        | Event::CutOff(_)
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
