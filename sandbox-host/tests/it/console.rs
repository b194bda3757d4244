//! The console of a real host: what it shows of requests, and who may read it.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;
use tensorgate_host::Host;
use tensorgate_host::server::reader_credential::ReaderCredential;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{INFER, PATIENCE, admin, folder, policy, settings, start};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// The response to a request with these header fields, as it arrives.
async fn exchange(address: SocketAddr, method: &str, path: &str, fields: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The status of such a response.
async fn status(address: SocketAddr, method: &str, path: &str, fields: &str) -> u16 {
    let answer = exchange(address, method, path, fields).await;
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_denied_request_is_on_the_page_and_markup_in_it_is_text() {
    let running = start(policy("http://127.0.0.1:9", json!({}), json!({}))).await;
    assert_eq!(running.gate.infer(&[1_000.0]).await.status, 400);
    let name = "<script>alert(1)</script>\u{202e}";
    let tensor = json!({"name": name, "datatype": "FP32", "shape": [1], "data": [1]});
    let body = json!({"inputs": [tensor]}).to_string();
    assert_eq!(running.gate.call("POST", INFER, body).await.status, 400);
    let address = running.host.admin();
    // The page is rendered again once it is a second old.
    let shown = tokio::time::timeout(PATIENCE, async {
        loop {
            let (code, text) = admin(address, "/console/sections").await;
            assert_eq!(code, 200, "{text}");
            if text.contains("out-of-range") && text.contains("alert(1)") {
                return text;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    });
    let shown = shown.await.unwrap();
    assert!(
        !shown.contains("<script") && !shown.contains('\u{202e}'),
        "{shown}"
    );
    let running_policy = format!("<code>{}</code> is in force", crate::support::GENERATION);
    for part in [
        "scorer",
        "vec",
        "denied by host",
        running_policy.as_str(),
        "signed with key",
    ] {
        assert!(shown.contains(part), "{part} in {shown}");
    }
    running.stop().await;
}

#[tokio::test]
async fn the_page_is_read_only_and_permits_nothing_of_other_servers() {
    let running = start(policy("http://127.0.0.1:9", json!({}), json!({}))).await;
    let address = running.host.admin();
    let host = "host: localhost\r\n";
    for (path, content_type) in [
        ("/", "text/html"),
        ("/console/sections", "text/html"),
        ("/console/console.js", "text/javascript"),
        ("/console/console.css", "text/css"),
        ("/console/icon.svg", "image/svg+xml"),
    ] {
        let answer = exchange(address, "GET", path, host).await.to_lowercase();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let content_type = format!("content-type: {content_type}");
        for field in [
            "http/1.1 200",
            content_type.as_str(),
            "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'",
            "frame-ancestors 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cross-origin-opener-policy: same-origin",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
        ] {
            assert!(head.contains(field), "{path}: {field} in {head}");
        }
        assert!(!body.is_empty(), "{path}");
        let answer = exchange(address, "HEAD", path, host).await;
        assert!(answer.ends_with("\r\n\r\n"), "{path}: {answer}");
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(
                status(address, method, path, host).await,
                405,
                "{method} {path}"
            );
        }
        assert_eq!(
            status(address, "GET", path, "host: gate.example\r\n").await,
            421
        );
    }
    for path in [
        "/status",
        "/generations",
        "/blocks",
        "/metrics",
        "/healthz",
        "/readyz",
        "/none",
    ] {
        for host in [host, "host: gate.example\r\n"] {
            let answer = exchange(address, "GET", path, host).await.to_lowercase();
            let (head, _) = answer.split_once("\r\n\r\n").unwrap();
            for field in ["x-content-type-options: nosniff", "cache-control: no-store"] {
                assert_eq!(head.matches(field).count(), 1, "{path}: {field} in {head}");
            }
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn a_public_address_serves_probes_and_metrics_and_the_rest_with_the_credential() {
    let folder = folder();
    let policy = policy("http://127.0.0.1:9", json!({}), json!({}));
    let mut settings = settings(policy, &folder);
    settings.admin = "0.0.0.0:0".parse().unwrap();
    settings.admin_local = Some("127.0.0.1:0".parse().unwrap());
    settings.console_public = ReaderCredential::from_secret(SECRET.as_bytes());
    let host = Host::start(settings, Arc::new(|| 0)).await.unwrap();
    let (public, local) = (host.admin(), host.admin_local().unwrap());
    let unnamed = "host: gate.example\r\n";
    let named = format!("{unnamed}authorization: Bearer {SECRET}\r\n");
    for path in ["/healthz", "/readyz", "/readyz?started", "/metrics"] {
        assert_eq!(status(public, "GET", path, unnamed).await, 200, "{path}");
    }
    for path in [
        "/",
        "/status",
        "/generations",
        "/blocks",
        "/console/sections",
    ] {
        assert_eq!(status(public, "GET", path, unnamed).await, 401, "{path}");
        assert_eq!(status(public, "GET", path, &named).await, 200, "{path}");
        assert_eq!(
            status(local, "GET", path, "host: localhost\r\n").await,
            200,
            "{path}"
        );
        assert_eq!(status(local, "GET", path, &named).await, 421, "{path}");
    }
    let refused = exchange(public, "GET", "/", unnamed).await.to_lowercase();
    assert!(
        refused.contains("www-authenticate: basic realm=\"tensorgate\""),
        "{refused}"
    );
    assert!(host.shutdown().await);
    std::fs::remove_dir_all(folder).unwrap();
}
