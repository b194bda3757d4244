//! A filter without a configuration.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types;
use tensorgate_policy::denial::OverloadCause;
use tensorgate_policy::{Denial, Protocol, Reason};
use tensorgate_wire::Answer;

use super::Host;
use crate::host::{Level, Proxy as _, Verdict};

/// A request to a filter without a configuration. A proxy that continues after a rejected
/// configuration must not forward requests, so every callback pauses.
pub(super) struct Unconfigured;

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
        let answer = Answer::to_denial(&denial, Protocol::OipRest, "");
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
