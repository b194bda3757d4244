//! A bounded request over HTTP or HTTPS, for metadata. Redirects, other statuses than 200 and
//! longer responses are errors. Each exchange has a deadline, however many reads it takes, and all
//! of a command together have another.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::time::{Duration, Instant};

use tensorgate_cli_common::Failure;
use tensorgate_policy::address::{AddressClass, classify};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use super::trust::Trust;
use super::{MAX_METADATA_BYTES, bad};

/// How long an exchange may take, from connecting to the last byte of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long all answers to one command may take. A large repository has a thousand models, with two
/// answers each.
const ALL_ANSWERS: Duration = Duration::from_secs(120);
/// Maximum number of header fields in a response.
const MAX_HEADERS: usize = 64;

/// A server, and until when it must have answered.
#[derive(Clone, Copy)]
pub struct Server<'a> {
    /// Its URL.
    pub base: &'a str,
    /// Certificate authorities that replace the system's.
    pub ca: Option<&'a Path>,
    /// The deadline of all its answers.
    pub deadline: Deadline,
    /// The addresses that it may have.
    pub reach: Reach,
}

/// Addresses that a server may have. All of a name must be of this kind, and the one that was
/// checked is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Any address: a person has named the server.
    Any,
    /// Public addresses.
    Public,
    /// Public and private ones, never those of a cloud's metadata and others with a special use.
    Private,
}

impl Reach {
    /// Whether a document from elsewhere may lead to private addresses.
    pub const fn of_documents(allow_private: bool) -> Self {
        if allow_private {
            Self::Private
        } else {
            Self::Public
        }
    }

    /// Checks an address.
    fn check(self, address: SocketAddr) -> io::Result<()> {
        let (what, hint) = match (self, classify(address.ip())) {
            (Self::Any, _)
            | (_, AddressClass::Public)
            | (Self::Private, AddressClass::Private(_)) => return Ok(()),
            (Self::Public, AddressClass::Private(what)) => {
                (what, "; allow it with --allow-private")
            }
            (_, AddressClass::Never(what)) => (what, ""),
        };
        let why = format!(
            "has the address {}, which is not public ({what}){hint}",
            address.ip()
        );
        Err(io::Error::new(ErrorKind::PermissionDenied, why))
    }
}

/// The addresses of `host:port`, if all of them may be connected to.
fn addresses(address: &str, reach: Reach) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = address.to_socket_addrs()?.collect();
    found.iter().try_for_each(|address| reach.check(*address))?;
    Ok(found)
}

/// Checks the addresses of a URL's server without connecting to it.
pub fn check_reach(url: &str, reach: Reach) -> Result<(), Failure> {
    let parts = UrlParts::parse(url)?;
    match addresses(&parts.address, reach) {
        Ok(found) if found.is_empty() => Err(bad(url, "has no address")),
        Ok(_) => Ok(()),
        Err(error) => Err(bad(url, &error.to_string())),
    }
}

/// TLS settings, and the name that the server's certificate must have.
type Tls = (Trust, ServerName<'static>);

/// When the server must have answered everything, however many requests and reads that takes.
#[derive(Clone, Copy)]
pub struct Deadline {
    started: Instant,
    all: Duration,
}

impl Deadline {
    /// The deadline of a command that starts now.
    pub fn start() -> Self {
        Self::within(ALL_ANSWERS)
    }

    fn within(all: Duration) -> Self {
        let started = Instant::now();
        Self { started, all }
    }

    /// The deadline of one exchange that starts now.
    pub fn of_exchange(self) -> Self {
        let left = self.all.saturating_sub(self.started.elapsed());
        Self::within(left.min(TIMEOUT))
    }

    /// How long the next read, write or connection may take.
    ///
    /// # Errors
    /// The time is over.
    pub fn left(self) -> io::Result<Duration> {
        let left = self.all.saturating_sub(self.started.elapsed());
        if left.is_zero() {
            return Err(late());
        }
        Ok(left)
    }
}

fn late() -> io::Error {
    let why = "the server answers too slowly; models can be imported one by one, or from files";
    io::Error::new(ErrorKind::TimedOut, why)
}

/// A connection whose every wait ends at the deadline.
struct Timed {
    stream: TcpStream,
    deadline: Deadline,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.deadline.left()?))?;
        self.stream.read(buffer).map_err(in_time)
    }
}

impl Write for Timed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.deadline.left()?))?;
        self.stream.write(bytes).map_err(in_time)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// An error that says what a timeout of a socket means.
fn in_time(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => late(),
        _ => error,
    }
}

/// A response as it came.
struct Answer {
    bytes: Vec<u8>,
    /// Whether the server ended it, instead of the connection.
    ended: bool,
}

/// Whether a source is a URL rather than a file.
pub fn is_url(source: &str) -> bool {
    source.contains("://")
}

/// Returns the body of a 200 response.
pub fn get(server: &Server<'_>, path: &str) -> Result<Vec<u8>, Failure> {
    send_request("GET", server, path)
}

/// The same for a POST request without a body.
pub fn post(server: &Server<'_>, path: &str) -> Result<Vec<u8>, Failure> {
    send_request("POST", server, path)
}

/// The server of a URL, and what is requested there.
struct UrlParts<'u> {
    tls: bool,
    authority: &'u str,
    host: &'u str,
    /// `host:port`.
    address: String,
    /// Without the first slash.
    path: &'u str,
}

impl<'u> UrlParts<'u> {
    fn parse(url: &'u str) -> Result<Self, Failure> {
        let (rest, default_port) = if let Some(rest) = url.strip_prefix("https://") {
            (rest, 443)
        } else if let Some(rest) = url.strip_prefix("http://") {
            (rest, 80)
        } else {
            let why = "only http:// and https:// are supported; for other servers, save the metadata to a file";
            return Err(bad(url, why));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let named = !authority.is_empty()
            && authority
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte));
        let sent = path.bytes().all(|byte| byte.is_ascii_graphic());
        if !named || !sent {
            return Err(bad(url, "is not a valid URL"));
        }
        let (host, address) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, authority.to_owned()),
            _ => (authority, format!("{authority}:{default_port}")),
        };
        Ok(Self {
            tls: default_port == 443,
            authority,
            host,
            address,
            path,
        })
    }
}

fn send_request(method: &str, server: &Server<'_>, path: &str) -> Result<Vec<u8>, Failure> {
    let length = match method {
        "POST" => "content-length: 0\r\n",
        _ => "",
    };
    let url = format!("{}{path}", server.base.trim_end_matches('/'));
    let UrlParts {
        tls,
        authority,
        host,
        address,
        path,
    } = UrlParts::parse(&url)?;
    let tls = if tls {
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| bad(&url, &error.to_string()))?;
        let trust = Trust::from_file(server.ca).map_err(Failure::Input)?;
        Some((trust, name))
    } else {
        None
    };
    let answer = exchange(
        &address,
        tls.as_ref(),
        server,
        format!("{method} /{path} HTTP/1.1\r\nhost: {authority}\r\naccept: application/json\r\n{length}connection: close\r\n\r\n")
            .as_bytes(),
    )
    .map_err(|error| {
        let error = error.to_string();
        let untrusted = tls.is_some() && server.ca.is_none() && error.contains("certificate");
        let hint = if untrusted { "; name its authority with --ca FILE" } else { "" };
        bad(&url, &format!("{error}{hint}"))
    })?;
    body(&answer).map_err(|why| bad(&url, &why))
}

fn exchange(
    address: &str,
    tls: Option<&Tls>,
    server: &Server<'_>,
    question: &[u8],
) -> io::Result<Answer> {
    let deadline = server.deadline.of_exchange();
    let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
    for address in addresses(address, server.reach)? {
        let stream = match TcpStream::connect_timeout(&address, deadline.left()?) {
            Ok(stream) => Timed { stream, deadline },
            Err(error) => {
                last = error;
                continue;
            }
        };
        let Some((trust, name)) = tls else {
            return ask(stream, question);
        };
        let connection = ClientConnection::new(trust.config(), name.clone());
        let connection = connection.map_err(io::Error::other)?;
        return ask(StreamOwned::new(connection, stream), question);
    }
    Err(last)
}

fn ask(mut stream: impl Read + Write, question: &[u8]) -> io::Result<Answer> {
    stream.write_all(question)?;
    stream.flush()?;
    let mut bytes = Vec::new();
    // Twice the limit, because chunk framing and header fields count too.
    let read = stream
        .take(MAX_METADATA_BYTES.saturating_mul(2))
        .read_to_end(&mut bytes);
    match read {
        Ok(_) => Ok(Answer { bytes, ended: true }),
        // Many servers close a TLS connection without the message that ends it.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof && !bytes.is_empty() => {
            let ended = false;
            Ok(Answer { bytes, ended })
        }
        Err(error) => Err(error),
    }
}

fn body(answer: &Answer) -> Result<Vec<u8>, String> {
    let bytes = answer.bytes.as_slice();
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Err("the answer is cut short".into()),
        Err(error) => return Err(format!("the answer is not HTTP: {error}")),
    };
    if head.code != Some(200) {
        return Err(format!(
            "responded with status {}",
            head.code.unwrap_or_default()
        ));
    }
    let field = |name: &str| {
        head.headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name))
            .map(|field| String::from_utf8_lossy(field.value).into_owned())
    };
    let rest = bytes.get(length..).unwrap_or_default();
    let body = match (field("transfer-encoding"), field("content-length")) {
        (Some(coding), _) if coding.eq_ignore_ascii_case("chunked") => dechunk(rest)?,
        (Some(coding), _) => return Err(format!("transfer-encoding {coding:?} is not supported")),
        (None, Some(length)) => {
            let length = length
                .parse::<usize>()
                .map_err(|_| "the length is not a number")?;
            rest.get(..length)
                .ok_or("the answer is cut short")?
                .to_vec()
        }
        (None, None) if answer.ended => rest.to_vec(),
        (None, None) => return Err("the answer is cut short".into()),
    };
    if u64::try_from(body.len()).is_ok_and(|bytes| bytes <= MAX_METADATA_BYTES) {
        Ok(body)
    } else {
        Err(format!(
            "the answer is larger than {MAX_METADATA_BYTES} bytes"
        ))
    }
}

fn dechunk(mut rest: &[u8]) -> Result<Vec<u8>, String> {
    let cut = || "the answer is cut short".to_owned();
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(rest) else {
            return Err(cut());
        };
        if size == 0 {
            return Ok(body);
        }
        let size = usize::try_from(size).map_err(|_| cut())?;
        let (data, after) = rest
            .get(start..)
            .and_then(|piece| piece.split_at_checked(size))
            .ok_or_else(cut)?;
        body.extend_from_slice(data);
        rest = after.strip_prefix(b"\r\n").ok_or_else(cut)?;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_server_that_answers_byte_by_byte_is_given_up_at_the_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                while stream.write_all(b" ").is_ok() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let server = Server {
            base: &base,
            ca: None,
            deadline: Deadline::within(Duration::from_millis(100)),
            reach: Reach::Any,
        };
        let started = Instant::now();
        for path in ["/v2/models/a", "/v2/models/b"] {
            let fault = get(&server, path).unwrap_err().to_string();
            assert!(fault.contains("too slowly"), "{fault}");
        }
        assert!(started.elapsed() < TIMEOUT, "both together");
    }

    #[test]
    fn an_exchange_ends_in_time_and_with_the_command() {
        let started = Instant::now();
        let all = Deadline {
            started,
            all: ALL_ANSWERS,
        };
        assert!(all.of_exchange().left().unwrap() <= TIMEOUT);
        let nearly_over = Deadline {
            started,
            all: Duration::from_secs(1),
        };
        assert!(nearly_over.of_exchange().left().unwrap() <= nearly_over.all);
        let over = Deadline {
            started,
            all: Duration::ZERO,
        };
        assert!(over.of_exchange().left().is_err());
    }

    #[test]
    fn a_document_from_elsewhere_leads_to_no_address_with_a_special_use() {
        for (url, public, private) in [
            ("https://8.8.8.8/k", true, true),
            ("https://[2606:4700::1]:8443/k", true, true),
            ("https://127.0.0.1/k", false, true),
            ("https://10.1.2.3:8443/k", false, true),
            ("https://[::1]/k", false, true),
            ("https://[fd00::1]/k", false, true),
            ("https://169.254.169.254/latest/meta-data", false, false),
            ("https://[fd00:ec2::254]/k", false, false),
            ("https://[::ffff:10.0.0.1]/k", false, false),
            ("https://0.0.0.0/k", false, false),
        ] {
            assert_eq!(check_reach(url, Reach::Public).is_ok(), public, "{url}");
            assert_eq!(check_reach(url, Reach::Private).is_ok(), private, "{url}");
        }
    }
}
