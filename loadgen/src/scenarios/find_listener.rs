//! Checks before a run that its server is there, so that one line says what is missing.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long to wait for the server to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

#[derive(Debug, Error)]
#[error("nothing listens at {0} ({1}): start the server, or say with --addr where it is")]
pub struct NoServer(SocketAddr, io::Error);

/// Fails if this machine cannot connect to the server.
pub async fn find_listener(server: SocketAddr) -> Result<(), NoServer> {
    let connected = timeout(CONNECT, TcpStream::connect(server)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    connected.map(drop).map_err(|error| NoServer(server, error))
}
