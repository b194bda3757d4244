//! The servers of the bench, each a process of its own so that its time is counted by itself: what stands behind every proxy, and
//! the services for Envoy's own ways of asking somebody: ones that do nothing, and ones that make the gate's checks.

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

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Answers inference over HTTP/1.1, HTTP/2 and gRPC.
    Upstream,
    /// Allows everything: `envoy.service.auth.v3.Authorization`.
    ExtAuthz,
    /// Changes nothing: `envoy.service.ext_proc.v3.ExternalProcessor`.
    ExtProc,
    /// Makes the gate's checks where `ext_authz` asks for them.
    ExtAuthzChecks,
    /// Makes the gate's checks where `ext_proc` asks for them.
    ExtProcChecks,
}

/// Run one of the bench's own servers.
#[derive(Args, Debug)]
pub struct Serve {
    /// Which.
    kind: Kind,
    /// On this Unix socket.
    #[arg(long)]
    unix: PathBuf,
    /// And on this TCP address.
    #[arg(long)]
    tcp: Option<SocketAddr>,
    /// The policy that checks are made by, as `tensorgate render` writes it.
    #[arg(long, requires = "key")]
    bundle: Option<PathBuf>,
    /// The key that contexts are signed with.
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
            return failure("checks are made by a --bundle and a --key");
        };
        checks::Checks::load(bundle, key)
    }
}

/// The field that a credential comes in, which goes no further.
const CREDENTIAL: &str = "x-api-key";

/// An answer's body: data and perhaps trailers, whole or bit by bit.
type Body = http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, Failure>;

/// One gRPC message with status OK behind it.
fn grpc(message: &[u8]) -> http::Response<Body> {
    use http_body_util::BodyExt as _;
    let body = http_body_util::Full::new(bytes::Bytes::from(framed(message)))
        .map_err(|never| match never {})
        .with_trailers(std::future::ready(Some(Ok(ok_trailers()))))
        .boxed_unsync();
    grpc_head(body)
}

/// A message in its frame, not compressed.
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

/// A gRPC frame's flag and length.
const FRAME_HEAD_BYTES: usize = 5;
