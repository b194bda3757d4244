//! A TCP listener for peers that show no credential. Each connection has a slot.

use std::future::{Ready, ready};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::Listener;
use super::peer::Connection;
use super::slots::Slots;
use super::write_timeout::WriteTimeout;

/// How long a peer may read nothing of a response.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The listener, and the slots of its connections.
#[derive(Debug)]
pub struct SlotListener {
    listener: TcpListener,
    slots: Arc<Slots>,
}

impl SlotListener {
    /// Creates a listener with slots for this number of connections.
    pub fn new(listener: TcpListener, max: usize) -> Self {
        Self {
            listener,
            slots: Arc::new(Slots::new(max)),
        }
    }
}

impl Listener for SlotListener {
    type Stream = WriteTimeout<TcpStream>;
    type Handshake = Ready<Option<Connection<WriteTimeout<TcpStream>>>>;

    async fn accept(&self) -> io::Result<Self::Handshake> {
        let (stream, peer) = self.listener.accept().await?;
        let stream = WriteTimeout::new(stream, WRITE_TIMEOUT);
        let connection = Connection {
            slot: Some(self.slots.admit(peer.ip())),
            ..Connection::local(stream, None)
        };
        Ok(ready(Some(connection)))
    }
}
