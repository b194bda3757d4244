//! Gateways at the port of a sandbox host on another machine. A certificate with the wrong name or
//! of another authority opens no connection, and the right one alone admits no request.

use tensorgate_client::tls::Caller;

use super::{Expect, Row, Server, deny};
use crate::remote_host::Gateways;
use crate::request::gateway_infer;

/// The rows of this group.
pub fn rows(gateways: &Gateways) -> Vec<Row> {
    let cut = |title, caller: &Caller| Row {
        server: Server::Usual,
        title,
        expect: Expect::Cut,
        request: gateway_infer(caller),
        times: 1,
    };
    vec![
        deny(
            "host over mTLS: a gateway without a context",
            "unauthenticated",
            gateway_infer(&gateways.listed),
        ),
        cut("host over mTLS: another gateway's name", &gateways.unlisted),
        cut("host over mTLS: another authority", &gateways.impostor),
    ]
}
