//! A web server over TLS whose answers a test chooses byte for byte. It records requests.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tensorgate_client::pki::Leaf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Its answers.
#[derive(Clone, Default)]
pub struct Says {
    by_path: HashMap<String, Vec<u8>>,
    drip: Option<(Vec<u8>, Duration)>,
}

impl Says {
    /// Whole answers by path.
    pub fn new(answers: &[(&str, &str)]) -> Self {
        let answers = answers.iter();
        Self {
            by_path: answers
                .map(|(path, answer)| ((*path).to_owned(), answer.as_bytes().to_vec()))
                .collect(),
            drip: None,
        }
    }

    /// One answer to everything, its body a byte at a time.
    pub fn drip(answer: &str, pause: Duration) -> Self {
        Self {
            by_path: HashMap::new(),
            drip: Some((answer.as_bytes().to_vec(), pause)),
        }
    }
}

#[derive(Default)]
struct Seen {
    connections: usize,
    asked: Vec<String>,
}

/// The server. It ends when this value is dropped.
pub struct Origin {
    pub address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Origin {
    /// Starts on a port of its own, and presents a certificate.
    pub fn start(leaf: &Leaf, says: Says) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config(leaf)));
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (says, sees) = (Arc::new(says), Arc::clone(&seen));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                sees.lock().unwrap().connections += 1;
                let (acceptor, says, sees) =
                    (acceptor.clone(), Arc::clone(&says), Arc::clone(&sees));
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        let Ok(byte) = stream.read_u8().await else {
                            return;
                        };
                        head.push(byte);
                    }
                    let head = String::from_utf8(head).unwrap();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let length = head
                        .lines()
                        .find_map(|line| line.strip_prefix("content-length: "));
                    let length = length.map_or(0, |text| text.parse().unwrap());
                    let mut body = vec![0; length];
                    if stream.read_exact(&mut body).await.is_err() {
                        return;
                    }
                    let asked = head + std::str::from_utf8(&body).unwrap();
                    sees.lock().unwrap().asked.push(asked);
                    if let Some((answer, pause)) = &says.drip {
                        let head = answer.windows(4).position(|end| end == b"\r\n\r\n");
                        let (head, body) = answer.split_at(head.unwrap() + 4);
                        drop(stream.write_all(head).await);
                        for byte in body {
                            if stream.write_all(&[*byte]).await.is_err() {
                                return;
                            }
                            drop(stream.flush().await);
                            tokio::time::sleep(*pause).await;
                        }
                    }
                    let answer = says.by_path.get(&path).cloned().unwrap_or_default();
                    drop(stream.write_all(&answer).await);
                    drop(stream.shutdown().await);
                });
            }
        });
        Self {
            address,
            seen,
            runtime: Some(runtime),
        }
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.seen.lock().unwrap().connections
    }

    /// Heads of requests so far.
    pub fn asked(&self) -> Vec<String> {
        self.seen.lock().unwrap().asked.clone()
    }

    /// Waits until it has had so many requests.
    pub async fn wait_for(&self, requests: usize) {
        let asked = async {
            while self.asked().len() < requests {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), asked)
            .await
            .unwrap();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn config(leaf: &Leaf) -> ServerConfig {
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(leaf.pem.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config
}
