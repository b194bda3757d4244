//! A Redis that is not what a host expects: one that answers falsely, and one that requires
//! authentication.

use std::time::{Duration, Instant};

use serde_json::json;
use tensorgate_client::redis::Redis;

use super::support::{PATIENCE, folder, start_with};
use super::{ask, asked, connected, request, shared};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn false_answers_of_redis_are_rejected() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    // Answers with a script's name, and then with the chosen text.
    let (tell, lies) = tokio::sync::watch::channel(String::new());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let lies = lies.clone();
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let name = format!("$40\r\n{}\r\n", "a".repeat(40));
                let mut bytes = vec![0; 1 << 16];
                while let Ok(came) = stream.read(&mut bytes).await {
                    let text = String::from_utf8_lossy(&bytes[..came]).into_owned();
                    let says = if text.contains("EVALSHA") {
                        let calls = text.split("EVALSHA").skip(1);
                        let answers = calls.map(|call| match call.contains(":blocks") {
                            true => "$2\r\n0\n\r\n".to_owned(),
                            false => lies.borrow().clone(),
                        });
                        answers.collect()
                    } else if text.contains("LOAD") {
                        name.clone()
                    } else {
                        String::new()
                    };
                    if came == 0 || stream.write_all(says.as_bytes()).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    let url = format!("redis://{address}");
    let host = start_with(shared(&json!({"url": url}), 10), &[]).await;
    let text = |text: &str| format!("${}\r\n{text}\r\n", text.len());
    for lie in [
        text("1 1 0 0"),
        text("1 1795226480351057 999999999999999 0"),
        text("0 1795226480351057 0 0"),
        text("1"),
        text(""),
        text("!9"),
        "+OK\r\n".into(),
        "-ERR no\r\n".into(),
        "*1\r\n$1\r\na\r\n".into(),
        "$1000000000\r\n".into(),
        "\0\0\0\0".into(),
        "x".repeat(1 << 16),
        "+OK\r\n+OK\r\n+OK\r\n".into(),
    ] {
        tell.send(lie.clone()).unwrap();
        connected(&host, 1).await;
        let answer = ask(&host, &request()).await;
        let shown: String = lie.chars().take(40).collect();
        // The first is permitted: in 1970 no client had pending charges.
        if lie == text("1 1 0 0") {
            assert!(answer.is_ok());
            continue;
        }
        let status = answer.unwrap_err();
        assert!(
            ["13", "14", "4"].contains(&status.as_str()),
            "{shown:?} {status}"
        );
    }
    host.stop().await;
}

/// The longest pause between two attempts to reconnect, on a busy machine.
const LONGEST_PAUSE: Duration = Duration::from_millis(700);

/// A stand-in for Redis that is there or away, and when each connection came.
async fn comes_and_goes() -> (
    String,
    tokio::sync::watch::Sender<bool>,
    tokio::sync::mpsc::UnboundedReceiver<Instant>,
) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let (set_there, there) = tokio::sync::watch::channel(true);
    let (connected_at, connections) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = connected_at.send(Instant::now());
            let is_there = *there.borrow();
            if is_there {
                tokio::spawn(answer_while_there(stream, there.clone()));
            }
        }
    });
    (url, set_there, connections)
}

/// Answers with a script's name, and that no client is blocked.
async fn answer_while_there(
    mut stream: tokio::net::TcpStream,
    mut there: tokio::sync::watch::Receiver<bool>,
) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut bytes = vec![0; 1 << 16];
    loop {
        let read = tokio::select! {
            read = stream.read(&mut bytes) => read.unwrap_or(0),
            _ = there.wait_for(|is_there| !is_there) => return,
        };
        let text = String::from_utf8_lossy(&bytes[..read]);
        let answer = if text.contains("LOAD") {
            format!("$40\r\n{}\r\n", "a".repeat(40))
        } else {
            "$2\r\n0\n\r\n".repeat(text.matches("EVALSHA").count())
        };
        if read == 0 || stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_was_away_is_connected_again_within_a_second() {
    let (url, set_there, mut connections) = comes_and_goes().await;
    let host = start_with(shared(&json!({"url": url}), 10), &[]).await;
    connected(&host, 1).await;
    set_there.send_replace(false);
    connected(&host, 0).await;
    while connections.try_recv().is_ok() {}
    // However long it is away, the pauses do not grow beyond a part of a second.
    let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
    for _ in 0..8 {
        let at = tokio::time::timeout(PATIENCE, connections.recv()).await;
        let at = at.unwrap().unwrap();
        longest = longest.max(at.saturating_duration_since(last));
        last = at;
    }
    assert!(longest < LONGEST_PAUSE, "{longest:?}");
    set_there.send_replace(true);
    let back = Instant::now();
    connected(&host, 1).await;
    let took = back.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_called_over_tls_with_the_policys_credentials() {
    use tensorgate_client::pki::Authority;
    let files = folder();
    let user = ["--user", "gate", "on", ">s3cret", "~tensorgate:*", "+@all"];
    let arguments = [&["--requirepass", "other"][..], &user].concat();
    let redis = Redis::start_with(&files, &arguments).await.unwrap();
    let authority = Authority::new("redis").unwrap();
    let leaf = authority
        .issue(1, &["dns:localhost", "ip:127.0.0.1"])
        .unwrap();
    let port = tls_in_front(redis.address(), &leaf.pem, &leaf.key).await;
    let stranger = Authority::new("another").unwrap();
    let files_of = |authority: &str, password: &str| {
        [
            ("ca.pem", authority.as_bytes().to_vec()),
            ("password", password.as_bytes().to_vec()),
        ]
    };
    for (authority, password, host_name, connects) in [
        (&authority.pem, "s3cret\n", "localhost", true),
        (&authority.pem, "s3cret", "127.0.0.1", true),
        (&authority.pem, "wrong", "localhost", false),
        (&stranger.pem, "s3cret", "localhost", false),
    ] {
        let redis = json!({
            "url": format!("rediss://{host_name}:{port}/0"), "ca": "ca.pem", "username": "gate", "password_file": "password"
        });
        let content = files_of(authority, password);
        let content: Vec<_> = content
            .iter()
            .map(|(name, it)| (*name, it.as_slice()))
            .collect();
        let host = start_with(shared(&redis, 10), &content).await;
        if connects {
            connected(&host, 1).await;
            assert!(asked(&host, &request()).await.0);
        } else {
            tokio::time::sleep(Duration::from_millis(300)).await;
            assert_eq!(ask(&host, &request()).await, Err("14".into()));
        }
        host.stop().await;
    }
    drop(redis);
    std::fs::remove_dir_all(files).unwrap();
}

/// Terminates TLS in front of a Redis; returns the port.
async fn tls_in_front(redis: std::net::SocketAddr, certificate: &str, key: &str) -> u16 {
    use std::sync::Arc;

    use tokio_rustls::TlsAcceptor;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut behind = tokio::net::TcpStream::connect(redis).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
                }
            });
        }
    });
    port
}
