//! A model's own JSON: where in a request each input sits, and in an answer each output. Routes lead to models by whole paths.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

/// The JSON of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    pub(crate) route: String,
    pub(crate) inputs: Vec<Place>,
    pub(crate) outputs: Vec<Place>,
    pub(crate) ignored: Vec<Pointer>,
}

impl Template {
    /// Its one path.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// Where inputs sit; none is within another, or within what is ignored.
    pub fn inputs(&self) -> &[Place] {
        &self.inputs
    }

    /// Where outputs go, in the order of their places; none is within another.
    pub fn outputs(&self) -> &[Place] {
        &self.outputs
    }

    /// What may come and is not read.
    pub fn ignored(&self) -> &[Pointer] {
        &self.ignored
    }
}

/// Where a tensor sits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub(crate) name: String,
    pub(crate) at: Pointer,
    pub(crate) base64: bool,
    pub(crate) scalar: bool,
}

impl Place {
    /// The tensor's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where.
    pub const fn at(&self) -> &Pointer {
        &self.at
    }

    /// Whether its bytes are strings in base64.
    pub const fn base64(&self) -> bool {
        self.base64
    }

    /// Whether it is one element without a list: of an input it may be, of an output it is.
    pub const fn scalar(&self) -> bool {
        self.scalar
    }
}

/// A JSON Pointer (RFC 6901) through objects: a name for each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(pub(crate) Vec<String>);

impl Pointer {
    /// The names, outermost first; none for the whole document.
    pub fn names(&self) -> &[String] {
        &self.0
    }

    /// Whether one of two is within the other, or the same.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(one, other)| one == other)
    }
}

/// The models that have a route of their own, by it.
#[derive(Clone, Debug, Default)]
pub struct Templates(pub(crate) BTreeMap<String, String>);

impl Templates {
    /// The model to which a whole path leads.
    pub fn model(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }
}

/// Whether a path is one that another protocol has, or could have.
pub fn is_taken(path: &str) -> bool {
    /// Paths of REST, and all below them.
    const PATHS: [&str; 7] = [
        "/v2",
        "/v1/models",
        "/v1/chat",
        "/v1/completions",
        "/v1/embeddings",
        "/ping",
        "/predictions",
    ];
    /// Services of gRPC.
    const SERVICES: [&str; 4] = ["/inference.", "/grpc.", "/tensorflow.", "/org.pytorch."];
    let below = |start: &&str| {
        let rest = path.strip_prefix(**start);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PATHS.iter().any(|start| below(&start)) || SERVICES.iter().any(|start| path.starts_with(start))
}
