//! One Redis: a connection that is kept, and commands that wait for their replies on it in the order in which they were sent.
//!
//! Whoever asks waits as long as it says and no longer. While there is no connection every question fails at once; one on which a reply
//! does not come for a second is given up, and another is tried, ever more seldom.

mod connect;
pub(super) mod resp;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use prometheus_client::metrics::gauge::Gauge;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

#[cfg(test)]
pub(super) use connect::SCRIPTS;
pub use connect::{ConnectFault, Script, Settings};

use connect::{Connection, Scripts};
use resp::Reply;

/// Commands on their way at once; more are refused.
const MAX_IN_FLIGHT: usize = 1_024;
/// Commands that wait to be sent: what comes between two turns of the connection's task.
const MAX_QUEUED: usize = 256;
/// A connection on which a reply takes this long is given up.
const HUNG: Duration = Duration::from_secs(1);
/// From the first packet to a connection that can charge.
const CONNECT_TIME: Duration = Duration::from_secs(1);
/// On a connection on which nothing moves a question is asked this often, so that one that is dead is found out by it.
const IDLE: Duration = Duration::from_secs(15);
/// Between two tries to connect, at first and at last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Why a command has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RedisFault {
    #[error("there is no connection to redis")]
    Down,
    #[error("too many questions to redis are on their way")]
    Busy,
    #[error("redis did not answer in time")]
    Late,
    #[error("redis answered {0:?}")]
    Refused(String),
}

/// A script's call.
struct Call {
    script: Script,
    /// Keys, then arguments.
    words: Vec<Vec<u8>>,
    keys: usize,
    reply: oneshot::Sender<Result<Vec<u8>, RedisFault>>,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("{0}")]
    Reply(#[from] resp::ReplyFault),
    #[error("a reply that nobody asked for")]
    Unasked,
    #[error("no reply came for {HUNG:?}")]
    Hung,
    #[error("it answered {0:?}")]
    Refused(String),
    /// Nobody asks any more.
    #[error("nobody asks")]
    Unused,
}

/// A Redis.
#[derive(Debug)]
pub struct Redis {
    calls: mpsc::Sender<Call>,
    up: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Redis {
    /// Connects, and keeps connecting. `up` says whether there is a connection, 0 or 1.
    pub fn start(settings: Settings, up: Gauge) -> Self {
        let (calls, asked) = mpsc::channel(MAX_QUEUED);
        let connected = Connected {
            up: Arc::default(),
            gauge: up,
        };
        let flag = Arc::clone(&connected.up);
        let task = tokio::spawn(keep(settings, asked, connected));
        Self {
            calls,
            up: flag,
            task,
        }
    }

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Calls a script with so many keys, and arguments behind them.
    ///
    /// # Errors
    /// There is no connection, too many wait, or no answer came within the time.
    pub async fn call(
        &self,
        script: Script,
        words: Vec<Vec<u8>>,
        keys: usize,
        within: Duration,
    ) -> Result<Vec<u8>, RedisFault> {
        if !self.is_up() {
            return Err(RedisFault::Down);
        }
        let (reply, replied) = oneshot::channel();
        let call = Call {
            script,
            words,
            keys,
            reply,
        };
        self.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => RedisFault::Busy,
            mpsc::error::TrySendError::Closed(_) => RedisFault::Down,
        })?;
        match timeout(within, replied).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(RedisFault::Down),
            Err(_) => Err(RedisFault::Late),
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known of the connection.
struct Connected {
    up: Arc<AtomicBool>,
    gauge: Gauge,
}

impl Connected {
    fn set(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
        self.gauge.set(i64::from(up));
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// A time without answers: told once, however many tries it has.
struct Spell {
    told: bool,
    pause: Duration,
}

impl Spell {
    const NONE: Self = Self {
        told: false,
        pause: BACKOFF.0,
    };

    fn answered(&mut self) {
        if std::mem::replace(self, Self::NONE).told {
            tracing::info!("redis answers");
        }
    }

    fn failed(&mut self, cause: &str) {
        if !std::mem::replace(&mut self.told, true) {
            tracing::error!(
                cause,
                "redis does not answer: limits that gateways share fall back"
            );
        }
    }
}

/// Has a connection for as long as somebody asks.
async fn keep(settings: Settings, mut asked: mpsc::Receiver<Call>, connected: Connected) {
    let mut spell = Spell::NONE;
    loop {
        let cause = match timeout(CONNECT_TIME, Connection::open(&settings)).await {
            Ok(Ok(connection)) => {
                connected.set(true);
                let ended = serve(connection, &mut asked, &mut spell).await;
                connected.set(false);
                if matches!(ended, Ended::Unused) {
                    return;
                }
                ended.to_string()
            }
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => format!("no answer within {CONNECT_TIME:?}"),
        };
        spell.failed(&cause);
        // Who came between the end and its being known is told so by the end of its channel.
        while asked.try_recv().is_ok() {}
        if asked.is_closed() {
            return;
        }
        sleep(spell.pause).await;
        spell.pause = spell.pause.saturating_mul(2).min(BACKOFF.1);
    }
}

/// A command on its way: who waits for its reply, if anybody, and since when.
struct Sent {
    reply: Option<oneshot::Sender<Result<Vec<u8>, RedisFault>>>,
    at: Instant,
}

/// Sends what is asked and hands replies back, until the connection is over.
async fn serve(
    connection: Connection,
    asked: &mut mpsc::Receiver<Call>,
    spell: &mut Spell,
) -> Ended {
    let Connection {
        stream,
        mut read,
        scripts,
    } = connection;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut unsent = BytesMut::new();
    let mut sent: VecDeque<Sent> = VecDeque::new();
    loop {
        let oldest = sent.front().map(|one| one.at);
        let due = oldest
            .unwrap_or_else(Instant::now)
            .checked_add(if oldest.is_some() { HUNG } else { IDLE });
        tokio::select! {
            call = asked.recv(), if sent.len() < MAX_IN_FLIGHT => {
                let Some(call) = call else { return Ended::Unused };
                put(&mut unsent, &mut sent, &scripts, call);
                while sent.len() < MAX_IN_FLIGHT && let Ok(call) = asked.try_recv() {
                    put(&mut unsent, &mut sent, &scripts, call);
                }
            }
            written = writer.write_buf(&mut unsent), if !unsent.is_empty() => match written {
                Ok(0) => return Ended::Closed,
                Ok(_) if unsent.is_empty() => match timeout(HUNG, writer.flush()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return error.into(),
                    Err(_) => return Ended::Hung,
                },
                Ok(_) => {}
                Err(error) => return error.into(),
            },
            came = reader.read_buf(&mut read) => {
                match came {
                    Ok(0) => return Ended::Closed,
                    Ok(_) => {}
                    Err(error) => return error.into(),
                }
                if let Err(ended) = hand_back(&mut read, &mut sent, spell) {
                    return ended;
                }
            }
            () = until(due) => {
                if oldest.is_some() {
                    return Ended::Hung;
                }
                resp::command(&mut unsent, [b"PING".as_slice()].into_iter());
                sent.push_back(Sent { reply: None, at: Instant::now() });
            }
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

fn put(unsent: &mut BytesMut, sent: &mut VecDeque<Sent>, scripts: &Scripts, call: Call) {
    // Who has stopped waiting has had its answer: nothing is charged for it.
    if call.reply.is_closed() {
        return;
    }
    let keys = call.keys.to_string();
    let head: [&[u8]; 3] = [b"EVALSHA", scripts.name(call.script), keys.as_bytes()];
    let words: Vec<&[u8]> = head
        .into_iter()
        .chain(call.words.iter().map(Vec::as_slice))
        .collect();
    resp::command(unsent, words.into_iter());
    sent.push_back(Sent {
        reply: Some(call.reply),
        at: Instant::now(),
    });
}

/// Hands every whole reply to whoever waits for it.
fn hand_back(
    read: &mut BytesMut,
    sent: &mut VecDeque<Sent>,
    spell: &mut Spell,
) -> Result<(), Ended> {
    while let Some(reply) = resp::take(read)? {
        let Sent { reply: waits, .. } = sent.pop_front().ok_or(Ended::Unasked)?;
        let (reply, ended) = match reply {
            Reply::Text(text) => {
                spell.answered();
                (Ok(text), None)
            }
            // A script that is gone, a replica that may not write, a server that loads its data: another connection finds out.
            Reply::Error(text) => (
                Err(RedisFault::Refused(text.clone())),
                Some(Ended::Refused(text)),
            ),
        };
        if let Some(waits) = waits {
            // Who has stopped waiting does not hear it.
            let _ = waits.send(reply);
        }
        if let Some(ended) = ended {
            return Err(ended);
        }
    }
    Ok(())
}
