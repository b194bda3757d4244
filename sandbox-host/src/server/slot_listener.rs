//! A TCP listener for peers that show no credential. Each connection has a slot.

use std::future::{Ready, ready};
use std::io;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::Listener;
use super::peer::Connection;
use super::slots::Slots;

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
    type Stream = TcpStream;
    type Handshake = Ready<Option<Connection<TcpStream>>>;

    async fn accept(&self) -> io::Result<Self::Handshake> {
        let (stream, peer) = self.listener.accept().await?;
        let connection = Connection {
            slot: Some(self.slots.admit(peer.ip())),
            ..Connection::local(stream, None)
        };
        Ok(ready(Some(connection)))
    }
}
