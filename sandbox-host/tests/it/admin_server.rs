//! The admin server of a real host: it answers while strangers hold connections, and only requests
//! that name this machine.

use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{admin, policy, start};

#[tokio::test]
async fn idle_connections_delay_no_probe_of_the_admin_server() {
    let running = start(policy("http://127.0.0.1:9", json!({}), json!({}))).await;
    let address = running.host.admin();
    let mut idle = Vec::new();
    for _ in 0..200 {
        idle.push(TcpStream::connect(address).await.unwrap());
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let started = Instant::now();
        let (status, text) = admin(address, path).await;
        assert_eq!(status, 200, "{path}: {text}");
        assert!(started.elapsed() < Duration::from_secs(1), "{path}");
    }
    drop(idle);
    running.stop().await;
}

#[tokio::test]
async fn the_admin_server_answers_only_requests_to_this_machine() {
    let running = start(policy("http://127.0.0.1:9", json!({}), json!({}))).await;
    let address = running.host.admin();
    for path in ["/readyz", "/generations", "/blocks", "/status", "/none"] {
        for (host, expected) in [("127.0.0.1:9902", false), ("gate.example:9902", true)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request =
                format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let is_rejected = answer.starts_with("HTTP/1.1 421");
            assert_eq!(is_rejected, expected, "{path} {host}: {answer}");
        }
    }
    running.stop().await;
}
