//! An asynchronous HTTP client with one connection and one request at a time, for clients that ask as fast as they are
//! answered.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::asker::{Reply, whole};

pub struct KeptConnection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl KeptConnection {
    pub async fn open(address: SocketAddr) -> io::Result<KeptConnection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(KeptConnection { stream, received: Vec::new() })
    }

    /// Sends a request and waits for its answer. Returns the body. Fails if the connection ends, and if the status is
    /// another than 200.
    pub async fn ask(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        self.stream.write_all(request).await?;
        self.received.clear();
        loop {
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match whole(&self.received) {
                None => {}
                Some(Reply::Answer { status: 200, body }) => return Ok(body),
                Some(other) => return Err(io::Error::other(format!("a request was replied to with {other:?}"))),
            }
        }
    }
}
