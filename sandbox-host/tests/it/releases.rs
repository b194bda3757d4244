//! A gateway of another release: its requests get 503, both sides learn which release the other is,
//! and the host stays ready. A release that no key signed is named nowhere.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use sha2::Sha256;
use tensorgate_wire::context::RELEASE_TRAILER as TRAILER;
use tensorgate_wire::context::{HEADER, Release};

use crate::support;
use support::backend::{Act, Backend};
use support::{INFER, Running, admin, infer_body, key, policy, start};

const GRPC: &str = "/inference.GRPCInferenceService/ModelInfer";

/// A context of a later release, whose fields this one cannot read.
fn later(name: &str, key_byte: u8) -> String {
    let mut key = [key_byte; 32];
    key[31] = 0xf0;
    let signed = format!("v12;{name};AAAA.later");
    let mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let mac = mac.chain_update(&signed).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
}

/// Sends a request as Envoy does: the HTTP or gRPC status, and what the host tells the gateway.
async fn ask(running: &Running, path: &str, context: &str) -> (String, Option<String>) {
    let is_grpc = path == GRPC;
    let content_type = if is_grpc {
        "application/grpc"
    } else {
        "application/json"
    };
    let request = Request::builder()
        .method("POST")
        .uri(format!("http://tensorgate{path}"))
        .header("content-type", content_type)
        .header(HEADER, context)
        .body(Full::new(Bytes::from(infer_body(&[1.0]))))
        .unwrap();
    let stream = TokioIo::new(running.gate.connect().await);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream)
            .await
            .unwrap();
    tokio::spawn(connection);
    let (head, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    let text = |name: &str| Some(trailers.get(name)?.to_str().unwrap().to_owned());
    let notice = text(TRAILER);
    if is_grpc {
        return (text("grpc-status").unwrap_or_default(), notice);
    }
    let body = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    assert!(!body.contains("release"), "calm for the caller: {body}");
    assert!(body.contains("urn:tensorgate:overloaded"), "{body}");
    (head.status.as_str().to_owned(), notice)
}

#[tokio::test]
async fn a_gateway_of_another_release_and_this_host_name_each_other() {
    let backend = Backend::start(Act::Answer);
    let running = start(policy(&backend.uri(), json!({}), json!({}))).await;
    running.ready().await;
    let readyz = async || admin(running.host.admin(), "/readyz").await;

    // A sender without the key can neither name a release nor write on a page.
    let forged = later("6.6.6", 0x11);
    assert_eq!(
        ask(&running, INFER, &forged).await,
        ("503".to_owned(), None)
    );
    let injected = [later("1 is fine", 0x5a)];
    let gate = &running.gate;
    let answer = gate.send("POST", INFER, &injected, infer_body(&[1.0]));
    assert_eq!(answer.await.status, 401);
    let (_, text) = readyz().await;
    assert!(!text.contains("release"), "{text}");

    for (path, status) in [(INFER, "503"), (GRPC, "14")] {
        let (answered, notice) = ask(&running, path, &later("1.2.3", 0x5a)).await;
        assert_eq!(answered, status, "{path}");
        let host = Release::of_host(&notice.unwrap(), &key());
        assert_eq!(host, Some(Release::own()), "{path}");
    }
    let (status, text) = readyz().await;
    assert_eq!(status, 200, "it may serve other gateways: {text}");
    let host = format!("the host is {}: the host is the older one", Release::own());
    for part in [
        "release: the gateway's filter is of release 1.2.3 (format 12)",
        host.as_str(),
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("6.6.6") && !text.contains("fine"), "{text}");
    assert_eq!(running.gate.infer(&[1.0]).await.status, 200);
    running.stop().await;
}
