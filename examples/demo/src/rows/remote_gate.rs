//! The gate whose sandbox host is reached over TCP, and other gateways at the port of that host. A
//! certificate with the wrong name or of another authority opens no connection, and the right one
//! alone admits no request.

use serde_json::json;
use tensorgate_client::tls::Caller;

use super::read::best_of_json;
use super::{Expect, Keys, Row, Server, deny, serve};
use crate::remote_gate::Gateways;
use crate::request::{gateway_infer, image, rest};
use crate::split::Split;

/// The rows of this group.
pub fn rows(keys: &Keys, gateways: &Gateways, split: &Split) -> Vec<Row> {
    let cut = |title, caller: &Caller| Row {
        server: Server::Usual,
        title,
        expect: Expect::Cut,
        request: gateway_infer(caller),
        times: 1,
    };
    let body = json!({"inputs": [image(&split.pixels(0, 1))]});
    let served = serve(
        "host over mTLS: a digit as a JSON tensor",
        format!("digit {}", split.label(0)),
        best_of_json,
        rest(&keys.scorer, "digits", &body),
    );
    vec![
        Row {
            server: Server::RemoteHost,
            ..served
        },
        deny(
            "host over mTLS: a gateway without a context",
            "unauthenticated",
            gateway_infer(&gateways.listed),
        ),
        cut("host over mTLS: another gateway's name", &gateways.unlisted),
        cut("host over mTLS: another authority", &gateways.impostor),
    ]
}
