//! Gateways at the port of a sandbox host on another machine: a certificate with the wrong name or of
//! another authority opens no connection, and the right one alone admits no request.

use super::{Expect, Row, Server, deny};
use crate::remote_host::Gateways;
use crate::request::{Request, gateway_infer};
use crate::split::Split;
use tensorgate_client::tls::Caller;

pub fn rows(gateways: &Gateways, split: &Split) -> Vec<Row> {
    let pixels = split.pixels(0, 1);
    let infer = |caller: &Caller| gateway_infer(caller, &pixels);
    let cut = |title, caller| Row {
        server: Server::Usual,
        title,
        expect: Expect::Cut,
        request: infer(caller),
        times: 1,
    };
    vec![
        deny(
            "host over mTLS: a gateway without a context",
            "unauthenticated",
            infer(&gateways.listed),
        ),
        cut("host over mTLS: another gateway's name", &gateways.unlisted),
        cut("host over mTLS: another authority", &gateways.impostor),
    ]
}
