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

    /// Where outputs go; none is within another.
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
    pub(crate) bare: bool,
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

    /// Whether it may come as one element without a list: it has one dim, or one behind its rows.
    pub const fn scalar(&self) -> bool {
        self.scalar
    }

    /// Whether it is written so: that dim is 1.
    pub const fn bare(&self) -> bool {
        self.bare
    }
}

/// A step on the way to a place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Into a member of an object.
    Member(String),
    /// Into every element of a list: its rows. Of what sits there the first dim counts them.
    Rows,
}

/// A JSON Pointer (RFC 6901) through objects, with `*` for every element of at most one list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pointer(pub(crate) Vec<Step>);

impl Pointer {
    /// The steps, outermost first; none for the whole document.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether it goes through a list.
    pub fn by_row(&self) -> bool {
        self.0.contains(&Step::Rows)
    }

    /// The way to the list that it goes through.
    pub(crate) fn list(&self) -> Option<&[Step]> {
        let at = self.0.iter().position(|step| *step == Step::Rows)?;
        self.0.get(..at)
    }

    /// Why a document cannot have both; `None` where it can.
    pub(crate) fn against(&self, other: &Self) -> Option<&'static str> {
        for (one, other) in self.0.iter().zip(&other.0) {
            match (one, other) {
                (one, other) if one == other => {}
                (Step::Rows, Step::Member(_)) | (Step::Member(_), Step::Rows) => {
                    return Some(
                        "has an object where another place has a list, or a list where it has an object",
                    );
                }
                _ => return None,
            }
        }
        Some("is where another place is, or within it")
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
    let below = |start: &str| {
        let rest = path.strip_prefix(start);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PATHS.into_iter().any(below) || SERVICES.iter().any(|start| path.starts_with(start))
}
