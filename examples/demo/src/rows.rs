//! The demo's table: requests, and the answers that are expected.

mod bodies;
mod callers;
mod certificates;
mod contained;
mod framing;
mod in_flight;
mod meshes;
mod read;
mod remote_gate;
mod routes;
mod served;
mod signed_models;
mod tensors;
mod tokens;

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use tensorgate_client::Reply;

use crate::remote_gate::Gateways;
use crate::request::Request;
use crate::secured::Secured;
use crate::split::Split;

/// The demo's public keys, one file for each client.
const KEYS: &str = "examples/policies/digits/keys";

/// A gate of the demo, for requests that do not determine it themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The gate with the README's policy. Requests over TLS go to the secured gate instead.
    Usual,
    /// The gate as Istio loads it.
    Istio,
    /// The gate as Envoy Gateway loads it.
    EnvoyGateway,
    /// The gate whose host is reached over TCP.
    RemoteHost,
}

/// One request and its expected answer.
pub struct Row {
    /// The gate that it is sent to.
    pub server: Server,
    /// Its title in the table.
    pub title: &'static str,
    /// The expected answer.
    pub expect: Expect,
    /// The request.
    pub request: Request,
    /// How often it is sent; the last reply counts.
    pub times: usize,
}

/// An expected answer.
pub enum Expect {
    /// An answer with this content.
    Served {
        /// The expected content.
        says: String,
        /// Extracts the content from a reply.
        read: fn(&Reply) -> Option<String>,
    },
    /// A rejection with this reason.
    Denied(&'static str),
    /// No answer: the connection is closed in the handshake.
    Cut,
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Served { says, .. } => f.write_str(says),
            Self::Denied(reason) => f.write_str(reason),
            Self::Cut => f.write_str(CUT),
        }
    }
}

/// The expected and shown text for a failed handshake.
pub const CUT: &str = "no connection";

/// All rows, in the order in which they are sent.
pub fn rows(split: &Split, secured: &Secured, gateways: &Gateways) -> Result<Vec<Row>> {
    let keys = Keys {
        scorer: key("scorer")?,
        burst: key("burst")?,
        batch: key("batch")?,
    };
    let mut rows = served::rows(&keys, split)?;
    rows.extend(callers::rows(&keys, split));
    rows.extend(tokens::rows(secured, split)?);
    rows.extend(certificates::rows(secured, split));
    rows.extend(routes::rows(&keys, split));
    rows.extend(tensors::rows(&keys, split));
    rows.extend(bodies::rows(&keys, split));
    rows.extend(framing::rows(&keys, split));
    rows.extend(contained::rows(&keys, split));
    rows.extend(in_flight::rows(secured, split)?);
    rows.extend(signed_models::rows(secured, split));
    rows.extend(meshes::rows(&keys, split));
    rows.extend(remote_gate::rows(&keys, gateways, split));
    Ok(rows)
}

struct Keys {
    scorer: String,
    burst: String,
    batch: String,
}

/// The public key of a client.
pub fn key(client: &str) -> Result<String> {
    let path = Path::new(KEYS).join(format!("{client}.key"));
    Ok(std::fs::read_to_string(&path)
        .with_context(|| format!("reading {}", path.display()))?
        .trim()
        .to_owned())
}

fn deny(title: &'static str, reason: &'static str, request: Request) -> Row {
    Row {
        server: Server::Usual,
        title,
        expect: Expect::Denied(reason),
        request,
        times: 1,
    }
}

fn serve(
    title: &'static str,
    says: impl Into<String>,
    read: fn(&Reply) -> Option<String>,
    request: Request,
) -> Row {
    Row {
        server: Server::Usual,
        title,
        expect: Expect::Served {
            says: says.into(),
            read,
        },
        request,
        times: 1,
    }
}
