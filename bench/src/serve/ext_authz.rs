//! Authorization services for Envoy's `ext_authz`. One allows everything without reading it, as the
//! lower bound of the cost. The other makes the gate's checks.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use prost::Message as _;
use tensorgate_policy::Denial;
use tensorgate_wire::context;

use super::checks::{Checks, Field};
use super::messages::{
    CheckAnswer, CheckRequest, CheckResponse, DeniedHttpResponse, HeaderValue, HeaderValueOption,
    HttpRequest, HttpStatus, OVERWRITE_OR_ADD, OkHttpResponse, RpcStatus,
};
use super::{Body, CREDENTIAL, FRAME_HEAD_BYTES, grpc};
use crate::outcome::{Failure, Outcome};

/// `CheckResponse { status: Status {}, ok_response: OkHttpResponse {} }`.
const ALLOWED: [u8; 4] = [0x0a, 0x00, 0x1a, 0x00];

/// `google.rpc.Code.PERMISSION_DENIED`.
const PERMISSION_DENIED: i32 = 7;

/// Reads the whole check request and allows it.
pub(super) async fn answer(request: Request<Incoming>) -> Outcome<Response<Body>> {
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(grpc(&ALLOWED))
}

/// Reads the check request and decides.
pub(super) async fn decide(checks: Checks, request: Request<Incoming>) -> Outcome<Response<Body>> {
    let framed = request.into_body().collect().await?.to_bytes();
    if framed.len() < FRAME_HEAD_BYTES {
        return Err(Failure::from("a check request without a message"));
    }
    let question = CheckRequest::decode(framed.slice(FRAME_HEAD_BYTES..))?;
    let http = question
        .attributes
        .and_then(|attributes| attributes.request?.http)
        .unwrap_or_default();
    Ok(grpc(&judged(&checks, http).encode_to_vec()))
}

fn judged(checks: &Checks, http: HttpRequest) -> CheckResponse {
    let body = http.raw_body.clone();
    let judged = checks
        .head(&fields(http))
        .and_then(|held| checks.body(held, &body));
    match judged {
        Ok(context) => allowed(context),
        Err(denial) => denied(&denial),
    }
}

/// The request's header fields. Envoy sends them as a map, with pseudo-headers as separate fields.
fn fields(http: HttpRequest) -> Vec<Field> {
    let own = [
        (":method", http.method),
        (":path", http.path),
        (":authority", http.host),
        (":scheme", http.scheme),
    ];
    let own = own
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value.into_bytes()));
    let others = http
        .headers
        .into_iter()
        .filter(|(name, _)| !name.starts_with(':'))
        .map(|(name, value)| (name, value.into_bytes()));
    own.chain(others).collect()
}

fn allowed(context: String) -> CheckResponse {
    let header = HeaderValue {
        key: context::HEADER.to_owned(),
        value: context,
        raw_value: Bytes::new(),
    };
    CheckResponse {
        status: Some(RpcStatus::default()),
        answer: Some(CheckAnswer::Ok(OkHttpResponse {
            headers: vec![HeaderValueOption {
                header: Some(header),
                append_action: OVERWRITE_OR_ADD,
            }],
            headers_to_remove: vec![CREDENTIAL.to_owned()],
        })),
    }
}

fn denied(denial: &Denial) -> CheckResponse {
    let status = HttpStatus {
        code: i32::from(denial.reason.http_status()),
    };
    CheckResponse {
        status: Some(RpcStatus {
            code: PERMISSION_DENIED,
        }),
        answer: Some(CheckAnswer::Denied(DeniedHttpResponse {
            status: Some(status),
            body: denial.reason.name().to_owned(),
        })),
    }
}
