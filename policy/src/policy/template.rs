//! JSON templates of models: the location of each input in a request and of each output in a
//! response. Routes are whole paths.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};
use tensorgate_values::getters;

/// JSON template of one model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    pub route: String,
    pub inputs: Vec<TensorPointer>,
    pub outputs: Vec<TensorPointer>,
    pub ignored: Vec<Pointer>,
    pub is_guardrail: bool,
}

getters! { Template {
    /// Its path.
    route: &str,
    /// Locations of inputs; none lies inside another or inside ignored members.
    inputs: &[TensorPointer],
    /// Locations of outputs; none lies inside another.
    outputs: &[TensorPointer],
    /// Members that are allowed and ignored.
    ignored: &[Pointer],
    /// Whether it is that of the guardrail contract: members of requests without a location are
    /// skipped instead of rejected, and a list is no text, even if it has one.
    is_guardrail: bool,
} }

/// Location of a tensor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorPointer {
    pub name: String,
    pub at: Pointer,
    pub base64: bool,
    pub scalar: bool,
    pub bare: bool,
}

getters! { TensorPointer {
    /// The tensor's name.
    name: &str,
    /// The location.
    at: &Pointer,
    /// Whether its bytes are base64 strings.
    base64: bool,
    /// Whether a single element without a list is accepted: the tensor has one dimension besides
    /// rows.
    scalar: bool,
    /// Whether it is written as a single element: that dimension is 1.
    bare: bool,
} }

/// A step of a pointer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// Into a member of an object.
    Member(String),
    /// Into every element of a list of rows. The first dimension of the tensor is their number.
    Rows,
}

/// A JSON Pointer (RFC 6901) through objects, with `*` for every element of at most one list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Pointer(pub Vec<Step>);

impl Pointer {
    /// The steps, outermost first; empty for the whole document.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }

    /// Whether it goes through a list.
    pub fn by_row(&self) -> bool {
        self.0.contains(&Step::Rows)
    }

    /// The path to its list.
    pub fn list(&self) -> Option<&[Step]> {
        let at = self.0.iter().position(|step| *step == Step::Rows)?;
        self.0.get(..at)
    }

    /// Why a document cannot contain both pointers; `None` if it can.
    pub fn against(&self, other: &Self) -> Option<&'static str> {
        for (one, other) in self.0.iter().zip(&other.0) {
            match (one, other) {
                (one, other) if one == other => {}
                (Step::Rows, Step::Member(_)) | (Step::Member(_), Step::Rows) => {
                    return Some(
                        "contradicts another pointer: one needs an object where the other needs a list",
                    );
                }
                _ => return None,
            }
        }
        Some("is the same as another pointer, or one is within the other")
    }
}

/// Models with their own routes, by route.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Templates(pub BTreeMap<String, String>);

impl Templates {
    /// The model of a path.
    pub fn model(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }
}

/// Whether another protocol has or may have this path.
pub fn is_taken(path: &str) -> bool {
    /// Reserved REST paths and their subpaths.
    const PATHS: [&str; 7] = [
        "/v2",
        "/v1/models",
        "/v1/chat",
        "/v1/completions",
        "/v1/embeddings",
        "/ping",
        "/predictions",
    ];
    /// Reserved gRPC services.
    const SERVICES: [&str; 4] = ["/inference.", "/grpc.", "/tensorflow.", "/org.pytorch."];
    let below = |start: &str| {
        let rest = path.strip_prefix(start);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    PATHS.into_iter().any(below) || SERVICES.iter().any(|start| path.starts_with(start))
}
