//! A network whose quality the test chooses: a relay between two sockets. Its weather can change
//! while connections are open.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How many bytes are read at once.
const PIECE_BYTES: usize = 16 << 10;
/// The interval at which bytes are forwarded when the bandwidth is limited.
const TICK: Duration = Duration::from_millis(10);

/// From the connecting side, or to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    There,
    Back,
}

/// How bytes are treated from now on. For each connection, bytes are counted from when that began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    Fair,
    /// Each piece arrives this much later.
    Late(Duration),
    /// So many bytes a second in either direction.
    Narrow(usize),
    /// So many bytes at a time, each in a segment of its own.
    Crumbs(usize),
    /// After so many bytes in that direction nothing passes there until the weather changes,
    /// without an error.
    Stalls(Way, usize),
    /// Nothing passes over the open connections, without an error. New connections work. This is a
    /// router that has lost its state.
    Forgets,
    /// After so many bytes in that direction the connection breaks.
    Breaks(Way, usize),
}

/// A relay; its connections end with it.
pub struct Relay {
    /// Its address, over TCP.
    pub address: Option<SocketAddr>,
    weather: watch::Sender<Weather>,
    task: JoinHandle<()>,
}

impl Relay {
    /// Between TCP sockets.
    pub async fn tcp(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, sky) = watch::channel(Weather::Fair);
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let sky = sky.clone();
                open.spawn(async move {
                    let Ok(server) = TcpStream::connect(to).await else {
                        return;
                    };
                    pass(client, server, sky).await;
                });
            }
        });
        Self {
            address: Some(address),
            weather,
            task,
        }
    }

    /// Between Unix sockets.
    pub fn unix(at: &Path, to: &Path) -> Self {
        let listener = UnixListener::bind(at).unwrap();
        let to = to.to_owned();
        let (weather, sky) = watch::channel(Weather::Fair);
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (sky, to) = (sky.clone(), to.clone());
                open.spawn(async move {
                    let Ok(server) = UnixStream::connect(to).await else {
                        return;
                    };
                    pass(client, server, sky).await;
                });
            }
        });
        Self {
            address: None,
            weather,
            task,
        }
    }

    /// Changes how bytes are treated from now on.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A socket that can be reset, where its kind allows that.
trait Socket: AsyncRead + AsyncWrite + Unpin {
    fn prepare(&self) {}
    fn break_off(&self) {}
}

impl Socket for TcpStream {
    fn prepare(&self) {
        self.set_nodelay(true).unwrap();
    }

    fn break_off(&self) {
        // With this, closing sends RST and not FIN.
        drop(self.set_zero_linger());
    }
}

impl Socket for UnixStream {}

async fn pass<S: Socket>(mut client: S, mut server: S, weather: watch::Receiver<Weather>) {
    client.prepare();
    server.prepare();
    let known = *weather.borrow() == Weather::Forgets;
    let ended = {
        let (from_client, to_client) = tokio::io::split(&mut client);
        let (from_server, to_server) = tokio::io::split(&mut server);
        tokio::try_join!(
            pump(from_client, to_server, Way::There, known, weather.clone()),
            pump(from_server, to_client, Way::Back, known, weather),
        )
    };
    if ended.is_err() {
        client.break_off();
        server.break_off();
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    known: bool,
    mut weather: watch::Receiver<Weather>,
) -> io::Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut since_change = 0;
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let mut left = &buffer[..read];
        while !left.is_empty() {
            if weather.has_changed().unwrap_or(false) {
                since_change = 0;
            }
            let now = *weather.borrow_and_update();
            let most = match now {
                Weather::Narrow(a_second) => {
                    let ticks = Duration::from_secs(1).as_millis() / TICK.as_millis();
                    a_second.div_ceil(usize::try_from(ticks).unwrap())
                }
                Weather::Crumbs(size) => size,
                Weather::Forgets if !known => 0,
                Weather::Stalls(there, after) | Weather::Breaks(there, after) if there == way => {
                    after.saturating_sub(since_change)
                }
                _ => usize::MAX,
            };
            if most == 0 {
                if matches!(now, Weather::Breaks(..)) {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
                if weather.changed().await.is_err() {
                    return Ok(());
                }
                since_change = 0;
                continue;
            }
            match now {
                Weather::Late(time) => tokio::time::sleep(time).await,
                Weather::Narrow(_) => tokio::time::sleep(TICK).await,
                _ => {}
            }
            let (piece, rest) = left.split_at(most.min(left.len()));
            to.write_all(piece).await?;
            to.flush().await?;
            since_change += piece.len();
            left = rest;
        }
    }
}
