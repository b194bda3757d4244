//! `pod ready`: the readiness probe of Envoy's container ([`tensorgate_wire::readiness`]). It fails
//! unless a request passes through a loaded filter to a host with the filter's key.

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use tensorgate_wire::readiness::PATH;

use super::{Answer, exchange, values};

/// Timeout of the request. The kubelet's own is longer, so that an event of the pod has the cause.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the listener of the probe.
///
/// # Errors
/// The arguments are wrong, or why the pod is not ready.
pub(super) fn run(arguments: &[OsString]) -> Result<(), String> {
    let [socket] = values(arguments, ["--socket"])?;
    let request = format!("GET {PATH} HTTP/1.1\r\nhost: ready\r\nconnection: close\r\n\r\n");
    let answer = exchange(Path::new(&socket), request.as_bytes(), TIMEOUT).map_err(|error| {
        // Envoy rejects this listener if it cannot load the filter at its start.
        format!(
            "no answer at {}: {error}; Envoy's log says why",
            socket.display()
        )
    })?;
    verdict(&answer)
}

/// What an answer of the probe says.
fn verdict(answer: &Answer) -> Result<(), String> {
    let cause = match answer.status {
        200 => return Ok(()),
        // Envoy's answer in place of a filter without a configuration has no body, and so has that
        // of a filter whose VM has failed.
        500 | 503 if answer.body.is_empty() => "the filter is not loaded: Envoy's log says why",
        401 | 503 if answer.body.starts_with(b"{") => {
            "the host has another context key than the filter, or another clock"
        }
        503 | 504 => "the host does not answer",
        _ => "unexpected: is this the socket of the probe?",
    };
    Err(format!("the probe got {}: {cause}", answer.status))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn only_an_answer_of_the_host_is_ready() {
        let verdict_of = |status, body: &[u8]| {
            verdict(&Answer {
                status,
                head: String::new(),
                body: body.to_vec(),
            })
        };
        assert_eq!(verdict_of(200, b"ready\n"), Ok(()));
        for (status, body, expected) in [
            (500, &b""[..], "the filter is not loaded"),
            (503, b"", "the filter is not loaded"),
            (
                503,
                br#"{"type":"urn:tensorgate:overloaded"}"#,
                "another context key",
            ),
            (
                401,
                br#"{"type":"urn:tensorgate:unauthenticated"}"#,
                "another context key",
            ),
            (503, b"upstream connect error", "the host does not answer"),
            (504, b"upstream request timeout", "the host does not answer"),
            (404, b"", "unexpected"),
            (204, b"", "unexpected"),
        ] {
            let cause = verdict_of(status, body).unwrap_err();
            assert!(cause.contains(expected), "{status}: {cause}");
        }
    }

    #[test]
    fn the_probe_asks_its_socket_and_fails_without_one() {
        let socket = std::env::temp_dir().join(format!("tg-ready-{}.sock", std::process::id()));
        drop(std::fs::remove_file(&socket));
        let arguments = [OsString::from("--socket"), socket.clone().into()];
        assert!(run(&arguments).unwrap_err().contains("no answer"));
        let listener = UnixListener::bind(&socket).unwrap();
        let serving = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 256];
            let bytes = stream.read(&mut request).unwrap();
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nready\n";
            stream.write_all(answer).unwrap();
            request.get(..bytes).unwrap().to_vec()
        });
        assert_eq!(run(&arguments), Ok(()));
        assert!(
            serving
                .join()
                .unwrap()
                .starts_with(b"GET /tensorgate/ready HTTP/1.1\r\n")
        );
        assert!(run(&[]).is_err());
        std::fs::remove_file(socket).unwrap();
    }
}
