//! A CPU inference server for small ONNX models: the Open Inference Protocol over gRPC.
//!
//! It replaces a GPU server such as Triton, so that the demo and the tests need none. It has no
//! authentication: every process that can connect may call it. Therefore it listens only on a Unix
//! socket of its own user or on a loopback address. It loads models only at its start, and never
//! opens a URL.

pub mod infer;
pub mod listen;
pub mod model;
pub mod repository;
pub mod required_digest;
pub mod service;

use std::future::Future;
use std::io;
use std::time::Duration;

use tensorgate_wire::proto::grpc_inference_service_server::GrpcInferenceServiceServer;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;

pub use listen::{Address, Listener};
pub use repository::Repository;
pub use required_digest::{RequiredDigest, RequiredDigests};
pub use service::Limits;

use service::Service;

/// The most concurrent streams of a connection. The gate's host opens one connection and up to
/// `max_in_flight` streams.
const MAX_STREAMS: u32 = 1024;
/// The most bytes of a request's header fields. What gRPC itself sends is below 1 KiB.
const MAX_HEADER_BYTES: u32 = 16 << 10;
/// Time from the last byte of a request to its answer. The gate's own default is 5 seconds.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for requests in flight to end during a shutdown.
const DRAIN: Duration = Duration::from_secs(10);

/// Why the server stopped without a shutdown request.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport failed.
    #[error("cannot serve: {0}")]
    Transport(#[from] tonic::transport::Error),
    /// The listener failed.
    #[error("cannot listen: {0}")]
    Listen(#[from] io::Error),
}

/// Serves until `shutdown` resolves, then lets requests in flight end, for 10 seconds at most.
pub async fn serve(
    listener: Listener,
    repository: Repository,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let service = GrpcInferenceServiceServer::new(Service::new(repository, limits))
        .max_decoding_message_size(limits.message_bytes)
        .max_encoding_message_size(limits.message_bytes);
    let router = Server::builder()
        .timeout(REQUEST_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .add_service(service);

    let (stopping, mut stopped) = tokio::sync::watch::channel(false);
    let shutdown = async move {
        shutdown.await;
        // The receiver is gone only if the server has ended by itself.
        let _ = stopping.send(true);
    };
    let drained = async move {
        // An error means that the server dropped the sender, because it has ended.
        let _ = stopped.wait_for(|stopping| *stopping).await;
        tokio::time::sleep(DRAIN).await;
    };
    // Dropping the guard removes the socket's file, after the last answer.
    let (served, _guard) = match listener {
        Listener::Tcp(listener) => {
            let incoming = TcpListenerStream::new(listener);
            (
                until(
                    drained,
                    router.serve_with_incoming_shutdown(incoming, shutdown),
                )
                .await,
                None,
            )
        }
        Listener::Unix(listener, guard) => {
            let incoming = UnixListenerStream::new(listener);
            (
                until(
                    drained,
                    router.serve_with_incoming_shutdown(incoming, shutdown),
                )
                .await,
                Some(guard),
            )
        }
    };
    Ok(served?)
}

/// The result of `served`, or `None` if `limit` is reached first.
async fn until<E>(
    limit: impl Future<Output = ()>,
    served: impl Future<Output = Result<(), E>>,
) -> Result<(), E> {
    tokio::select! {
        outcome = served => outcome,
        () = limit => {
            tracing::warn!("requests still ran at the end of the drain");
            Ok(())
        }
    }
}
