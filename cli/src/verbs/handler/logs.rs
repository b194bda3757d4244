//! `handler logs`: what handlers wrote, out of the host's log. A line is told by the host's own fields, never by what a handler wrote into it.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;

use crate::Failure;
use crate::ui::{Ui, printable};

/// How the host's log names handlers' own lines.
const TARGET: &str = "tensorgate::handler";
/// A line of the log, bytes; a handler's own are cut far shorter.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// How often a followed log is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Print the lines that handlers wrote, out of a host's log (text or JSON).
#[derive(Args)]
#[command(
    after_help = "Example: tensorgate handler logs target/up/host.log --handler resize --follow"
)]
pub struct Logs {
    /// The host's log.
    file: PathBuf,
    /// Of this handler.
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
    /// Of this request.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Go on with what is written from now on, in another file of this name too.
    #[arg(short, long)]
    follow: bool,
}

/// A line of the JSON log; there is more in it.
#[derive(Deserialize)]
struct Entry {
    target: String,
    #[serde(default)]
    handler: String,
    #[serde(default)]
    request_id: String,
}

impl Logs {
    /// Prints them.
    pub fn run(self, ui: &Ui) -> Result<(), Failure> {
        let failed = |cause: std::io::Error| {
            Failure::Input(format!("cannot read {}: {cause}", self.file.display()))
        };
        let mut log = BufReader::new(File::open(&self.file).map_err(failed)?);
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
                    ui.line(&printable(text));
                }
                line.clear();
            }
            if !ended {
                continue;
            }
            if !self.follow {
                return Ok(());
            }
            // What was read of a line that is being written is gone on with.
            std::thread::sleep(LOOK);
            if let Some(next) = self.next(log.get_ref()) {
                (log, line) = (BufReader::new(next), Vec::new());
            }
        }
    }

    /// The log from its start, if it is another file by now, or was emptied.
    fn next(&self, open: &File) -> Option<File> {
        use std::io::Seek as _;
        let next = File::open(&self.file).ok()?;
        let (was, is) = (open.metadata().ok()?, next.metadata().ok()?);
        let other = (was.dev(), was.ino()) != (is.dev(), is.ino());
        let read = { open }.stream_position().ok()?;
        (other || is.len() < read).then_some(next)
    }

    fn wants(&self, line: &str) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let Some((handler, request_id)) = of_json(line).or_else(|| of_text(line)) else {
            return false;
        };
        is(&self.handler, &handler) && is(&self.request_id, &request_id)
    }
}

/// Handler and request of a JSON line that a handler wrote.
fn of_json(line: &str) -> Option<(String, String)> {
    let entry: Entry = serde_json::from_str(line).ok()?;
    (entry.target == TARGET).then_some((entry.handler, entry.request_id))
}

/// The same of a line of text: `TIME LEVEL TARGET: MESSAGE handler="…" request_id="…"`. A message can hold anything, and stands before the fields:
/// these are read from the end.
fn of_text(line: &str) -> Option<(String, String)> {
    let mut words = line.split_ascii_whitespace();
    let target = words.nth(2)?.strip_suffix(':')?;
    let rest = line.strip_suffix('"')?;
    let (rest, request_id) = rest.rsplit_once(" request_id=\"")?;
    let (_, handler) = rest.strip_suffix('"')?.rsplit_once(" handler=\"")?;
    (target == TARGET).then(|| (handler.to_owned(), request_id.to_owned()))
}
