//! The bench's own servers. Each is a separate process, so that its CPU time is counted separately.
//! One is the upstream behind every proxy. The others implement Envoy's external services: some do
//! nothing, some make the gate's checks.

mod checks;
mod ext_authz;
mod ext_proc;
mod listen;
mod messages;
mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::outcome::{Failure, Outcome, failure};

/// The kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Answers inference over HTTP/1.1, HTTP/2 and gRPC.
    Upstream,
    /// Allows everything: `envoy.service.auth.v3.Authorization`.
    ExtAuthz,
    /// Changes nothing: `envoy.service.ext_proc.v3.ExternalProcessor`.
    ExtProc,
    /// Makes the gate's checks as an `ext_authz` service.
    ExtAuthzChecks,
    /// Makes the gate's checks as an `ext_proc` service.
    ExtProcChecks,
}

/// Run one of the bench's own servers.
#[derive(Args, Debug)]
pub struct Serve {
    /// Which server.
    kind: Kind,
    /// Listen on this Unix socket.
    #[arg(long)]
    unix: PathBuf,
    /// Also listen on this TCP address.
    #[arg(long)]
    tcp: Option<SocketAddr>,
    /// The policy for the checks, as `tensorgate render` writes it.
    #[arg(long, requires = "key")]
    bundle: Option<PathBuf>,
    /// The key that signs contexts.
    #[arg(long)]
    key: Option<PathBuf>,
}

impl Serve {
    /// Serves until it is killed.
    pub fn run(self) -> Outcome<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            match self.kind {
                Kind::Upstream => listen::serve(&self.unix, self.tcp, upstream::answer).await,
                Kind::ExtAuthz => listen::serve(&self.unix, self.tcp, ext_authz::answer).await,
                Kind::ExtProc => listen::serve(&self.unix, self.tcp, ext_proc::answer).await,
                Kind::ExtAuthzChecks => {
                    let checks = self.checks()?;
                    let answer = move |request| ext_authz::decide(checks.clone(), request);
                    listen::serve(&self.unix, self.tcp, answer).await
                }
                Kind::ExtProcChecks => {
                    let checks = self.checks()?;
                    let answer = move |request| ext_proc::decide(checks.clone(), request);
                    listen::serve(&self.unix, self.tcp, answer).await
                }
            }
        })
    }

    fn checks(&self) -> Outcome<checks::Checks> {
        let (Some(bundle), Some(key)) = (&self.bundle, &self.key) else {
            return failure("this server needs --bundle and --key");
        };
        checks::Checks::load(bundle, key)
    }
}

/// The header field of the credential, which is not forwarded.
const CREDENTIAL: &str = "x-api-key";

/// A response body: data and optional trailers, whole or in chunks.
type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, Failure>;

/// One gRPC message followed by status OK.
fn grpc(message: &[u8]) -> http::Response<Body> {
    use http_body_util::BodyExt as _;
    let body = http_body_util::Full::new(bytes::Bytes::from(framed(message)))
        .map_err(|never| match never {})
        .with_trailers(std::future::ready(Some(Ok(ok_trailers()))))
        .boxed_unsync();
    grpc_head(body)
}

/// An uncompressed message in its gRPC frame.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(message.len().saturating_add(FRAME_HEAD_BYTES));
    framed.push(0);
    framed.extend(
        u32::try_from(message.len())
            .unwrap_or_default()
            .to_be_bytes(),
    );
    framed.extend_from_slice(message);
    framed
}

fn grpc_head(body: Body) -> http::Response<Body> {
    let mut answer = http::Response::new(body);
    answer.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/grpc"),
    );
    answer
}

fn ok_trailers() -> http::HeaderMap {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    trailers
}

/// Length of a gRPC frame's header: flag and message length.
const FRAME_HEAD_BYTES: usize = 5;
