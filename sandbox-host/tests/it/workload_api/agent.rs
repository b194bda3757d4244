//! An agent of SPIFFE's Workload API.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use prost::Message;
use tensorgate_client::pki::{Authority, Leaf};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub const GATE: &str = "spiffe://prod/ns/ml/sa/gate";

/// The protocol's messages, as its document has them.
#[derive(Clone, PartialEq, Message)]
pub struct X509SvidResponse {
    #[prost(message, repeated, tag = "1")]
    pub svids: Vec<X509Svid>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    pub crl: Vec<Vec<u8>>,
    #[prost(map = "string, bytes", tag = "3")]
    pub federated_bundles: HashMap<String, Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub struct X509Svid {
    #[prost(string, tag = "1")]
    pub spiffe_id: String,
    #[prost(bytes = "vec", tag = "2")]
    pub x509_svid: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    pub x509_svid_key: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub bundle: Vec<u8>,
    #[prost(string, tag = "5")]
    pub hint: String,
}

pub fn der(pem: &str) -> Vec<u8> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .unwrap()
        .to_vec()
}

/// An agent's answer about a workload: its certificate, and authorities one after the other.
pub fn says(leaf: &Leaf, authorities: &[&Authority]) -> X509SvidResponse {
    let key = PrivateKeyDer::from_pem_slice(leaf.key.as_bytes()).unwrap();
    let bundles = authorities.iter().map(|authority| der(&authority.pem));
    X509SvidResponse {
        svids: vec![X509Svid {
            spiffe_id: GATE.to_owned(),
            x509_svid: leaf.der.clone(),
            x509_svid_key: key.secret_der().to_vec(),
            bundle: bundles.collect::<Vec<_>>().concat(),
            hint: "internal".to_owned(),
        }],
        ..X509SvidResponse::default()
    }
}

pub fn workload(authority: &Authority, serial: u64, id: &str) -> Leaf {
    authority.issue(serial, &[&format!("uri:{id}")]).unwrap()
}

/// An agent's answer: a message, or a status that ends the stream.
pub type Word = Result<Vec<u8>, &'static str>;

/// An agent at a Unix socket; its streams end with it.
pub struct Agent {
    word: watch::Sender<Option<Word>>,
    /// Streams that were opened, each with the field that the protocol requires.
    asked: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

type Pieces = StreamBody<tokio_stream::wrappers::ReceiverStream<Result<Frame<Bytes>, Infallible>>>;

impl Agent {
    /// Starts without an answer.
    pub fn start(socket: &Path) -> Self {
        drop(std::fs::remove_file(socket));
        let listener = UnixListener::bind(socket).unwrap();
        let (word, heard) = watch::channel(None);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (heard, count) = (heard.clone(), Arc::clone(&count));
                open.spawn(async move {
                    let service = service_fn(move |request| {
                        let (heard, count) = (heard.clone(), Arc::clone(&count));
                        async move { Ok::<_, Infallible>(answer(&request, heard, &count)) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    drop(
                        builder
                            .serve_connection(TokioIo::new(stream), service)
                            .await,
                    );
                });
            }
        });
        Self { word, asked, task }
    }

    pub fn say(&self, said: &X509SvidResponse) {
        self.word.send_replace(Some(Ok(said.encode_to_vec())));
    }

    pub fn says(&self, word: Word) {
        self.word.send_replace(Some(word));
    }

    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn answer(
    request: &Request<Incoming>,
    mut heard: watch::Receiver<Option<Word>>,
    asked: &AtomicUsize,
) -> Response<Pieces> {
    let (to, pieces) = mpsc::channel(1);
    let response = |status: Option<&str>| {
        let mut response = Response::new(StreamBody::new(
            tokio_stream::wrappers::ReceiverStream::new(pieces),
        ));
        let fields = response.headers_mut();
        fields.insert("content-type", "application/grpc".parse().unwrap());
        if let Some(status) = status {
            fields.insert("grpc-status", status.parse().unwrap());
        }
        response
    };
    if request.uri().path() != "/SpiffeWorkloadAPI/FetchX509SVID" {
        return response(Some("12"));
    }
    // A client that can be made to set this header could be tricked into a request.
    if request
        .headers()
        .get("workload.spiffe.io")
        .map(|it| it.as_bytes())
        != Some(b"true")
    {
        return response(Some("3"));
    }
    asked.fetch_add(1, Ordering::SeqCst);
    tokio::spawn(async move {
        loop {
            let said = heard.borrow_and_update().clone();
            let ends = |status: &str| {
                let mut trailers = HeaderMap::new();
                trailers.insert("grpc-status", status.parse().unwrap());
                Ok(Frame::trailers(trailers))
            };
            match said {
                Some(Ok(said)) => {
                    let mut frame = vec![0];
                    frame.extend(u32::try_from(said.len()).unwrap().to_be_bytes());
                    frame.extend(said);
                    if to.send(Ok(Frame::data(frame.into()))).await.is_err() {
                        return;
                    }
                }
                Some(Err(status)) => return drop(to.send(ends(status)).await),
                None => {}
            }
            tokio::select! {
                changed = heard.changed() => if changed.is_err() {
                    return drop(to.send(ends("14")).await);
                },
                () = to.closed() => return,
            }
        }
    });
    response(None)
}
