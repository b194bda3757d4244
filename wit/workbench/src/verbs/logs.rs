//! The `handler logs` verb: extracts handlers' lines and faults from the host's log. Lines are
//! recognised by fields that the host writes, never by a handler's text.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use tensorgate_cli_common::Failure;
use tensorgate_cli_common::state_folder::{HOST_LOG, StateFolder};
use tensorgate_cli_common::ui::{Ui, printable};

/// Log targets of handlers' lines, and of the host's lines about their faults.
const TARGETS: [&str; 2] = ["tensorgate::handler", "tensorgate::handler::fault"];
/// Longest line that is read, bytes; handlers' lines are truncated far earlier.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Poll interval of a followed log.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Print the lines that handlers wrote and the faults of their calls, from a host's log (text or
/// JSON), in the order of the log.
#[derive(Args)]
#[command(
    after_help = "A fault is a call that ended in a trap, without fuel or memory, at its deadline, or with an invalid output. Its line has the target tensorgate::handler::fault, which no handler can write.\n\nExample: tensorgate handler logs --state /var/lib/tensorgate --handler resize --follow\nExample: tensorgate handler logs host.log --request-id 3f4f210a-5359-4f12-a75a-c92ea0dcc6fa"
)]
pub struct Logs {
    /// Log file of the host (default: the one in the state folder).
    file: Option<PathBuf>,
    #[command(flatten)]
    state: StateFolder,
    /// Only lines of this handler.
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Only lines of this request.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Print the level, request, handler and text of each line, if the log has JSON.
    #[arg(long)]
    plain: bool,
    /// Continue with new lines, including those of a new file with this name.
    #[arg(short, long)]
    follow: bool,
}

/// The needed fields of a JSON log line.
#[derive(Deserialize)]
struct Entry {
    target: String,
    #[serde(default)]
    handler: String,
    #[serde(default)]
    request_id: String,
    #[serde(default)]
    level: String,
    #[serde(default)]
    message: String,
    /// What a line about a fault has.
    #[serde(default)]
    detail: String,
}

impl Logs {
    /// Prints the lines.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.state.find()?.join(HOST_LOG),
        };
        let failed = |cause: std::io::Error| {
            Failure::Input(format!("cannot read {}: {cause}", file.display()))
        };
        let mut log = BufReader::new(File::open(&file).map_err(failed)?);
        let mut line = Vec::new();
        loop {
            let length = u64::try_from(line.len()).unwrap_or(u64::MAX);
            let room = MAX_LINE_BYTES.saturating_sub(length);
            let read = (&mut log).take(room).read_until(b'\n', &mut line);
            let ended = read.map_err(failed)? == 0 && room > 0;
            if line.ends_with(b"\n") || room == 0 || (ended && !self.follow) {
                let text = String::from_utf8_lossy(&line);
                let text = text.trim_end();
                if self.wants(text) {
                    let plain = self.plain.then(|| plain(text)).flatten();
                    ui.line(&printable(plain.as_deref().unwrap_or(text)));
                }
                line.clear();
            }
            if !ended {
                continue;
            }
            if !self.follow {
                return Ok(());
            }
            // A partial line is continued after the pause.
            std::thread::sleep(POLL_INTERVAL);
            if let Some(next) = next(&file, log.get_ref()) {
                (log, line) = (BufReader::new(next), Vec::new());
            }
        }
    }

    fn wants(&self, line: &str) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let Some((handler, request_id)) = parse_json(line).or_else(|| parse_text(line)) else {
            return false;
        };
        is(&self.handler, &handler) && is(&self.request_id, &request_id)
    }
}

/// A JSON line for people.
fn plain(line: &str) -> Option<String> {
    let Entry {
        handler,
        request_id,
        level,
        message,
        detail,
        ..
    } = serde_json::from_str(line).ok()?;
    let separator = if detail.is_empty() { "" } else { ": " };
    Some(format!(
        "{level:5} {request_id} {handler}: {message}{separator}{detail}"
    ))
}

/// The new log, if the file was replaced or truncated.
fn next(file: &Path, open: &File) -> Option<File> {
    use std::io::Seek as _;
    let next = File::open(file).ok()?;
    let (was, is) = (open.metadata().ok()?, next.metadata().ok()?);
    let other = (was.dev(), was.ino()) != (is.dev(), is.ino());
    let read = { open }.stream_position().ok()?;
    (other || is.len() < read).then_some(next)
}

/// Handler and request id of a JSON line of a handler or about its fault.
fn parse_json(line: &str) -> Option<(String, String)> {
    let entry: Entry = serde_json::from_str(line).ok()?;
    TARGETS
        .contains(&entry.target.as_str())
        .then_some((entry.handler, entry.request_id))
}

/// Handler and request id of a line `TIME LEVEL TARGET: MESSAGE handler="…" request_id="…"`.
///
/// The message is untrusted and precedes the fields, so the fields are read from the end.
fn parse_text(line: &str) -> Option<(String, String)> {
    let mut words = line.split_ascii_whitespace();
    let target = words.nth(2)?.strip_suffix(':')?;
    let rest = line.strip_suffix('"')?;
    let (rest, request_id) = rest.rsplit_once(" request_id=\"")?;
    let (_, handler) = rest.strip_suffix('"')?.rsplit_once(" handler=\"")?;
    TARGETS
        .contains(&target)
        .then(|| (handler.to_owned(), request_id.to_owned()))
}
