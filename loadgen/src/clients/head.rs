//! A stream that reads the head of an HTTP answer and not one byte beyond it.
//!
//! The WebSocket library reads the answer to its opening in pieces of 4 KiB, and each connection then keeps that buffer
//! until it ends. That would be most of an idle user's memory. When nothing beyond the head was read, the connection
//! can begin with a buffer of its own size. So this stream peeks at the bytes first, and takes only those of the head.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

const END: &[u8] = b"\r\n\r\n";
/// The answer to an opening has about two hundred bytes.
const PIECE_BYTES: usize = 1024;

pub struct HeadOnly {
    stream: TcpStream,
    /// How many bytes of the head's end have come already, when the end comes in pieces.
    matched: usize,
}

impl HeadOnly {
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, matched: 0 }
    }

    pub fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// How many of these bytes belong to the head, and how many bytes of its end have come after them.
    fn part_of_head(&self, bytes: &[u8]) -> (usize, usize) {
        let mut matched = self.matched;
        for (at, byte) in bytes.iter().enumerate() {
            if matched == END.len() {
                return (at, matched);
            }
            matched = match *byte == END[matched] {
                true => matched + 1,
                // Only the first byte of `END` can begin the match again.
                false => usize::from(*byte == END[0]),
            };
        }
        (bytes.len(), matched)
    }
}

impl AsyncRead for HeadOnly {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; PIECE_BYTES];
        let wanted = buffer.remaining().min(PIECE_BYTES);
        let mut seen = ReadBuf::new(&mut bytes[..wanted]);
        ready!(self.stream.poll_peek(context, &mut seen))?;
        let (part, matched) = self.part_of_head(seen.filled());
        assert!(part <= seen.filled().len() && matched <= END.len(), "a part of what came");
        if part == 0 && !seen.filled().is_empty() {
            return Poll::Ready(Err(io::Error::other("the head has ended")));
        }
        let mut taken = ReadBuf::new(&mut bytes[..part]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut taken))?;
        self.matched = self.part_of_head(taken.filled()).1;
        buffer.put_slice(taken.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for HeadOnly {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// Reads the head from pieces that come one after another, and then the rest, as the next reader of the stream
    /// would.
    async fn check(pieces: &[&str], head: &str, rest: &str) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let near = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("a connection");
        let (mut far, _) = listener.accept().await.expect("the same connection");
        let mut stream = HeadOnly::new(near);
        let (mut found, mut written) = (Vec::new(), 0);
        for piece in pieces {
            far.write_all(piece.as_bytes()).await.expect("an open connection");
            written += piece.len();
            while found.len() < head.len().min(written) {
                let mut some = [0; 4096];
                let read = stream.read(&mut some).await.expect("something of the head");
                found.extend_from_slice(&some[..read]);
            }
        }
        far.shutdown().await.expect("an open connection");
        let mut left = String::new();
        stream.into_inner().read_to_string(&mut left).await.expect("text");
        assert_eq!((String::from_utf8_lossy(&found), left.as_str()), (head.into(), rest), "{pieces:?}");
    }

    #[tokio::test]
    async fn only_the_head_is_taken() {
        check(&["HTTP/1.1 101\r\nA: b\r\n\r\n"], "HTTP/1.1 101\r\nA: b\r\n\r\n", "").await;
        check(&["HTTP/1.1 101\r\n\r\nfirst frame"], "HTTP/1.1 101\r\n\r\n", "first frame").await;
        check(&["HTTP/1.1 101\r\n", "\r", "\n\r\n\r\n"], "HTTP/1.1 101\r\n\r\n", "\r\n\r\n").await;
        check(&["A\r\r\n\r", "\nB"], "A\r\r\n\r\n", "B").await;
        let long = format!("X: {}\r\n\r\n", "y".repeat(3 * PIECE_BYTES));
        check(&[&long, "z"], &long, "z").await;
    }
}
