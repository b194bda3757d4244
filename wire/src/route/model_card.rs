//! OpenAI's `GET /v1/models/NAME`. TF Serving has the same path for a model's status, so only the
//! policy can tell the two apart.

use std::borrow::Cow;

use tensorgate_policy::Policy;
use tensorgate_policy::request::{Operation, Protocol, Route};

use crate::percent::{self, without_query};

/// Prefix of both protocols' paths.
const PREFIX: &str = "/v1/models/";

/// The route to the card of an OpenAI model, if the caller `may` see the one of this name.
/// Otherwise the request stays what it was, and tells nothing about which models exist.
///
/// Clients write a slash of a name as it is or as `%2F`. The host answers from the policy, so no
/// server reads the path.
pub(crate) fn model_card(
    method: &str,
    path: &str,
    route: &Route<'_>,
    policy: &Policy,
    may: impl Fn(&str) -> bool,
) -> Option<Route<'static>> {
    if method != "GET" {
        return None;
    }
    let written = without_query(path).strip_prefix(PREFIX)?;
    let of_other = match route {
        Route::Model {
            model: Some(name), ..
        } => policy
            .model_id(name)
            .and_then(|id| policy.model(id))
            .is_some_and(|model| !model.protocols().contains(&Protocol::OpenAi)),
        Route::Unknown { .. } => false,
        Route::Model { model: None, .. }
        | Route::OpenAi { .. }
        | Route::Server { .. }
        | Route::WrongMethod { .. } => true,
    };
    if of_other {
        return None;
    }
    let name = String::from_utf8(percent::decoded(written.as_bytes())).ok()?;
    may(&name).then_some(Route::Model {
        protocol: Protocol::OpenAi,
        operation: Operation::Metadata,
        model: Some(Cow::Owned(name)),
        version: None,
    })
}
