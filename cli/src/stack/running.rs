//! The lock of a state folder. Its file describes the gate that holds it, for `tensorgate status`.
//! It has the last ends of the gate's processes, too.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tensorgate_base::files::at_most;
use tensorgate_cli_common::Failure;

use super::child::NOFOLLOW;
use super::process_event::ProcessEnd;

/// File name in the state folder.
const FILE: &str = "lock";
/// Largest description, bytes.
const MAX_BYTES: u64 = 64 << 10;
/// Attempts to get the lock. `tensorgate status` holds it for an instant.
const ATTEMPTS: u32 = 5;
/// Delay between attempts.
const RETRY_INTERVAL: Duration = Duration::from_millis(20);

/// The most ends of processes in a description. The oldest go first.
const MAX_ENDS: usize = 16;

/// A running gate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Running {
    /// Process id of `tensorgate up`.
    pub pid: u32,
    /// Absolute path of the policy.
    pub policy: PathBuf,
    /// URL of the gate; none while it starts.
    pub listen: Option<String>,
    /// Admin address of the host.
    pub admin: Option<SocketAddr>,
    /// The last unexpected ends of its processes, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<ProcessEnd>,
    /// The user whose file this is. A description that was not read has none.
    #[serde(skip)]
    pub owner: Option<u32>,
}

/// The held lock.
#[derive(Debug)]
pub struct Lock(File);

impl Lock {
    /// Locks a folder, because two gates would overwrite each other's logs.
    pub fn claim(state: &Path) -> Result<Self, Failure> {
        let failed = |error: io::Error| unusable(state, &error);
        let lock = (OpenOptions::new().write(true).create(true).truncate(false))
            .mode(0o600)
            .custom_flags(NOFOLLOW)
            .open(state.join(FILE))
            .map_err(failed)?;
        for attempt in 1..=ATTEMPTS {
            match lock.try_lock() {
                Ok(()) => {
                    lock.set_len(0).map_err(failed)?;
                    return Ok(Self(lock));
                }
                Err(TryLockError::WouldBlock) if attempt < ATTEMPTS => {
                    std::thread::sleep(RETRY_INTERVAL);
                }
                Err(TryLockError::WouldBlock) => break,
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        Err(Failure::Failed(format!(
            "another tensorgate runs in {}: choose another folder with --state",
            state.display()
        )))
    }

    /// Writes the description. On a full disk, the previous one stays.
    pub fn describe(&self, running: &Running) -> io::Result<()> {
        let text = serde_json::to_vec(running)?;
        self.0.write_all_at(&text, 0)?;
        self.0
            .set_len(u64::try_from(text.len()).unwrap_or(u64::MAX))
    }
}

impl Running {
    /// The gate that runs with this state folder. A description that is not written yet, or is
    /// being replaced, is empty.
    pub fn find(state: &Path) -> Result<Option<Self>, Failure> {
        Self::read(state).map_err(|error| unreadable(state, &error))
    }

    /// The gate that runs with this state folder of this user. A gate could not read what another
    /// user writes into it.
    pub fn find_own(state: &Path) -> Result<Option<Self>, Failure> {
        let gate = Self::find(state)?;
        let own = rustix::process::geteuid().as_raw();
        let of_folder = || Some(std::fs::metadata(state).ok()?.uid());
        let owner = gate.as_ref().and_then(|gate| gate.owner).or_else(of_folder);
        if owner.is_some_and(|owner| owner != own) {
            return Err(Failure::Input(
                "the gate's state folder belongs to another user: run this as that user".into(),
            ));
        }
        Ok(gate)
    }

    /// Adds an end. A log that took the place of an older one is that end's no more.
    pub fn add_end(&mut self, end: ProcessEnd) {
        for older in &mut self.ends {
            if older.log == end.log {
                older.log = None;
            }
        }
        if self.ends.len() >= MAX_ENDS {
            self.ends.remove(0);
        }
        self.ends.push(end);
    }

    /// Notes that a process is ready again.
    pub fn set_restarted(&mut self, process: &str, at: String) {
        let mut ends = self.ends.iter_mut().rev();
        if let Some(end) = ends.find(|end| end.process == process) {
            end.again = Some(at);
        }
    }

    /// Whether the gate runs this policy.
    pub fn runs(&self, policy: &Path) -> bool {
        policy.canonicalize().ok() == self.policy.canonicalize().ok()
    }

    /// Why this is not the gate of a policy, if it runs another one.
    pub fn mismatch(&self, policy: &Path) -> Option<String> {
        (!self.runs(policy)).then(|| {
            format!(
                "the gate with this state folder runs {}, not {}",
                self.policy.display(),
                policy.display()
            )
        })
    }

    fn read(state: &Path) -> io::Result<Option<Self>> {
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(NOFOLLOW)
            .open(state.join(FILE));
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
            Err(TryLockError::WouldBlock) => {
                let owner = Some(file.metadata()?.uid());
                let text = at_most(file, MAX_BYTES)?.unwrap_or_default();
                let running: Self = serde_json::from_slice(&text).unwrap_or_default();
                Ok(Some(Self { owner, ..running }))
            }
        }
    }
}

/// A folder that a gate cannot use as its state folder.
pub fn unusable(state: &Path, error: &io::Error) -> Failure {
    Failure::Failed(format!(
        "cannot use {} as the state folder: {}; name another folder with --state",
        state.display(),
        why(error)
    ))
}

/// A state folder that does not show which gate runs.
fn unreadable(state: &Path, error: &io::Error) -> Failure {
    let fix = match error.kind() {
        io::ErrorKind::PermissionDenied => "run this as the user that runs the gate",
        _ => "name another folder with --state",
    };
    Failure::Failed(format!(
        "cannot read the state folder {}: {}; {fix}",
        state.display(),
        why(error)
    ))
}

/// An error about a folder. The system's text for a file in its place, "File exists", misleads.
fn why(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AlreadyExists => "it is not a folder".to_owned(),
        io::ErrorKind::NotADirectory => "a part of the path is not a folder".to_owned(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "tests"
    )]
    use super::*;

    #[test]
    fn the_last_ends_are_kept_and_a_log_belongs_to_one_of_them() {
        let end = |number: usize| ProcessEnd {
            process: ["host", "Envoy"].map(str::to_owned)[number % 2].clone(),
            how: number.to_string(),
            log: Some(format!("{}.log", number % 4)),
            ..ProcessEnd::default()
        };
        let mut running = Running::default();
        for number in 0..MAX_ENDS + 3 {
            running.add_end(end(number));
        }
        let last = MAX_ENDS + 2;
        running.set_restarted("Envoy", "now".to_owned());
        assert_eq!(running.ends.len(), MAX_ENDS);
        let kept: Vec<_> = (running.ends.iter())
            .filter(|it| it.log.is_some())
            .map(|it| it.how.clone())
            .collect();
        let expected: Vec<_> = (last - 3..=last).map(|it| it.to_string()).collect();
        assert_eq!(kept, expected);
        let restarted: Vec<_> = running
            .ends
            .iter()
            .filter(|it| it.again.is_some())
            .collect();
        assert_eq!(restarted.len(), 1);
        assert_eq!(restarted[0].process, "Envoy");
        let text = serde_json::to_string(&running).unwrap();
        let read: Running = serde_json::from_str(&text).unwrap();
        assert_eq!(read.ends, running.ends);
    }

    #[test]
    fn a_folder_that_cannot_be_used_comes_with_a_fix() {
        let state = Path::new("/state");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let exists = io::Error::from(io::ErrorKind::AlreadyExists);
        for (failure, why, fix) in [
            (unusable(state, &denied), "denied", "with --state"),
            (
                unusable(state, &exists),
                "it is not a folder",
                "with --state",
            ),
            (unreadable(state, &denied), "denied", "as the user"),
        ] {
            let text = failure.to_string();
            assert!(text.contains(why) && text.contains(fix), "{text}");
        }
        let file = std::env::current_exe().unwrap_or_default();
        let text = Running::find(&file).err().map(|it| it.to_string());
        let text = text.unwrap_or_default();
        assert!(text.contains("is not a folder; name another"), "{text}");
    }
}
