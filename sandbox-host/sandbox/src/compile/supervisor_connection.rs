//! The host's connection to a supervisor of compilers: requests with numbers, and their answers in
//! any order. Of the threads that wait for answers, one at a time reads for all.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::mode::Mode;
use crate::fixed_limits::MAX_COMPILED_BYTES;

/// The status of an answer with compiled code.
pub(super) const STATUS_COMPILED: u8 = 0;
/// The status of an answer with an error message.
pub(super) const STATUS_REJECTED: u8 = 1;

/// The connection to a supervisor.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// The pipe for requests, and the number of the next one. `None` after a protocol error.
    input: Mutex<(Option<ChildStdin>, u64)>,
    responses: Mutex<Responses>,
    /// Signals that a response was read.
    read: Condvar,
    child: Mutex<Child>,
}

/// The worker's output, or an error message.
pub(super) type CompileResult = Result<Vec<u8>, String>;

/// The received responses. One waiting thread at a time reads for all.
#[derive(Debug)]
struct Responses {
    /// `None` while a thread reads.
    output: Option<ChildStdout>,
    /// The responses that were not collected yet.
    received: HashMap<u64, CompileResult>,
    /// The protocol error that ended the connection.
    failure: Option<String>,
}

impl Supervisor {
    /// Starts a supervisor.
    pub(super) fn start(program: &Path, argument: &str, mode: Mode) -> std::io::Result<Self> {
        let mut child = Command::new(program)
            .arg(argument)
            .args(mode.argument())
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Self {
            input: Mutex::new((input, 0)),
            responses: Mutex::new(Responses {
                output,
                received: HashMap::new(),
                failure: None,
            }),
            read: Condvar::new(),
            child: Mutex::new(child),
        })
    }

    /// The answer to a request. The error is why there will be none from this supervisor.
    pub(super) fn answer(&self, file: &[u8]) -> Result<CompileResult, String> {
        let number = self.send_request(file).map_err(|error| error.to_string())?;
        let mut answers = self.responses();
        loop {
            if let Some(answer) = answers.received.remove(&number) {
                return Ok(answer);
            }
            if let Some(failure) = &answers.failure {
                return Err(failure.clone());
            }
            let Some(mut output) = answers.output.take() else {
                answers = self
                    .read
                    .wait(answers)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            drop(answers);
            let response = read_response(&mut output);
            answers = self.responses();
            match response {
                Ok((job_id, answer)) => {
                    answers.received.insert(job_id, answer);
                    answers.output = Some(output);
                }
                Err(error) => answers.failure = Some(error.to_string()),
            }
            self.read.notify_all();
        }
    }

    /// Sends a request and returns its number.
    fn send_request(&self, file: &[u8]) -> std::io::Result<u64> {
        // A panic here may leave a partial message in the pipe.
        let mut input_and_number = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, next) = &mut *input_and_number;
        let number = *next;
        *next = next.wrapping_add(1);
        let Some(pipe) = input else {
            return Err(std::io::Error::other("its input is closed"));
        };
        let written = (pipe.write_all(&number.to_le_bytes()))
            .and_then(|()| send(pipe, file))
            .and_then(|()| pipe.flush());
        if written.is_err() {
            *input = None;
        }
        written.map(|()| number)
    }

    fn responses(&self) -> MutexGuard<'_, Responses> {
        // No code panics while it holds this lock.
        self.responses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        // Closing its input also ends the supervisor. It is not waited for: it may be frozen, or
        // get no signal from behind the OS sandbox.
        let child = self.child.get_mut().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.try_wait();
    }
}

/// Reads the next response and the number of its request.
fn read_response(output: &mut ChildStdout) -> std::io::Result<(u64, CompileResult)> {
    let (mut number, mut status) = ([0; 8], [0]);
    output.read_exact(&mut number)?;
    output.read_exact(&mut status)?;
    let answer = receive(output, MAX_COMPILED_BYTES)?
        .ok_or_else(|| std::io::Error::other("it exited before its answer was complete"))?;
    let answer = match status {
        [STATUS_COMPILED] => Ok(answer),
        _ => Err(String::from_utf8_lossy(&answer).into_owned()),
    };
    Ok((u64::from_le_bytes(number), answer))
}

/// Writes a length and the bytes.
pub(super) fn send(to: &mut impl Write, bytes: &[u8]) -> std::io::Result<()> {
    let count = u64::try_from(bytes.len()).map_err(std::io::Error::other)?;
    to.write_all(&count.to_le_bytes())?;
    to.write_all(bytes)
}

/// Reads a length and the bytes. Returns `None` at the end of the input.
pub(super) fn receive(from: &mut impl Read, max_bytes: usize) -> std::io::Result<Option<Vec<u8>>> {
    let mut count = [0; 8];
    match from.read_exact(&mut count) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let count = u64::from_le_bytes(count);
    if usize::try_from(count).map_or(true, |count| count > max_bytes) {
        return Err(std::io::Error::other(format!(
            "{count} bytes, at most {max_bytes} are allowed"
        )));
    }
    let mut bytes = Vec::new();
    let read = from.take(count).read_to_end(&mut bytes)?;
    if u64::try_from(read).ok() == Some(count) {
        Ok(Some(bytes))
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}
