//! One process of ours: its log in a file, dead when we are.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{
    Pid, Signal, getpid, getppid, kill_process, set_parent_process_death_signal,
};
use tokio::process::{Child as Process, Command};
use tokio::time::timeout;

/// What is shown of a log when its process failed, bytes.
const TAIL_BYTES: u64 = 4096;

/// Opens no link: what it leads to is not ours to write to. The flag is of a few bits, and of no sign.
pub const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// How to start one.
#[derive(Clone, Debug)]
pub struct Spec {
    /// What to call it.
    pub name: String,
    /// The binary.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Its whole environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Where standard output and error go; written anew.
    pub log: PathBuf,
}

/// One that runs.
#[derive(Debug)]
pub struct Child {
    name: String,
    log: PathBuf,
    process: Process,
}

impl Child {
    /// Starts it. Must be called on the main thread: the kernel ties a child's death signal to the thread that made it.
    #[expect(
        unsafe_code,
        reason = "there is no safe way to set a death signal between fork and exec"
    )]
    pub fn start(spec: &Spec) -> io::Result<Self> {
        // Logs name clients and causes: they are their owner's.
        let log = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(NOFOLLOW)
            .open(&spec.log)?;
        let parent = getpid();
        let mut command = Command::new(&spec.program);
        command
            .args(&spec.arguments)
            .env_clear()
            .envs(spec.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A terminal's Ctrl-C is for us alone: we stop the others in order.
            .process_group(0)
            .kill_on_drop(true);
        // SAFETY: between fork and exec only async-signal-safe calls may be made. These are two raw system calls that neither
        // allocate nor lock; the error is made without allocation.
        unsafe {
            command.pre_exec(move || die_with(parent));
        }
        Ok(Self {
            name: spec.name.clone(),
            log: spec.log.clone(),
            process: command.spawn()?,
        })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number, while it runs.
    pub fn pid(&self) -> Option<Pid> {
        let id = self.process.id()?;
        Pid::from_raw(i32::try_from(id).ok()?)
    }

    /// Waits until it ends.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Asks it to stop; true if it did within the time.
    pub async fn stop(&mut self, patience: Duration) -> bool {
        if let Some(pid) = self.pid() {
            // Not yet waited for, so the number is still its own.
            let _ = kill_process(pid, Signal::TERM);
        }
        timeout(patience, self.process.wait()).await.is_ok()
    }

    /// Ends it, now.
    pub async fn kill(&mut self) {
        // Fails only for one that has ended.
        let _ = self.process.kill().await;
    }

    /// What became of it, with the end of its log.
    pub fn obituary(&self, status: &io::Result<ExitStatus>) -> String {
        let how = match status {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        format!(
            "{} ended by itself ({how}); the end of {}:\n{}",
            self.name,
            self.log.display(),
            tail(&self.log)
        )
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        format!("the end of {}:\n{}", self.log.display(), tail(&self.log))
    }
}

/// In the child: to be killed when the parent is, even if that has happened already.
fn die_with(parent: Pid) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() == Some(parent) {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}

fn tail(log: &Path) -> String {
    let read = || {
        let mut file = File::open(log)?;
        let from = file.metadata()?.len().saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(cannot be read: {error})"))
}
