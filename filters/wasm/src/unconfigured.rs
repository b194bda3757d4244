//! A filter without a configuration.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, Protocol, Reason};
use tensorgate_wire::Answer;
use tensorgate_wire::request_id::is_uuid;

use super::{Host, abi};
use tensorgate_filter_core::host::{Level, Proxy as _, Verdict};

/// A request to a filter without a configuration. A proxy that continues after a rejected
/// configuration must not forward requests, so every callback pauses.
pub(crate) struct Unconfigured;

impl Context for Unconfigured {}

impl HttpContext for Unconfigured {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> types::Action {
        let denial = Denial::new(Reason::Overloaded, "the gate has no configuration")
            .overloaded_by(OverloadCause::Configuration);
        Host::outside().log(Level::Error, &denial.cause);
        Host::outside().count(Verdict::Deny(denial.reason));
        if let Some(cause) = denial.overload {
            Host::outside().count_overload(cause);
        }
        // The proxy's access log has this id, which some proxies take from the client. Without a
        // configuration the filter has none.
        let request_id = header("x-request-id").filter(|id| is_uuid(id));
        let is_grpc = header("content-type").is_some_and(|it| it.starts_with("application/grpc"));
        let protocol = if is_grpc {
            Protocol::OipGrpc
        } else {
            Protocol::OipRest
        };
        let answer = Answer::to_denial(&denial, protocol, &request_id.unwrap_or_default());
        if let Err(fault) = Host::outside().respond(&answer) {
            Host::outside().log(Level::Error, &fault.to_string());
        }
        types::Action::Pause
    }

    fn on_http_request_body(&mut self, _: usize, _: bool) -> types::Action {
        types::Action::Pause
    }

    fn on_http_request_trailers(&mut self, _: usize) -> types::Action {
        types::Action::Pause
    }
}

/// A field of the request's headers, as text.
fn header(name: &str) -> Option<String> {
    let value = abi::get_header(abi::REQUEST_HEADERS, name).ok()??;
    String::from_utf8(value).ok()
}
