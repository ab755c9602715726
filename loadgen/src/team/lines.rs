//! Lines of bounded length: how coordinator and workers read each other's messages, over pipes and over TCP.
//!
//! A line counts only when its end has come. If a peer dies in the middle of a line, the part that has come is ignored.

use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

/// The longest line. The figures of a run name each message several times, and a run has at most twenty million
/// messages.
pub const LINE_BYTES_MAX: usize = 1 << 30;

/// Peers say something at least every second: workers send words, coordinators ask for the time. A peer that sends
/// nothing, or takes nothing, for this long has gone.
pub const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Reads lines, and returns one after another from its own buffer.
pub struct Lines<R> {
    reader: BufReader<R>,
    line: Vec<u8>,
    bytes_max: usize,
    /// How long the peer may send nothing at all.
    patience: Option<Duration>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub fn new(reader: R, bytes_max: usize, patience: Option<Duration>) -> Self {
        Self { reader: BufReader::new(reader), line: Vec::new(), bytes_max, patience }
    }

    /// From now on, lines may have this many bytes. A peer that has proved that it has the secret may send longer
    /// lines.
    pub fn allow(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// The next line without its end, or `None` when there are no more lines.
    pub async fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        loop {
            let patience = self.patience;
            let part = patiently(patience, self.reader.fill_buf()).await?;
            if part.is_empty() {
                return Ok(None);
            }
            let end = part.iter().position(|byte| *byte == b'\n');
            let taken = end.unwrap_or(part.len());
            if self.line.len() + taken > self.bytes_max {
                let what = format!("a line of more than {} bytes", self.bytes_max);
                return Err(io::Error::new(io::ErrorKind::InvalidData, what));
            }
            self.line.extend_from_slice(&part[..taken]);
            self.reader.consume(taken + usize::from(end.is_some()));
            if end.is_some() {
                return Ok(Some(&self.line));
            }
        }
    }

    /// Returns the reader, with the bytes that it has read ahead.
    pub fn into_rest(self) -> BufReader<R> {
        self.reader
    }
}

async fn patiently<T>(patience: Option<Duration>, reading: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let Some(patience) = patience else { return reading.await };
    tokio::time::timeout(patience, reading).await.unwrap_or_else(|_| {
        let what = format!("nothing heard for {} s", patience.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, what))
    })
}

/// Makes lines over TCP go out at once. If the peer's machine is gone, this is noticed after `silence_max`.
pub fn prepare(stream: &TcpStream, silence_max: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let milliseconds = u32::try_from(silence_max.as_millis()).unwrap_or(u32::MAX);
    Ok(sockopt::set_tcp_user_timeout(stream, milliseconds)?)
}

/// Writes one whole line.
pub async fn write<W: AsyncWrite + Unpin>(writer: &mut W, line: &impl serde::Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    debug_assert!(!bytes.contains(&b'\n'), "a message is one line");
    bytes.push(b'\n');
    writer.write_all(&bytes).await?;
    writer.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8], bytes_max: usize) -> (Vec<String>, Option<io::ErrorKind>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut lines = Lines::new(bytes, bytes_max, None);
            let mut found = Vec::new();
            loop {
                match lines.next().await {
                    Ok(Some(line)) => found.push(String::from_utf8_lossy(line).into_owned()),
                    Ok(None) => return (found, None),
                    Err(error) => return (found, Some(error.kind())),
                }
            }
        })
    }

    #[test]
    fn lines_end_or_are_none() {
        let check = |text: &str, bytes_max, expected: &[&str], error| {
            let (found, failed) = read(text.as_bytes(), bytes_max);
            assert_eq!((found, failed), (expected.iter().map(ToString::to_string).collect(), error), "{text:?}");
        };
        check("", 9, &[], None);
        check("one\n\ntwo\n", 3, &["one", "", "two"], None);
        check("one\nhalf", 9, &["one"], None);
        check("one\nlong\nmore\n", 3, &["one"], Some(io::ErrorKind::InvalidData));
        check("endless", 3, &[], Some(io::ErrorKind::InvalidData));
    }

    proptest::proptest! {
        /// What is written line by line comes back, in whatever pieces a pipe hands it over.
        #[test]
        fn lines_come_back_in_pieces_of_any_size(
            texts in proptest::collection::vec(".{0,60}", 0..12),
            capacity in 1_usize..40,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let found: Vec<String> = runtime.block_on(async {
                let (mut near, far) = tokio::io::duplex(capacity);
                let writing = async {
                    for text in &texts {
                        write(&mut near, text).await.expect("an open pipe");
                    }
                    near.shutdown().await.expect("an open pipe");
                };
                let reading = async {
                    let (mut lines, mut found) = (Lines::new(far, 4_096, None), Vec::new());
                    while let Some(line) = lines.next().await.expect("lines within the bound") {
                        found.push(serde_json::from_slice(line).expect("what was written"));
                    }
                    found
                };
                tokio::join!(writing, reading).1
            });
            assert_eq!(found, texts);
        }
    }

    #[tokio::test]
    async fn silence_ends_it() {
        let (_peer, silent) = tokio::io::duplex(64);
        let mut lines = Lines::new(silent, 9, Some(Duration::ZERO));
        let error = lines.next().await.expect_err("nobody speaks");
        assert!(error.to_string().contains("nothing heard"), "{error}");
    }
}
