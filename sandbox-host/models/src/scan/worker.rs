//! A scanner process: gets open files over a socket, scans them, and can do nothing else.
//!
//! It is this program, started with an argument that no verb has. It opens no file, starts no
//! program and has no network. Its memory is bounded; its time is bounded by the command, which
//! kills it.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSliceMut, Stdin};
use std::mem::MaybeUninit;
use std::process::ExitCode;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendFlags, recvmsg, send};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use serde::Serialize;
use tensorgate_artifact::scan::external_data::{IndexKind, scan_data_file};
use tensorgate_artifact::scan::{Input, Limits, Report, detect};
use tensorgate_os_sandbox as os_sandbox;

use super::messages::{FileRequest, Hello, MAX_REQUEST_BYTES, Response};
use super::scan_input::MAX_FILES;

/// The first argument of a scanner process.
pub(crate) const ARGUMENT: &str = "model-scanner";
/// Memory that it may write, bytes: four times what a scan needs. Memory that is only reserved, and
/// the program itself, do not count.
const MEMORY_BYTES: u64 = 256 << 20;

/// Runs a scanner process, if the arguments ask for one.
pub fn scanner_process(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    (arguments.next()? == ARGUMENT).then(|| match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

/// Scans files until the command closes the socket, which is this process's standard input.
fn serve() -> Result<(), Errno> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    for (resource, most) in [
        (Resource::Data, MEMORY_BYTES),
        (Resource::Core, 0),
        (Resource::Fsize, 0),
    ] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)?;
    }
    let descriptors = os_sandbox::inherited();
    let mut sandbox = os_sandbox::apply_to_compiler();
    sandbox.parts.push(("descriptors", descriptors));
    let socket = io::stdin();
    let incomplete = (!sandbox.is_full()).then(|| sandbox.describe());
    respond(&socket, &Hello { incomplete })?;
    let limits = Limits::default();
    while let Some(received) = next_files(&socket)? {
        let response = match scanned(received, &limits) {
            Ok(report) => Response::Scanned(report.into()),
            Err(error) => Response::Unreadable(error.to_string()),
        };
        respond(&socket, &response)?;
    }
    Ok(())
}

/// Scans a file, with its indexes if there are any.
fn scanned(received: Received, limits: &Limits) -> io::Result<Report> {
    let Received {
        mut file,
        mut indexes,
        message,
    } = received;
    let FileRequest {
        name,
        indexes: kinds,
    } = serde_json::from_str(&message)?;
    if kinds.len() != indexes.len() {
        return Err(io::Error::other("other files came than were named"));
    }
    if kinds.is_empty() {
        return detect::scan(&mut file, &name, limits);
    }
    let mut inputs: Vec<(IndexKind, &mut dyn Input)> = Vec::new();
    for (kind, index) in kinds.into_iter().zip(&mut indexes) {
        inputs.push((kind, index));
    }
    scan_data_file(&mut file, &name, &mut inputs, limits)
}

/// Sends one message.
pub(super) fn respond(socket: &Stdin, message: &impl Serialize) -> Result<(), Errno> {
    let bytes = serde_json::to_vec(message).map_err(|_| Errno::INVAL)?;
    retry_on_intr(|| send(socket, &bytes, SendFlags::NOSIGNAL))?;
    Ok(())
}

/// What came with one message.
pub(super) struct Received {
    /// The first file.
    pub file: File,
    /// The files behind it.
    pub indexes: Vec<File>,
    /// The message.
    pub message: String,
}

/// Waits for the next files and the message with them. `None` if there are no more.
pub(super) fn next_files(socket: &Stdin) -> Result<Option<Received>, Errno> {
    let mut message = vec![0; MAX_REQUEST_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FILES))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = retry_on_intr(|| {
        let mut buffers = [IoSliceMut::new(&mut message)];
        recvmsg(socket, &mut buffers, &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut files = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            files.extend(descriptors.map(File::from));
        }
    }
    let message = message.get(..received.bytes).unwrap_or_default();
    let mut files = files.into_iter();
    Ok(files.next().map(|file| Received {
        file,
        indexes: files.collect(),
        message: String::from_utf8_lossy(message).into_owned(),
    }))
}
