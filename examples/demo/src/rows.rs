//! The demo's table: what is sent, and what must come back.

mod bodies;
mod callers;
mod certificates;
mod contained;
mod framing;
mod meshes;
mod places;
mod read;
mod routes;
mod served;
mod tensors;
mod tokens;

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use tensorgate_client::Reply;

use crate::request::Request;
use crate::secured::Secured;
use crate::split::Split;

/// The demo's public keys, one file a client.
const KEYS: &str = "examples/policies/digits/keys";

/// A gate of the demo, where the request itself does not say which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Server {
    /// The one whose policy the README shows; requests over TLS go to the secured one.
    Usual,
    /// As Istio loads it.
    Istio,
    /// As Envoy Gateway loads it.
    EnvoyGateway,
}

/// One request and its answer.
pub struct Row {
    /// Where it goes.
    pub server: Server,
    /// What it is.
    pub title: &'static str,
    /// What must come back.
    pub expect: Expect,
    /// What is sent.
    pub request: Request,
    /// How often; the last reply counts.
    pub times: usize,
}

/// What must come back.
pub enum Expect {
    /// An answer that says this.
    Served {
        /// What the answer says.
        says: String,
        /// How to read it from a reply.
        read: fn(&Reply) -> Option<String>,
    },
    /// A refusal for this reason.
    Denied(&'static str),
    /// No answer: the connection ends at the handshake.
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

/// What is expected and seen where the handshake fails.
pub const CUT: &str = "no connection";

/// Every row, in the order in which it is sent.
pub fn rows(split: &Split, secured: &Secured) -> Result<Vec<Row>> {
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
    rows.extend(places::rows(secured, split)?);
    rows.extend(meshes::rows(&keys, split));
    Ok(rows)
}

struct Keys {
    scorer: String,
    burst: String,
    batch: String,
}

fn key(client: &str) -> Result<String> {
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
