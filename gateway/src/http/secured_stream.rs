//! A stream of glommio, with TLS or without.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

use crate::readiness;
use crate::tls::{Received, TlsConnection, TlsFault};

/// A stream whose bytes are encrypted if the client has begun with TLS.
pub struct SecuredStream {
    stream: TcpStream,
    tls: Option<Box<TlsConnection>>,
    /// Decrypted bytes that were not asked for yet: those of one read.
    content: Vec<u8>,
    ended: bool,
}

impl SecuredStream {
    /// The stream of a socket. `tls` is the connection whose handshake is over, if there is one.
    pub fn new(socket: OwnedFd, tls: Option<Box<TlsConnection>>) -> Self {
        let ended = tls.as_ref().is_some_and(|tls| tls.has_ended());
        Self { stream: readiness::adopt(socket), tls, content: Vec::new(), ended }
    }

    /// Sends small writes at once.
    pub fn set_nodelay(&self) {
        // It fails on a socket that is dead, which the next read reports, and on one without TCP.
        let _ = self.stream.set_nodelay(true);
    }

    /// Takes the socket back, with the bytes that were decrypted and not read. Fails if no descriptor is free.
    pub fn give_up(self) -> io::Result<(OwnedFd, Option<Box<TlsConnection>>, Vec<u8>)> {
        Ok((readiness::give_up(self.stream)?, self.tls, self.content))
    }

    /// Sends the unsent bytes.
    fn poll_send(stream: &mut TcpStream, tls: &mut TlsConnection, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while tls.has_unsent() {
            let sent = ready!(Pin::new(&mut *stream).poll_write(context, tls.unsent()))?;
            tls.sent(sent);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for SecuredStream {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { stream, tls, content, ended } = &mut *self;
        let Some(tls) = tls else { return Pin::new(stream).poll_read(context, bytes) };
        while content.is_empty() && !*ended {
            let received = tls.receive(content, |buffer| match Pin::new(&mut *stream).poll_read(context, buffer) {
                Poll::Ready(read) => read.map_err(Some),
                Poll::Pending => Err(None),
            });
            // What the connection says of its own is sent when the socket has room; the answer comes after it.
            let _ = Self::poll_send(stream, tls, context);
            match received {
                Ok(received) => *ended = matches!(received.map_err(broken)?, Received::Last(_)),
                Err(Some(error)) => return Poll::Ready(Err(error)),
                Err(None) => return Poll::Pending,
            }
        }
        let read = content.len().min(bytes.len());
        bytes[..read].copy_from_slice(&content[..read]);
        content.drain(..read);
        if content.is_empty() {
            *content = Vec::new();
        }
        Poll::Ready(Ok(read))
    }
}

impl AsyncWrite for SecuredStream {
    /// Takes some records while those before them are sent. After that, `poll_flush` says whether it is sent.
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, tls, .. } = &mut *self;
        let Some(tls) = tls else { return Pin::new(stream).poll_write(context, bytes) };
        ready!(Self::poll_send(stream, tls, context))?;
        let written = tls.send(&[bytes], |record| match Pin::new(&mut *stream).poll_write(context, record) {
            Poll::Ready(written) => written,
            Poll::Pending => Ok(0),
        })?;
        Poll::Ready(written.map_err(broken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, tls, .. } = &mut *self;
        if let Some(tls) = tls {
            ready!(Self::poll_send(stream, tls, context))?;
        }
        Pin::new(stream).poll_flush(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, tls, .. } = &mut *self;
        if let Some(tls) = tls {
            tls.close();
            ready!(Self::poll_send(stream, tls, context))?;
        }
        Pin::new(stream).poll_close(context)
    }
}

fn broken(fault: TlsFault) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, fault)
}
