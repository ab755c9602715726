//! A client of gRPC: a connection of HTTP/2 by the library `h2`, and calls over it.

use std::io;
use std::net::{SocketAddr, TcpListener};

use bytes::Bytes;
use h2::client::SendRequest;
use tokio::net::TcpSocket;

use crate::sockets::local_address;

/// A message without fields, behind its flag and its length.
pub const EMPTY_MESSAGE: Bytes = Bytes::from_static(&[0; 5]);

/// A connection. Its clones make calls over it at the same time.
#[derive(Clone)]
pub struct GrpcClient {
    requests: SendRequest<Bytes>,
    server: SocketAddr,
}

impl GrpcClient {
    /// Connects from the local address of this number. The connection ends with the last clone of the client.
    pub async fn connect(server: SocketAddr, number: u8) -> io::Result<GrpcClient> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(local_address(number))?;
        let stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = h2::client::handshake(stream).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(GrpcClient { requests, server })
    }

    /// Calls this method with this framed message, and with a token if there is one. Returns the status of the call, or the
    /// reason for which the server has reset it. Fails if the connection has ended.
    pub async fn call(&mut self, method: &str, token: &str, message: Bytes) -> io::Result<String> {
        match self.try_call(method, token, message).await {
            Ok(status) => Ok(status),
            Err(error) if error.is_reset() => Ok(format!("reset: {error}")),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    async fn try_call(&mut self, method: &str, token: &str, message: Bytes) -> Result<String, h2::Error> {
        let call = http::Request::post(format!("http://{}/nakama.api.Nakama/{method}", self.server))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        let call = if token.is_empty() { call } else { call.header("authorization", format!("Bearer {token}")) };
        let call = call.body(()).map_err(|_| h2::Reason::PROTOCOL_ERROR)?;
        let mut requests = self.requests.clone().ready().await?;
        let (answer, mut sending) = requests.send_request(call, false)?;
        sending.send_data(message, true)?;
        let (head, mut body) = answer.await?.into_parts();
        while let Some(part) = body.data().await {
            let length = part?.len();
            body.flow_control().release_capacity(length)?;
        }
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        let status = trailers.get("grpc-status").and_then(|status| status.to_str().ok());
        Ok(status.map_or_else(|| format!("status {} of HTTP", head.status), str::to_owned))
    }
}

/// An address whose port is free now, for a server's `--grpc`.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}
