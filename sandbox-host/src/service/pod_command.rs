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
    let why = "not a complete response of HTTP/1.1";
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// How a response says where its body ends. The end of the connection does not: it may be cut off.
enum Framing {
    Length(usize),
    Chunked,
}

/// Parses a whole response, which must be complete and have nothing behind it.
fn parse(bytes: &[u8]) -> Option<Answer> {
    const END: &[u8] = b"\r\n\r\n";
    let end = bytes.windows(END.len()).position(|window| window == END)?;
    let (head, rest) = bytes.split_at_checked(end)?;
    let body = rest.strip_prefix(END)?;
    let head = std::str::from_utf8(head).ok()?.to_owned();
    let mut lines = head.split("\r\n");
    let status = status(lines.next()?)?;
    let mut framing = None;
    for line in lines {
        let (name, value) = line.split_once(':')?;
        let value = value.trim_matches([' ', '\t']);
        let found = if name.eq_ignore_ascii_case("content-length") {
            Framing::Length(number(value, 10)?)
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            let is_chunked = value.eq_ignore_ascii_case("chunked");
            is_chunked.then_some(Framing::Chunked)?
        } else {
            continue;
        };
        if framing.replace(found).is_some() {
            return None;
        }
    }
    let body = match framing? {
        Framing::Length(length) => (body.len() == length).then(|| body.to_vec())?,
        Framing::Chunked => dechunk(body)?,
    };
    Some(Answer { status, head, body })
}

/// The status of a status line: three digits.
fn status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.1 ")?;
    let (code, _reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let status = number(code, 10).filter(|_| code.len() == 3)?;
    u16::try_from(status).ok()
}

/// A number of digits alone: the standard library also reads a sign.
fn number(text: &str, radix: u32) -> Option<usize> {
    let number = usize::from_str_radix(text, radix).ok();
    number.filter(|_| text.chars().all(|c| c.is_digit(radix)))
}

/// Decodes a chunked body without extensions and trailers, which Envoy does not send here.
fn dechunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = rest.windows(2).position(|window| window == b"\r\n")?;
        let (size, after) = rest.split_at_checked(end)?;
        let size = number(std::str::from_utf8(size).ok()?, 16)?;
        let after = after.get(2..)?;
        if size == 0 {
            return (after == b"\r\n").then_some(body);
        }
        let (chunk, after) = after.split_at_checked(size)?;
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
        let plain = parse(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nwait").unwrap();
        assert_eq!((plain.status, &plain.body[..]), (503, &b"wait"[..]));
        assert_eq!(plain.head, "HTTP/1.1 503 Busy\r\nContent-Length: 4");
        let bare = parse(b"HTTP/1.1 200\r\na: b\r\ncontent-length:0\r\n\r\n").unwrap();
        assert_eq!((bare.status, bare.body.len()), (200, 0));
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = format!("{head}3\r\nab\n\r\na\r\n0123456789\r\n0\r\n\r\n");
        assert_eq!(parse(chunked.as_bytes()).unwrap().body, b"ab\n0123456789");
        for wrong in [
            "3\r\nab",
            "ffffffffffffffff\r\na",
            "x\r\n",
            "1\r\nab0\r\n\r\n",
            // Cut off, or with more than its end.
            "",
            "3\r\nab\n\r\n",
            "3\r\nab\n\r\n0\r\n",
            "0\r\n\r\nHTTP/1.1",
            "+3\r\nab\n\r\n0\r\n\r\n",
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
            "HTTP/2 200\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 2000\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 20 0\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 +20 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1  200 OK\r\ncontent-length: 0\r\n\r\n",
            // No end, one that did not come, or two.
            "HTTP/1.1 200 OK\r\n\r\nready\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nread",
            "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nready\n",
            "HTTP/1.1 200 OK\r\ncontent-length: +6\r\n\r\nready\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 6\r\ncontent-length: 6\r\n\r\nready\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nready\r\ncontent-length: 0\r\n\r\n",
        ] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
