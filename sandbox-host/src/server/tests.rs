//! Connections from their acceptance to their end: who the peer is, and how long it may stay.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::future::pending;
use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::http2;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, duplex};
use tokio::sync::{Mutex, mpsc};

use super::slots::Slots;
use super::*;

/// Longer than any step takes, on a clock that stands still while something runs.
const PATIENCE: Duration = Duration::from_secs(3_600);

const BOUNDS: Bounds = Bounds {
    connections: 4,
    streams: 4,
    head_bytes: 16 << 10,
    head_fields: 64,
    head_time: Duration::from_secs(2),
};

/// Accepts the connections that a test makes.
struct Prepared(Mutex<mpsc::Receiver<Connection<DuplexStream>>>);

impl Listener for Prepared {
    type Stream = DuplexStream;
    type Handshake = Ready<Option<Connection<DuplexStream>>>;

    async fn accept(&self) -> io::Result<Self::Handshake> {
        match self.0.lock().await.recv().await {
            Some(connection) => Ok(ready(Some(connection))),
            None => pending().await,
        }
    }
}

/// Answers each request with the name of its gateway.
fn serve<L: Listener>(listener: L) -> (watch::Sender<bool>, tokio::task::JoinHandle<bool>) {
    let (stop, stopped) = watch::channel(false);
    let handler = |request: Request<Incoming>| async move {
        let gateway = request.extensions().get::<GatewayPeer>();
        let name = gateway.map_or_else(String::new, |gateway| gateway.name.to_string());
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(name))))
    };
    let bounds = watch::channel(BOUNDS).1;
    let open = Gauge::default();
    let serving = run(listener, bounds, open, handler, stopped, PATIENCE);
    (stop, tokio::spawn(serving))
}

/// A listener, and where to put its connections.
fn prepared() -> (Prepared, mpsc::Sender<Connection<DuplexStream>>) {
    let (made, waiting) = mpsc::channel(1);
    (Prepared(Mutex::new(waiting)), made)
}

/// A connection over a network, and the client's end of it.
fn over_network(allowed: &Arc<AtomicBool>) -> (Connection<DuplexStream>, DuplexStream) {
    let (stream, client) = duplex(64 << 10);
    let allowed = Arc::clone(allowed);
    let connection = Connection {
        stream,
        peer: Some(GatewayPeer::over_network(
            "spiffe://a/gateway",
            IpAddr::V4(Ipv4Addr::LOCALHOST),
        )),
        still_allowed: Some(Box::new(move || allowed.load(Ordering::Relaxed))),
        over_network: true,
        slot: None,
    };
    (connection, client)
}

async fn name_of_gateway<S>(stream: S) -> (String, tokio::task::JoinHandle<bool>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    // The sender stays alive, so that only the server ends the connection.
    let (keep, kept) = tokio::sync::oneshot::channel();
    let ended = tokio::spawn(async move {
        let ended = connection.await.is_ok();
        drop(kept);
        ended
    });
    let request = Request::get("http://host/");
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let name = response.into_body().collect().await.unwrap().to_bytes();
    let _ = keep.send(sender);
    (String::from_utf8(name.to_vec()).unwrap(), ended)
}

#[tokio::test(start_paused = true)]
async fn a_connection_ends_within_a_minute_after_its_peer_is_no_longer_allowed() {
    let (listener, made) = prepared();
    let (_stop, _serving) = serve(listener);
    let allowed = Arc::new(AtomicBool::new(true));
    let (connection, client) = over_network(&allowed);
    assert!(made.send(connection).await.is_ok());
    let (name, ended) = name_of_gateway(client).await;
    assert_eq!(name, "spiffe://a/gateway at 127.0.0.1");
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!ended.is_finished(), "it may stay as long as it is allowed");
    allowed.store(false, Ordering::Relaxed);
    let ended = tokio::time::timeout(Duration::from_secs(60), ended).await;
    assert!(ended.unwrap().unwrap(), "its end is in order");
}

/// A request every ten seconds, to the end of a connection. Every PING is answered, except the one
/// that h2 sends with a GOAWAY: without the answer, the server goes on accepting streams.
async fn ignore_goaway(client: DuplexStream) {
    let (mut reader, mut writer) = tokio::io::split(client);
    // The preface, and SETTINGS without any.
    let start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    writer.write_all(start).await.unwrap();
    let (answers, mut waiting) = mpsc::channel(8);
    tokio::spawn(async move {
        while let Some(answer) = next_answer(&mut reader).await {
            let _ = answers.send(answer).await;
        }
    });
    let mut requests = tokio::time::interval(Duration::from_secs(10));
    let mut stream = 1_u32;
    loop {
        let frame = tokio::select! {
            _ = requests.tick() => {
                // `GET /`, by indexes of the static table.
                let head = [&[0, 0, 3, 1, 5][..], &stream.to_be_bytes(), &[0x82, 0x86, 0x84]];
                stream = stream.saturating_add(2);
                head.concat()
            }
            answer = waiting.recv() => match answer {
                Some(answer) => answer,
                None => return,
            },
        };
        // The end of the connection shows at the next frame.
        let _ = writer.write_all(&frame).await;
    }
}

/// Reads a frame, and returns the answer to it, if it needs one. `None` at the end of the
/// connection.
async fn next_answer(reader: &mut ReadHalf<DuplexStream>) -> Option<Vec<u8>> {
    const GOAWAY_PING: [u8; 8] = [0x0b, 0x7b, 0xa2, 0xf0, 0x8b, 0x9b, 0xfe, 0x54];
    const PING: u8 = 6;
    let mut head = [0; 9];
    reader.read_exact(&mut head).await.ok()?;
    let [a, b, c, kind, flags, ..] = head;
    let bytes = usize::try_from(u32::from_be_bytes([0, a, b, c])).ok()?;
    let mut payload = vec![0; bytes];
    reader.read_exact(&mut payload).await.ok()?;
    let answered = (kind, flags) == (PING, 0) && payload != GOAWAY_PING;
    Some(if answered {
        [&[0, 0, 8, PING, 1, 0, 0, 0, 0][..], &payload].concat()
    } else {
        Vec::new()
    })
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_ignores_the_end_of_its_connection_is_cut_off() {
    let (listener, made) = prepared();
    let (_stop, _serving) = serve(listener);
    let allowed = Arc::new(AtomicBool::new(true));
    let (connection, client) = over_network(&allowed);
    assert!(made.send(connection).await.is_ok());
    let ended = tokio::spawn(ignore_goaway(client));
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!ended.is_finished(), "it may stay as long as it is allowed");
    allowed.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(240)).await;
    assert!(!ended.is_finished(), "its requests may end");
    let ended = tokio::time::timeout(Duration::from_secs(180), ended).await;
    assert!(ended.is_ok(), "it is still open");
}

#[tokio::test(start_paused = true)]
async fn http_1_is_not_served_over_a_network() {
    let (listener, made) = prepared();
    let (_stop, _serving) = serve(listener);
    let (connection, mut client) = over_network(&Arc::new(AtomicBool::new(true)));
    assert!(made.send(connection).await.is_ok());
    let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    client.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1"), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn http_2_is_not_served_to_peers_without_a_credential() {
    let (listener, made) = prepared();
    let (_stop, _serving) = serve(listener);
    let slots = Arc::new(Slots::new(1));
    let (stream, mut client) = duplex(64 << 10);
    let connection = Connection {
        slot: Some(slots.admit(IpAddr::V4(Ipv4Addr::LOCALHOST))),
        ..Connection::local(stream, None)
    };
    assert!(made.send(connection).await.is_ok());
    // The preface, and SETTINGS without any.
    let start = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    client.write_all(start).await.unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.unwrap();
    assert!(
        answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"),
        "{answer:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_sends_no_head_or_a_slow_one_is_cut_off() {
    let (listener, made) = prepared();
    let (_stop, _serving) = serve(listener);
    for head in ["", "G", "P", "GET / HTTP/1.1\r\nhost: a\r\nx: "] {
        let (stream, client) = duplex(64 << 10);
        assert!(made.send(Connection::local(stream, None)).await.is_ok());
        let (mut reader, mut writer) = tokio::io::split(client);
        writer.write_all(head.as_bytes()).await.unwrap();
        let is_slow = head.len() > 1;
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(100));
            // The peer that sends nothing keeps its connection open, too.
            while !is_slow || writer.write_all(b"a").await.is_ok() {
                ticks.tick().await;
            }
        });
        let started = Instant::now();
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer).await;
        let waited = started.elapsed();
        // What it has sent may be the start of HTTP/2. The head of HTTP/1.1 has its own time.
        assert!(waited >= BOUNDS.head_time, "{head}: {waited:?}");
        assert!(
            waited < BOUNDS.head_time.saturating_mul(2),
            "{head}: {waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connections_of_one_source_delay_no_other() {
    let (listener, made) = prepared();
    let (_stop, _serving) = serve(listener);
    let slots = Arc::new(Slots::new(2));
    let connect = async |address: &str| {
        let (stream, client) = duplex(64 << 10);
        let connection = Connection {
            slot: Some(slots.admit(address.parse().unwrap())),
            ..Connection::local(stream, None)
        };
        assert!(made.send(connection).await.is_ok());
        client
    };
    let started = Instant::now();
    let mut idle = Vec::new();
    for _ in 0..70 {
        idle.push(connect("192.0.2.1").await);
    }
    for address in ["192.0.2.2", "127.0.0.1", "::1"] {
        let mut client = connect(address).await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
        assert_eq!(started.elapsed(), Duration::ZERO, "{address}");
    }
}

#[tokio::test]
async fn a_peer_of_a_socket_is_named_by_its_user() {
    let folder = std::env::temp_dir().join(format!("tg-server-{}", std::process::id()));
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("host.sock");
    let socket = Socket::bind(&path, &[]).unwrap();
    let (stop, serving) = serve(CheckedPeers::new(socket, Arc::new(Metrics::new())));
    let client = UnixStream::connect(&path).await.unwrap();
    let (name, _ended) = name_of_gateway(client).await;
    assert_eq!(name, format!("uid {}", rustix::process::geteuid().as_raw()));
    stop.send(true).unwrap();
    assert!(serving.await.unwrap(), "it drains");
    std::fs::remove_dir_all(folder).unwrap();
}
