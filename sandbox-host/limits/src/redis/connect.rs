//! A connection to Redis: over TLS if the policy names an authority, authenticated, and with the
//! scripts loaded.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;
use tensorgate_net::pem::{MAX_FILE_BYTES, bytes};
use tensorgate_policy::policy::Redis as Rule;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::resp::{Reply, ReplyFault, command, take};

/// The longest password in bytes.
const MAX_PASSWORD_BYTES: usize = 4_096;
/// The length of a script's name: a SHA-1 digest in hex, as Redis names scripts.
const SCRIPT_NAME_BYTES: usize = 40;

/// The scripts that charge limits, settle reservations and exchange blocks.
const SCRIPTS: [&str; 3] = [
    concat!(include_str!("../state.lua"), include_str!("../charge.lua")),
    concat!(include_str!("../state.lua"), include_str!("../settle.lua")),
    include_str!("../blocks.lua"),
];

/// The address of Redis, and the credentials for it.
#[derive(Clone)]
pub struct Settings {
    rule: Rule,
    password: Option<PathBuf>,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum ConnectFault {
    #[error("cannot read {path}: {cause}")]
    File { path: PathBuf, cause: String },
    #[error("{0} contains no certificate of an authority")]
    Authority(PathBuf),
    #[error("{0} is not a valid server name for TLS")]
    Name(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it answered {0:?}")]
    Refused(String),
    #[error("it answered {0}")]
    Reply(#[from] ReplyFault),
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings")
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}

impl Settings {
    /// Reads all that can be read before connecting. `root` is the folder for relative paths in the
    /// policy.
    pub fn new(rule: &Rule, root: &Path) -> Result<Self, ConnectFault> {
        let password = rule.password_file().map(|file| root.join(file));
        if let Some(file) = &password {
            read_password(file)?;
        }
        let tls = match rule.ca() {
            Some(file) => Some(tls(&root.join(file), rule.host())?),
            None => None,
        };
        Ok(Self {
            rule: rule.clone(),
            password,
            tls,
        })
    }
}

/// Reads a file with one line. The line end is not part of the password.
fn read_password(path: &Path) -> Result<Vec<u8>, ConnectFault> {
    let failed = |cause: String| ConnectFault::File {
        path: path.to_owned(),
        cause,
    };
    let mut text = bytes(path, MAX_FILE_BYTES).map_err(|error| failed(error.cause))?;
    while text
        .last()
        .is_some_and(|byte| matches!(byte, b'\n' | b'\r'))
    {
        text.pop();
    }
    if text.is_empty() || text.len() > MAX_PASSWORD_BYTES {
        return Err(failed(format!(
            "a password has 1 to {MAX_PASSWORD_BYTES} bytes"
        )));
    }
    Ok(text)
}

fn tls(ca: &Path, host: &str) -> Result<(TlsConnector, ServerName<'static>), ConnectFault> {
    let file = |cause: String| ConnectFault::File {
        path: ca.to_owned(),
        cause,
    };
    let pem = bytes(ca, MAX_FILE_BYTES).map_err(|error| file(error.cause))?;
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&pem) {
        let authority = authority.map_err(|error| file(error.to_string()))?;
        roots
            .add(authority)
            .map_err(|error| file(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(ConnectFault::Authority(ca.to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| file(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name =
        ServerName::try_from(host.to_owned()).map_err(|_| ConnectFault::Name(host.to_owned()))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// A stream to Redis.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection that is ready for charges.
pub struct Connection {
    pub stream: Box<dyn Stream>,
    /// Bytes that were received and not parsed yet.
    pub read: BytesMut,
    /// The names of the scripts.
    pub scripts: Scripts,
}

/// A script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Script {
    /// Charges limits and reserves tokens.
    Charge,
    /// Settles reservations.
    Settle,
    /// Exchanges blocks of clients.
    Blocks,
}

/// The names of the scripts in Redis.
#[derive(Debug, Default)]
pub struct Scripts([Vec<u8>; 3]);

impl Scripts {
    /// The name of a script.
    pub fn name(&self, script: Script) -> &[u8] {
        let [charge, settle, blocks] = &self.0;
        match script {
            Script::Charge => charge,
            Script::Settle => settle,
            Script::Blocks => blocks,
        }
    }
}

impl Connection {
    /// Connects, authenticates and loads the scripts. The caller must set a timeout.
    pub async fn open(settings: &Settings) -> Result<Self, ConnectFault> {
        let rule = &settings.rule;
        let tcp = TcpStream::connect((rule.host(), rule.port())).await?;
        tcp.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &settings.tls {
            Some((connector, name)) => Box::new(connector.connect(name.clone(), tcp).await?),
            None => Box::new(tcp),
        };
        let mut connection = Self {
            stream,
            read: BytesMut::new(),
            scripts: Scripts::default(),
        };
        if let Some(file) = settings.password.clone() {
            let password = tokio::task::spawn_blocking(move || read_password(&file))
                .await
                .map_err(std::io::Error::other)??;
            let mut words: Vec<&[u8]> = vec![b"AUTH"];
            words.extend(rule.username().map(str::as_bytes));
            words.push(&password);
            // An old server repeats commands that it does not know, with the password.
            connection
                .command(&words)
                .await
                .map_err(|fault| match fault {
                    ConnectFault::Refused(text) => {
                        let code = text.split(' ').next().unwrap_or_default();
                        ConnectFault::Refused(format!("AUTH: {code}"))
                    }
                    fault => fault,
                })?;
        }
        let database = rule.database().to_string();
        if rule.database() > 0 {
            connection
                .command(&[b"SELECT", database.as_bytes()])
                .await?;
        }
        let [charge, settle, blocks] = SCRIPTS;
        let charge = connection.load(charge).await?;
        let settle = connection.load(settle).await?;
        let blocks = connection.load(blocks).await?;
        connection.scripts = Scripts([charge, settle, blocks]);
        Ok(connection)
    }

    /// Loads a script and returns its name.
    async fn load(&mut self, script: &str) -> Result<Vec<u8>, ConnectFault> {
        let name = self
            .command(&[b"SCRIPT", b"LOAD", script.as_bytes()])
            .await?;
        let is_name =
            name.len() == SCRIPT_NAME_BYTES && name.iter().all(|byte| byte.is_ascii_hexdigit());
        if !is_name {
            return Err(ConnectFault::Refused("not a script's SHA-1".to_owned()));
        }
        Ok(name)
    }

    /// Sends one command and reads its reply.
    async fn command(&mut self, words: &[&[u8]]) -> Result<Vec<u8>, ConnectFault> {
        let mut bytes = BytesMut::new();
        command(&mut bytes, words.iter().copied());
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await?;
        loop {
            match take(&mut self.read)? {
                Some(Reply::Text(text)) => return Ok(text),
                Some(Reply::Error(text)) => return Err(ConnectFault::Refused(text)),
                None => {}
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
        }
    }
}
