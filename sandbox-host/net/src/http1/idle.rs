//! The idle connections of one endpoint, bounded in number and time.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_rustls::rustls::ClientConfig;

use super::connection::{CloseCause, Connection, Observe, Reuse};

/// The most idle connections to one endpoint, of all clients together. Those in use are bounded by
/// `max_in_flight`.
const MAX_IDLE_CONNECTIONS: usize = 64;

/// Idle connections, the one that was used last at the end. It is used first, so that what a burst
/// has left grows old and is closed.
#[derive(Debug)]
pub(super) struct IdleConnections {
    state: Mutex<State>,
    observer: Arc<dyn Observe>,
    /// Permits of tasks that read the rest of an answer.
    pub(super) drains: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<Connection>,
    is_swept: bool,
}

impl IdleConnections {
    pub(super) fn new(observer: Arc<dyn Observe>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            observer,
            drains: Arc::new(Semaphore::new(MAX_IDLE_CONNECTIONS)),
        })
    }

    pub(super) fn observer(&self) -> Arc<dyn Observe> {
        Arc::clone(&self.observer)
    }

    fn with<T>(&self, step: impl FnOnce(&mut State) -> T) -> T {
        step(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A connection for these requests that may be used with this identity. Those of other
    /// identities that are met are closed.
    pub(super) fn take(
        &self,
        identity: Option<&Arc<ClientConfig>>,
        reuse: Reuse,
    ) -> Option<Connection> {
        let last = |state: &mut State| {
            let mut connections = state.connections.iter();
            let index = connections.rposition(|connection| connection.reuse == reuse)?;
            Some(state.connections.remove(index))
        };
        // Each turn removes one, so this ends.
        while let Some(connection) = self.with(last) {
            match connection.check_idle(identity) {
                Ok(()) => return Some(connection),
                Err(cause) => connection.close(cause),
            }
        }
        None
    }

    /// Keeps a connection. One too many closes the one that was idle for longest.
    pub(super) fn put(self: &Arc<Self>, connection: Connection) {
        // Without a runtime, as while the host ends, no connection is kept.
        let Ok(runtime) = Handle::try_current() else {
            return connection.close(CloseCause::Surplus);
        };
        let (displaced, starts) = self.with(|state| {
            let is_full = state.connections.len() >= MAX_IDLE_CONNECTIONS;
            let displaced = is_full.then(|| state.connections.remove(0));
            state.connections.push(connection);
            (displaced, !std::mem::replace(&mut state.is_swept, true))
        });
        if let Some(displaced) = displaced {
            displaced.close(CloseCause::Surplus);
        }
        if starts {
            runtime.spawn(sweep(Arc::downgrade(self)));
        }
    }

    /// Closes all: the endpoint has failed, and the others probably lead to the same process.
    pub(super) fn clear(&self) {
        for connection in self.with(|state| std::mem::take(&mut state.connections)) {
            connection.close(CloseCause::Surplus);
        }
    }

    /// Closes what is too old, and returns when to look again. `None` once there are none.
    fn close_expired(&self) -> Option<Instant> {
        let now = Instant::now();
        let (expired, next) = self.with(|state| {
            let is_over = |it: &mut Connection| it.usable_until <= now || it.sender.is_closed();
            let expired: Vec<_> = state.connections.extract_if(.., is_over).collect();
            let next = state.connections.iter().map(|it| it.usable_until).min();
            state.is_swept = next.is_some();
            (expired, next)
        });
        for connection in expired {
            // One that ended before its time was ended by the server.
            let is_ended = connection.sender.is_closed();
            let cause = if is_ended {
                connection.failure()
            } else {
                CloseCause::Idle
            };
            connection.close(cause);
        }
        next
    }
}

/// Closes idle connections in time, while there are any.
async fn sweep(idle: Weak<IdleConnections>) {
    loop {
        // Not held while it sleeps: the endpoint may go.
        let next = idle.upgrade().and_then(|idle| idle.close_expired());
        let Some(next) = next else {
            return;
        };
        tokio::time::sleep_until(next).await;
    }
}
