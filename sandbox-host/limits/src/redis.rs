//! A client for one Redis server, with one persistent connection. Commands are pipelined, and
//! replies arrive in the order of the commands.
//!
//! Each caller sets its own timeout. Without a connection every command fails at once. A connection
//! without a reply for a second is closed, and reconnects are tried with backoff.

mod connect;
mod resp;

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

pub use connect::{ConnectFault, Script, Settings};
use connect::{Connection, Scripts};
use resp::Reply;

/// The most commands in flight. Further commands fail.
const MAX_IN_FLIGHT: usize = 1_024;
/// The most commands that wait to be sent between two iterations of the connection's task.
const MAX_QUEUED: usize = 256;
/// The time without a reply after which a connection is closed.
const REPLY_TIMEOUT: Duration = Duration::from_secs(1);
/// The timeout for connecting, authenticating and loading the scripts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// The interval of pings on an idle connection, which detect a dead one.
const PING_INTERVAL: Duration = Duration::from_secs(15);
/// The first and the longest pause between two reconnects. The longest and the interval of the
/// gate's probes are less than a second together, so limits are shared again that soon after Redis
/// is back.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(300));

/// Why a command has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum RedisFault {
    #[error("not connected to redis")]
    Down,
    #[error("too many requests to redis are in flight")]
    Busy,
    #[error("redis did not answer in time")]
    Late,
    #[error("redis answered {0:?}")]
    Refused(String),
}

/// A script call.
struct Call {
    script: Script,
    /// Keys, then arguments.
    args: Vec<Vec<u8>>,
    keys: usize,
    reply: oneshot::Sender<Result<Vec<u8>, RedisFault>>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it closed the connection")]
    Closed,
    #[error("{0}")]
    Reply(#[from] resp::ReplyFault),
    #[error("a reply that was not requested")]
    UnexpectedReply,
    #[error("no reply within {REPLY_TIMEOUT:?}")]
    Hung,
    #[error("it answered {0:?}")]
    Refused(String),
    /// All callers are gone.
    #[error("all callers are gone")]
    NoCallers,
}

/// A client for a Redis server.
#[derive(Debug)]
pub struct Redis {
    calls: mpsc::Sender<Call>,
    up: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Redis {
    /// Connects, and reconnects as needed. `up` shows whether there is a connection, 0 or 1.
    pub fn start(settings: Settings, up: Gauge) -> Self {
        let (calls, asked) = mpsc::channel(MAX_QUEUED);
        let connected = ConnectionGauge {
            up: Arc::default(),
            gauge: up,
        };
        let flag = Arc::clone(&connected.up);
        let task = tokio::spawn(run(settings, asked, connected));
        Self {
            calls,
            up: flag,
            task,
        }
    }

    /// Whether there is a connection.
    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Calls a script. The first `keys` words are keys, the others arguments.
    ///
    /// # Errors
    /// Returns an error if there is no connection, too many commands wait, or no reply arrives in
    /// time.
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
            args: words,
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

/// The state of the connection.
struct ConnectionGauge {
    up: Arc<AtomicBool>,
    gauge: Gauge,
}

impl ConnectionGauge {
    fn set(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
        self.gauge.set(i64::from(up));
    }
}

impl Drop for ConnectionGauge {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// An outage. It is logged once, however many reconnects fail.
struct Outage {
    logged: bool,
    pause: Duration,
}

impl Outage {
    const NONE: Self = Self {
        logged: false,
        pause: BACKOFF.0,
    };

    fn on_answer(&mut self) {
        if std::mem::replace(self, Self::NONE).logged {
            tracing::info!("redis answers");
        }
    }

    fn on_failure(&mut self, cause: &str) {
        if !std::mem::replace(&mut self.logged, true) {
            tracing::error!(
                cause,
                "redis does not answer: using the fallback for limits that gateways share"
            );
        }
    }
}

/// Keeps a connection until all callers are gone.
async fn run(settings: Settings, mut asked: mpsc::Receiver<Call>, connected: ConnectionGauge) {
    let mut spell = Outage::NONE;
    loop {
        let cause = match timeout(CONNECT_TIMEOUT, Connection::open(&settings)).await {
            Ok(Ok(connection)) => {
                connected.set(true);
                let ended = serve(connection, &mut asked, &mut spell).await;
                connected.set(false);
                if matches!(ended, Ended::NoCallers) {
                    return;
                }
                ended.to_string()
            }
            Ok(Err(fault)) => fault.to_string(),
            Err(_) => format!("no answer within {CONNECT_TIMEOUT:?}"),
        };
        spell.on_failure(&cause);
        // Drops the commands that were queued after the connection ended. Their callers see closed
        // channels.
        while asked.try_recv().is_ok() {}
        if asked.is_closed() {
            return;
        }
        sleep(spell.pause).await;
        spell.pause = spell.pause.saturating_mul(2).min(BACKOFF.1);
    }
}

/// A command in flight: its caller, if there is one, and the time when it was sent.
struct PendingCommand {
    reply: Option<oneshot::Sender<Result<Vec<u8>, RedisFault>>>,
    at: Instant,
}

/// Sends commands and distributes replies until the connection ends.
async fn serve(
    connection: Connection,
    asked: &mut mpsc::Receiver<Call>,
    spell: &mut Outage,
) -> Ended {
    let Connection {
        stream,
        mut read,
        scripts,
    } = connection;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut unsent = BytesMut::new();
    let mut sent: VecDeque<PendingCommand> = VecDeque::new();
    loop {
        let oldest = sent.front().map(|one| one.at);
        let due = oldest
            .unwrap_or_else(Instant::now)
            .checked_add(if oldest.is_some() {
                REPLY_TIMEOUT
            } else {
                PING_INTERVAL
            });
        tokio::select! {
            call = asked.recv(), if sent.len() < MAX_IN_FLIGHT => {
                let Some(call) = call else { return Ended::NoCallers };
                enqueue(&mut unsent, &mut sent, &scripts, call);
                while sent.len() < MAX_IN_FLIGHT && let Ok(call) = asked.try_recv() {
                    enqueue(&mut unsent, &mut sent, &scripts, call);
                }
            }
            written = writer.write_buf(&mut unsent), if !unsent.is_empty() => match written {
                Ok(0) => return Ended::Closed,
                Ok(_) if unsent.is_empty() => match timeout(REPLY_TIMEOUT, writer.flush()).await {
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
                if let Err(ended) = distribute_replies(&mut read, &mut sent, spell) {
                    return ended;
                }
            }
            () = until(due) => {
                if oldest.is_some() {
                    return Ended::Hung;
                }
                resp::command(&mut unsent, [b"PING".as_slice()].into_iter());
                sent.push_back(PendingCommand { reply: None, at: Instant::now() });
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

fn enqueue(
    unsent: &mut BytesMut,
    sent: &mut VecDeque<PendingCommand>,
    scripts: &Scripts,
    call: Call,
) {
    // A caller that timed out has its answer. Nothing is charged for it.
    if call.reply.is_closed() {
        return;
    }
    let keys = call.keys.to_string();
    let head: [&[u8]; 3] = [b"EVALSHA", scripts.name(call.script), keys.as_bytes()];
    let words: Vec<&[u8]> = head
        .into_iter()
        .chain(call.args.iter().map(Vec::as_slice))
        .collect();
    resp::command(unsent, words.into_iter());
    sent.push_back(PendingCommand {
        reply: Some(call.reply),
        at: Instant::now(),
    });
}

/// Distributes every complete reply to its caller.
fn distribute_replies(
    read: &mut BytesMut,
    sent: &mut VecDeque<PendingCommand>,
    spell: &mut Outage,
) -> Result<(), Ended> {
    while let Some(reply) = resp::take(read)? {
        let PendingCommand { reply: waits, .. } = sent.pop_front().ok_or(Ended::UnexpectedReply)?;
        let (reply, ended) = match reply {
            Reply::Text(text) => {
                spell.on_answer();
                (Ok(text), None)
            }
            // The script is gone, the server is a read-only replica, or it is loading its data. A
            // new connection will show.
            Reply::Error(text) => (
                Err(RedisFault::Refused(text.clone())),
                Some(Ended::Refused(text)),
            ),
        };
        if let Some(waits) = waits {
            // The caller may have timed out.
            let _ = waits.send(reply);
        }
        if let Some(ended) = ended {
            return Err(ended);
        }
    }
    Ok(())
}
