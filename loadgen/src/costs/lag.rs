//! The stamps that tell a thread how long its sockets wait for it.
//!
//! One timekeeper in each process writes the time into a socket pair for each thread every few milliseconds, whatever
//! the threads do. A thread reads its end of the pair like one of its clients' sockets, in the same runtime. So a stamp
//! that was read late waited as long as a client's frame would have waited.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::base::clock;
use crate::costs::recorder::Recorder;

/// How often the time is written. 200 stamps a second make the p99 of ten seconds reliable, and cost a thread about 0.1
/// % of its time.
const STAMP_EVERY: Duration = Duration::from_millis(5);
const STAMP_BYTES: usize = size_of::<u64>();
/// How many stamps are read at once after a stall.
const STAMPS_AT_ONCE: usize = 64;

/// A run that cannot measure its own lateness shows no latencies.
pub const NOT_WATCHED: &str = "a thread lost the line on which it reads how long its sockets wait for it";

/// A socket pair: the end where stamps are written, and the end where they are read.
pub fn line() -> io::Result<(UnixStream, UnixStream)> {
    let (writer, stamps) = UnixStream::pair()?;
    writer.set_nonblocking(true)?;
    stamps.set_nonblocking(true)?;
    Ok((writer, stamps))
}

/// Writes stamps until no thread reads them any more.
pub fn keep(mut writers: Vec<UnixStream>) {
    while !writers.is_empty() {
        writers.retain_mut(|writer| match writer.write(&clock::now_ns().to_ne_bytes()) {
            Ok(written) => written == STAMP_BYTES,
            // The socket is full because a thread has stalled for seconds. The waiting stamps show for how long; more
            // stamps would add nothing.
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        std::thread::sleep(STAMP_EVERY);
    }
}

/// Reads stamps as long as the thread runs.
pub async fn watch(stamps: UnixStream, recorder: Rc<Recorder>) -> io::Result<()> {
    let mut stamps = tokio::net::UnixStream::from_std(stamps)?;
    let mut buffer = [0; STAMP_BYTES * STAMPS_AT_ONCE];
    let mut filled = 0;
    loop {
        let read = stamps.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        assert!(filled <= buffer.len(), "{filled} bytes are read");
        let now_ns = clock::now_ns();
        let (whole, rest) = buffer[..filled].as_chunks::<STAMP_BYTES>();
        let rest = rest.len();
        whole.iter().for_each(|stamp| recorder.stamped(u64::from_ne_bytes(*stamp), now_ns));
        buffer.copy_within(filled - rest..filled, 0);
        filled = rest;
    }
}
