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
use tensorgate_artifact::scan::external_data::scan_data_file;
use tensorgate_artifact::scan::{Limits, Report, detect};
use tensorgate_os_sandbox as os_sandbox;

use super::known_indexes::KnownIndexes;
use super::messages::{FileRequest, Hello, MAX_REQUEST_BYTES, Response};
use super::scan_input::MAX_FILES;

/// The first argument of a scanner process.
pub(crate) const ARGUMENT: &str = "model-scanner";
/// Memory that it may write, bytes: four times what a scan needs. The tensors of known indexes take
/// as much as one scan. Memory that is only reserved, and the program itself, do not count.
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
    let mut known = KnownIndexes::default();
    while let Some(received) = next_files(&socket)? {
        let response = match scanned(received, &mut known, &limits) {
            Ok(report) => Response::Scanned(report.into()),
            Err(error) => Response::Unreadable(error.to_string()),
        };
        respond(&socket, &response)?;
    }
    Ok(())
}

/// Scans a file, with its indexes if there are any.
fn scanned(received: Received, known: &mut KnownIndexes, limits: &Limits) -> io::Result<Report> {
    let Received {
        mut file,
        indexes,
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
    let indexes = known.open(kinds.into_iter().zip(indexes));
    let report = scan_data_file(&mut file, &name, indexes, limits);
    known.close();
    report
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::{Seek as _, SeekFrom};
    use std::path::Path;

    use tensorgate_artifact::scan::Verdict;
    use tensorgate_artifact::scan::external_data::IndexKind;

    use super::*;
    use crate::files::file_state::{settled_state, wait_for_next_tick};

    /// A model with two floats at the beginning of `a` and of `b`.
    const MODEL: &[u8] = b"\x08\x08\x3a\x30\
        *\x16\x08\x02\x10\x01p\x01j\x0e\x0a\x08location\x12\x02wa\
        *\x16\x08\x02\x10\x01p\x01j\x0e\x0a\x08location\x12\x02wb";
    /// A position beyond the end of the model. One that reads the file leaves another.
    const MARK: u64 = 1 << 20;

    /// The verdict on a data file beside the model, and whether the model was read for it.
    fn scan(data: &Path, model: &Path, known: &mut KnownIndexes) -> (Verdict, bool) {
        let name = data.file_name().unwrap().to_str().unwrap();
        let request = FileRequest::new(name, vec![IndexKind::Onnx]);
        let mut index = File::open(model).unwrap();
        index.seek(SeekFrom::Start(MARK)).unwrap();
        let received = Received {
            file: File::open(data).unwrap(),
            // Both have one position.
            indexes: vec![index.try_clone().unwrap()],
            message: serde_json::to_string(&request).unwrap(),
        };
        let report = scanned(received, known, &Limits::default()).unwrap();
        (report.verdict, index.stream_position().unwrap() != MARK)
    }

    #[test]
    fn an_index_is_read_once_for_all_data_files_until_it_changes() {
        let folder = std::env::temp_dir().join(format!("tg-known-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [model, first, second] = ["m.onnx", "wa", "wb"].map(|name| folder.join(name));
        std::fs::write(&model, MODEL).unwrap();
        std::fs::write(&first, [0xa5_u8; 8]).unwrap();
        std::fs::write(&second, [0xa5_u8; 8]).unwrap();
        let mut known = KnownIndexes::default();
        // It could still change and keep its state, unless a tick has passed already.
        let (verdict, _) = scan(&first, &model, &mut known);
        assert_eq!(verdict, Verdict::Safe);
        while settled_state(&File::open(&model).unwrap()).is_none() {
            wait_for_next_tick();
        }
        let mut known = KnownIndexes::default();
        assert_eq!(scan(&first, &model, &mut known), (Verdict::Safe, true));
        assert_eq!(scan(&second, &model, &mut known), (Verdict::Safe, false));
        assert_eq!(scan(&first, &model, &mut known), (Verdict::Safe, false));
        // The tensors have other files.
        let changed = MODEL
            .iter()
            .map(|byte| if *byte == b'w' { b'v' } else { *byte });
        std::fs::write(&model, changed.collect::<Vec<_>>()).unwrap();
        assert_eq!(scan(&first, &model, &mut known), (Verdict::Unknown, true));
        let _ = std::fs::remove_dir_all(&folder);
    }
}
