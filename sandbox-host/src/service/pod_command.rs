//! `tensorgate-host pod COMMAND`: what the kubelet executes in the container of Envoy, whose image
//! may have no shell and no client of HTTP. These commands need no policy and no runtime.

mod drain;
mod ready;

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

/// The argument that selects these commands in place of a host.
const COMMAND: &str = "pod";
/// Largest response that is read, bytes. Envoy's are a few hundred.
const MAX_ANSWER_BYTES: usize = 64 << 10;
/// Bytes of one read.
const READ_BYTES: usize = 4 << 10;

/// Runs a command, if the arguments are `pod COMMAND …`.
///
/// # Errors
/// What went wrong. The kubelet reports it in an event of the pod.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Option<Result<(), String>> {
    if arguments.next()? != COMMAND {
        return None;
    }
    let command = arguments.next().unwrap_or_default();
    let arguments: Vec<OsString> = arguments.collect();
    Some(match command.to_str() {
        Some("drain") => drain::run(&arguments),
        Some("ready") => ready::run(&arguments),
        _ => Err(format!("pod {}: no such command", command.display())),
    })
}

/// The values of `--NAME VALUE` pairs. Each name must be there, once, and no other.
fn values<const N: usize>(
    arguments: &[OsString],
    names: [&str; N],
) -> Result<[OsString; N], String> {
    let usage = || format!("expected {} with a value each", names.join(", "));
    if arguments.len() != N.saturating_mul(2) {
        return Err(usage());
    }
    let mut found = names.map(|_| OsString::new());
    for (name, value) in names.iter().zip(&mut found) {
        let mut pairs = arguments.chunks_exact(2);
        let given = pairs.find_map(|pair| match pair {
            [key, given] if key == name => Some(given),
            _ => None,
        });
        *value = given.ok_or_else(usage)?.clone();
    }
    Ok(found)
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// Status line and headers.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

/// Sends a request of HTTP/1.1 with `Connection: close` to a Unix socket, and reads the response,
/// both within `timeout`. Connecting is not bounded: it waits only where the server accepts
/// nothing.
pub(super) fn exchange(socket: &Path, request: &[u8], timeout: Duration) -> io::Result<Answer> {
    let started = Instant::now();
    let mut stream = UnixStream::connect(socket)?;
    let remaining = || {
        let left = timeout.saturating_sub(started.elapsed());
        // A timeout of zero would be none.
        let left = (!left.is_zero()).then_some(left);
        left.ok_or_else(|| io::Error::from(io::ErrorKind::TimedOut))
    };
    stream.set_write_timeout(Some(remaining()?))?;
    stream.write_all(request)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; READ_BYTES];
    loop {
        stream.set_read_timeout(Some(remaining()?))?;
        let read = stream.read(&mut chunk)?;
        let Some(read) = chunk.get(..read).filter(|read| !read.is_empty()) else {
            break;
        };
        bytes.extend_from_slice(read);
        if bytes.len() > MAX_ANSWER_BYTES {
            return Err(invalid());
        }
    }
    parse(&bytes).ok_or_else(invalid)
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a response of HTTP/1.1")
}

/// Parses a whole response.
fn parse(bytes: &[u8]) -> Option<Answer> {
    const END: &[u8] = b"\r\n\r\n";
    let end = bytes.windows(END.len()).position(|window| window == END)?;
    let (head, rest) = bytes.split_at_checked(end)?;
    let body = rest.strip_prefix(END)?;
    let head = std::str::from_utf8(head).ok()?.to_owned();
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let lines = head.to_ascii_lowercase();
    let is_chunked = lines.contains("\r\ntransfer-encoding: chunked");
    let body = if is_chunked {
        dechunk(body)?
    } else {
        body.to_vec()
    };
    Some(Answer { status, head, body })
}

/// Decodes a chunked body.
fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let (size, after) = rest.split_at_checked(end)?;
        let size = usize::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        let (chunk, after) = after.get(2..)?.split_at_checked(size)?;
        body.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n")?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn words(text: &str) -> Vec<OsString> {
        text.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn only_pod_selects_a_command_and_an_unknown_one_is_an_error() {
        for other in ["", "--bundle pod", "install-filters pod"] {
            assert_eq!(run(words(other).into_iter()), None, "{other:?}");
        }
        for wrong in [
            "pod",
            "pod halt",
            "pod drain",
            "pod drain --seconds",
            "pod ready",
            "pod ready --socket",
        ] {
            let ended = run(words(wrong).into_iter());
            assert!(ended.is_some_and(|ended| ended.is_err()), "{wrong:?}");
        }
    }

    #[test]
    fn each_value_is_given_once_and_nothing_else() {
        let names = ["--a", "--b"];
        assert_eq!(
            values(&words("--b 2 --a 1"), names),
            Ok(["1".into(), "2".into()])
        );
        for wrong in ["", "--a 1", "--a 1 --a 2", "--a 1 --b", "--a 1 --b 2 --c 3"] {
            assert!(values(&words(wrong), names).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_response_is_parsed_with_and_without_chunks() {
        let plain = parse(b"HTTP/1.1 503 Busy\r\na: b\r\n\r\nwait").unwrap();
        assert_eq!((plain.status, &plain.body[..]), (503, &b"wait"[..]));
        assert_eq!(plain.head, "HTTP/1.1 503 Busy\r\na: b");
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = format!("{head}3\r\nab\n\r\na\r\n0123456789\r\n0\r\n\r\n");
        assert_eq!(parse(chunked.as_bytes()).unwrap().body, b"ab\n0123456789");
        for wrong in [
            "3\r\nab",
            "ffffffffffffffff\r\na",
            "x\r\n",
            "1\r\nab0\r\n\r\n",
        ] {
            assert_eq!(
                parse(format!("{head}{wrong}").as_bytes()),
                None,
                "{wrong:?}"
            );
        }
        for wrong in [
            "",
            "HTTP/1.1 200 OK\r\n",
            "HTTP/2 200\r\n\r\n",
            "HTTP/1.1 OK\r\n\r\n",
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
