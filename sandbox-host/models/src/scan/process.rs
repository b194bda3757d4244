//! The command's side of a scanner process: starts it, gives it open files, and replaces it when it
//! dies, is late or writes nonsense. One file costs at most its own verdict.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown,
    SocketFlags, SocketType, recv, sendmsg, shutdown, socketpair,
};
use tensorgate_artifact::scan::rules::SCANNER_DIED;
use tensorgate_os_sandbox as os_sandbox;

use super::messages::{FileReport, Hello, MAX_RESPONSE_BYTES, Request, Response, report};
use super::scan_input::{MAX_FILES, ScanInput};
use super::worker;

/// The path of this program's own executable, even if its file was replaced.
const SELF: &str = "/proc/self/exe";
/// The time for a process to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// The time for a file without its length.
const FILE_TIMEOUT: Duration = Duration::from_secs(300);
/// Bytes of a file for which there is one more second.
const BYTES_PER_SECOND: u64 = 100_000_000;
/// Requests after which a process is replaced. A file that took its process over could change the
/// verdicts of at most so many.
const MAX_REQUESTS: u32 = 256;

/// Scans files one by one, in processes of its own.
#[derive(Debug)]
pub struct Scanner {
    process: Option<Process>,
    /// Whether the OS sandbox must be complete.
    required: bool,
}

#[derive(Debug)]
pub(super) struct Process {
    /// `None` if another process has started it. It ends when the socket is closed.
    child: Option<Child>,
    socket: OwnedFd,
    files: u32,
}

/// Why a supervisor has started no other one.
#[derive(Debug)]
pub(super) enum NotStarted {
    /// The operating system has not started it.
    Refused(String),
    /// The supervisor that was asked is of no more use.
    Failed(String),
}

impl Scanner {
    /// Starts the first process. Returns what is missing from its OS sandbox, too.
    ///
    /// # Errors
    /// The process cannot be started, or its OS sandbox is incomplete and `required`.
    pub fn start(required: bool) -> Result<(Self, Option<String>), String> {
        let (process, incomplete) = Process::start(required)?;
        let scanner = Self {
            process: Some(process),
            required,
        };
        Ok((scanner, incomplete))
    }

    /// A scanner that starts its process with the first file.
    pub const fn idle(required: bool) -> Self {
        Self {
            process: None,
            required,
        }
    }

    /// Scans an open file. A file that ends its process is unknown.
    pub fn scan(&mut self, input: &ScanInput<'_>) -> FileReport {
        self.scan_within(input, timeout(input.bytes))
    }

    /// The same within this time.
    pub(super) fn scan_within(&mut self, input: &ScanInput<'_>, allowed: Duration) -> FileReport {
        self.try_scan(input, allowed)
            .unwrap_or_else(|cause| FileReport::unscanned(SCANNER_DIED, &cause))
    }

    fn try_scan(&mut self, input: &ScanInput<'_>, allowed: Duration) -> Result<FileReport, String> {
        let request = serde_json::to_vec(&input.request()).map_err(|error| error.to_string())?;
        // A process that has ended since the last file says nothing of this one.
        let is_usable = |process: &Process| process.files < MAX_REQUESTS && process.is_running();
        let usable = self.process.take().filter(is_usable);
        let mut process = match usable {
            Some(process) => process,
            None => Process::start(self.required)?.0,
        };
        let report = process.report(&input.descriptors(), &request, allowed)?;
        self.process = Some(process);
        Ok(report)
    }
}

impl Process {
    /// Starts a scanner process. Returns what is missing from its OS sandbox, too.
    fn start(required: bool) -> Result<(Self, Option<String>), String> {
        let failed = |cause: String| format!("cannot start a scanner process: {cause}");
        let mut process = Self::spawn(&[worker::ARGUMENT]).map_err(failed)?;
        let hello = process.receive(START_TIMEOUT);
        let hello = hello.map_err(|error| failed(error.to_string()))?;
        let Ok(Hello { incomplete }) = serde_json::from_slice(&hello) else {
            return Err(failed(process.end()));
        };
        match incomplete {
            Some(missing) if required => Err(format!(
                "nothing is scanned: the OS sandbox of the scanner process must be complete, and is not: {missing}"
            )),
            incomplete => Ok((process, incomplete)),
        }
    }

    /// Starts this program with these arguments, and with a socket to it as its standard input.
    pub(super) fn spawn(arguments: &[&str]) -> Result<Self, String> {
        let (socket, child_socket) = connected().map_err(|error| error.to_string())?;
        Ok(Self {
            child: Some(spawn(arguments, child_socket)?),
            socket,
            files: 0,
        })
    }

    /// A process that a test plays at the other end of the socket.
    #[cfg(test)]
    pub(super) fn played() -> Result<(Self, OwnedFd), Errno> {
        let (socket, its_socket) = connected()?;
        let process = Self {
            child: None,
            socket,
            files: 0,
        };
        Ok((process, its_socket))
    }

    /// Has this process, a supervisor, start another one.
    pub(super) fn start_another(&self) -> Result<Self, NotStarted> {
        let refused = |error: Errno| NotStarted::Refused(error.to_string());
        let failed = |error: Errno| NotStarted::Failed(error.to_string());
        let (socket, its_socket) = connected().map_err(refused)?;
        let request = serde_json::to_vec(&Request::StartAnother);
        let request = request.map_err(|error| NotStarted::Refused(error.to_string()))?;
        self.send(&[its_socket.as_fd()], &request).map_err(failed)?;
        let response = self.receive(START_TIMEOUT).map_err(failed)?;
        match serde_json::from_slice(&response) {
            Ok(Response::Started) => Ok(Self {
                child: None,
                socket,
                files: 0,
            }),
            Ok(Response::NotStarted(cause)) => Err(NotStarted::Refused(cause)),
            Ok(_) | Err(_) => Err(NotStarted::Failed("it did not answer".to_owned())),
        }
    }

    /// Whether the process runs. Between two files it sends nothing, so anything that can be
    /// received is its end.
    pub(super) fn is_running(&self) -> bool {
        let mut byte = [0_u8];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        let received = retry_on_intr(|| recv(&self.socket, byte.as_mut_slice(), flags));
        matches!(received, Err(Errno::AGAIN))
    }

    /// Sends open files with a message and receives the report on the first. A process that fails
    /// at that is of no more use.
    pub(super) fn report(
        &mut self,
        files: &[BorrowedFd<'_>],
        message: &[u8],
        allowed: Duration,
    ) -> Result<FileReport, String> {
        self.files = self.files.saturating_add(1);
        let response = self
            .send(files, message)
            .and_then(|()| self.receive(allowed));
        let response = match response {
            Ok(response) if !response.is_empty() => response,
            Err(Errno::AGAIN) => {
                return Err(format!("not scanned within {} s", allowed.as_secs()));
            }
            Ok(_) | Err(_) => {
                return Err(format!("its scanner process ended: {}", self.end()));
            }
        };
        report(&response).ok_or_else(|| "its scanner process wrote no report".to_owned())
    }

    /// Sends open files with a message, which is not empty.
    fn send(&self, files: &[BorrowedFd<'_>], message: &[u8]) -> Result<(), Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(files)) {
            return Err(Errno::NOBUFS);
        }
        let buffers = [IoSlice::new(message)];
        retry_on_intr(|| sendmsg(&self.socket, &buffers, &mut control, SendFlags::NOSIGNAL))?;
        Ok(())
    }

    /// Receives one message. It is empty if the process has ended.
    fn receive(&self, allowed: Duration) -> Result<Vec<u8>, Errno> {
        set_socket_timeout(&self.socket, Timeout::Recv, Some(allowed))?;
        let mut message = vec![0; MAX_RESPONSE_BYTES];
        let (_, length) =
            retry_on_intr(|| recv(&self.socket, message.as_mut_slice(), RecvFlags::TRUNC))?;
        if length > message.len() {
            return Err(Errno::MSGSIZE);
        }
        message.truncate(length);
        Ok(message)
    }

    /// Ends the process; returns how it ended. One that has ended by itself keeps its own reason.
    fn end(&mut self) -> String {
        let Some(child) = &mut self.child else {
            return "its connection was closed".to_owned();
        };
        // The OS sandbox forbids signals to a process that was started before it. Such a process
        // ends by itself once its connection is closed, at the latest after its file.
        let ended = if child.kill().is_ok() {
            child.wait().map(Some)
        } else {
            let _ = shutdown(&self.socket, Shutdown::Both);
            child.try_wait()
        };
        match ended {
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "its connection was closed".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Two sockets that are connected.
fn connected() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
}

/// Starts this program with these arguments, and with a socket as its standard input.
pub(super) fn spawn(arguments: &[&str], socket: OwnedFd) -> Result<Child, String> {
    os_sandbox::inherit_none(
        Command::new(SELF)
            .args(arguments)
            .env_clear()
            .stdin(Stdio::from(socket))
            .stdout(Stdio::null())
            // A file may make its scanner write what it wants.
            .stderr(Stdio::null()),
    )
    .spawn()
    .map_err(|error| error.to_string())
}

/// The time that a file of this length may take.
pub(super) fn timeout(bytes: u64) -> Duration {
    let more = Duration::from_secs(bytes.div_euclid(BYTES_PER_SECOND));
    FILE_TIMEOUT.saturating_add(more)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::fs::File;

    use tensorgate_artifact::scan::Verdict;

    use super::*;

    #[test]
    fn a_file_whose_scanner_process_dies_is_unknown() {
        // Here this program's own executable is that of the tests, which ends at once.
        let file = File::open("/dev/null").unwrap();
        let input = ScanInput {
            file: &file,
            name: "a.safetensors",
            bytes: 0,
            indexes: &[],
        };
        let report = Scanner::idle(false).scan(&input);
        assert_eq!(report.verdict, Verdict::Unknown);
        let finding = report.findings.first().unwrap();
        assert_eq!(finding.rule, SCANNER_DIED.name);
        assert!(report.has_failed());
        assert!(finding.detail.contains("exit status"), "{finding:?}");
    }

    #[test]
    fn a_process_that_was_killed_is_noticed_before_the_next_file() {
        let (socket, child_socket) = connected().unwrap();
        let child = Command::new("cat")
            .stdin(Stdio::from(child_socket))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Process {
            child: Some(child),
            socket,
            files: 1,
        };
        assert!(process.is_running());
        process.end();
        assert!(!process.is_running());
    }

    #[test]
    fn a_longer_file_has_more_time() {
        assert_eq!(timeout(1_000), Duration::from_secs(300));
        assert_eq!(timeout(20_000_000_000), Duration::from_secs(500));
    }
}
