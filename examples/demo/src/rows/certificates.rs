//! Client certificates: one that identifies a client, and others that do not.

use super::read::best_of_json;
use super::{Expect, Row, Server, deny, serve};
use crate::request::{Request, infer_text};
use crate::secured::Secured;
use crate::split::Split;

/// A forged header, as Envoy itself would set it for the client's certificate.
const FORGED: &str =
    "x-forwarded-client-cert: Hash=00;URI=spiffe://demo.example/ns/risk/sa/engine\r\n";

/// The rows of this group.
pub fn rows(secured: &Secured, split: &Split) -> Vec<Row> {
    let ask = |caller: &tensorgate_client::tls::Caller, fields: &str| Request::Tls {
        caller: caller.clone(),
        bytes: infer_text(fields, split, 1),
    };
    let cut = |title, request| Row {
        server: Server::Usual,
        title,
        expect: Expect::Cut,
        request,
        times: 1,
    };
    vec![
        serve(
            "a client certificate with a SPIFFE id",
            format!("digit {}", split.label(1)),
            best_of_json,
            ask(&secured.engine, ""),
        ),
        deny(
            "no certificate and no other credential",
            "unauthenticated",
            ask(&secured.anonymous, ""),
        ),
        deny(
            "a certificate only in a forged header",
            "unauthenticated",
            ask(&secured.anonymous, FORGED),
        ),
        cut(
            "a certificate of another authority",
            ask(&secured.impostor, ""),
        ),
        cut("a revoked certificate", ask(&secured.revoked, "")),
    ]
}
