//! An issuer's HTTPS server of key sets, which counts its requests and can misbehave.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::ClientError;
use crate::pki::Leaf;

/// What the server answers.
#[derive(Clone, Debug)]
pub enum Says {
    /// 200 and this document.
    Document(String),
    /// The rest of the status line, header fields that end in CRLF, and a body.
    Other(&'static str, String, String),
    /// The first byte of an answer, and then nothing for this long.
    Slowly(Duration),
}

/// A server; it ends with its process.
#[derive(Clone, Debug)]
pub struct Publisher {
    /// Where it listens.
    pub address: SocketAddr,
    says: Arc<Mutex<Says>>,
    asked: Arc<AtomicUsize>,
}

impl Publisher {
    /// Starts a server that presents a certificate.
    pub async fn start(leaf: &Leaf, says: Says) -> Result<Self, ClientError> {
        let acceptor = TlsAcceptor::from(leaf.server_config()?);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let publisher = Self {
            address: listener.local_addr()?,
            says: Arc::new(Mutex::new(says)),
            asked: Arc::default(),
        };
        let serving = publisher.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (serving, acceptor) = (serving.clone(), acceptor.clone());
                tokio::spawn(async move { serving.answer(&acceptor, stream).await });
            }
        });
        Ok(publisher)
    }

    /// Changes the answer from now on.
    pub fn say(&self, says: Says) {
        *self.says.lock().unwrap_or_else(PoisonError::into_inner) = says;
    }

    /// How many requests it has received.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    async fn answer(&self, acceptor: &TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
        let mut stream = acceptor.accept(stream).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut head).await? == 0 {
                return Ok(());
            }
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let says = self
            .says
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (status, fields, body) = match says {
            Says::Document(body) => ("200 OK", String::new(), body),
            Says::Other(status, fields, body) => (status, fields, body),
            Says::Slowly(time) => {
                stream.write_all(b"H").await?;
                stream.flush().await?;
                tokio::time::sleep(time).await;
                return Ok(());
            }
        };
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n{fields}\r\n{body}"
        );
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await
    }
}
