//! `handler logs`: what handlers wrote, out of the host's log.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

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
    /// Go on with what is written from now on.
    #[arg(short, long)]
    follow: bool,
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
            let room = MAX_LINE_BYTES.saturating_sub(u64::try_from(line.len()).unwrap_or(u64::MAX));
            let read = (&mut log).take(room).read_until(b'\n', &mut line);
            if read.map_err(failed)? == 0 && room > 0 {
                if !self.follow {
                    return Ok(());
                }
                // What was read of a line that is being written is gone on with.
                std::thread::sleep(LOOK);
                continue;
            }
            if line.ends_with(b"\n") || room == 0 {
                let text = String::from_utf8_lossy(&line);
                if self.wants(&text) {
                    ui.line(&printable(text.trim_end()));
                }
                line.clear();
            }
        }
    }

    fn wants(&self, line: &str) -> bool {
        let of = |field: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| {
                let spelled = [
                    format!("\"{field}\":\"{wanted}\""),
                    format!("{field}=\"{wanted}\""),
                ];
                spelled.iter().any(|text| line.contains(text))
            })
        };
        line.contains(TARGET) && of("handler", &self.handler) && of("request_id", &self.request_id)
    }
}
