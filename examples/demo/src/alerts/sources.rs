//! Guesses of keys from many sources: each address of the loopback network is one.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Result, ensure};
use tensorgate_client::http1;
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use crate::request::infer_path;

/// The number of sources. Before it knows what is usual, the rule expects up to 200 in ten minutes.
const SOURCES: u16 = 256;
/// Guesses at a time. The gate delays the answer to each by a second.
const CONCURRENT: usize = 128;

/// Sends one wrong key from each source.
pub async fn guess_keys(gate: SocketAddr) -> Result<()> {
    let sources: Vec<u16> = (0..SOURCES).collect();
    for group in sources.chunks(CONCURRENT) {
        let mut guesses = JoinSet::new();
        for source in group {
            guesses.spawn(guess_key(gate, *source));
        }
        while let Some(guess) = guesses.join_next().await {
            guess??;
        }
    }
    Ok(())
}

async fn guess_key(gate: SocketAddr, source: u16) -> Result<()> {
    let [high, low] = source.to_be_bytes();
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 1, high, low), 0).into())?;
    let mut stream = socket.connect(gate).await?;
    let request = format!(
        "POST {} HTTP/1.1\r\nhost: {gate}\r\nconnection: close\r\nx-api-key: guess-{source}\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}",
        infer_path("digits")
    );
    let reply = http1::on(&mut stream, request.as_bytes()).await?;
    ensure!(
        reply.status == 401,
        "a wrong key was answered {}",
        reply.status
    );
    Ok(())
}
