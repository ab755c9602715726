//! The stamps by which a thread learns how long its sockets wait for it.
//!
//! A timekeeper of each process writes the time into a socket pair for each thread, every few milliseconds, whatever the
//! threads are doing. A thread reads its end as one socket among its clients' sockets, in the same runtime: a stamp that
//! was read late stood in line just as a client's frame would have.

use std::io::{self, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncReadExt;

use crate::costs::recorder::Recorder;
use crate::team::clock;

/// How often the time is written: 200 stamps a second make a p99 of ten seconds sound, and cost a thread a thousandth.
const STAMP_EVERY: Duration = Duration::from_millis(5);
const STAMP_BYTES: usize = size_of::<u64>();
/// Stamps read at once, after a stall.
const STAMPS_AT_ONCE: usize = 64;

/// A run that does not know how late it was itself shows nothing.
pub const NOT_WATCHED: &str = "a thread lost the line on which it reads how long its sockets wait for it";

/// Where stamps are written, and where they are read.
pub fn line() -> io::Result<(UnixStream, UnixStream)> {
    let (pen, stamps) = UnixStream::pair()?;
    pen.set_nonblocking(true)?;
    stamps.set_nonblocking(true)?;
    Ok((pen, stamps))
}

/// Writes stamps until nobody reads them any more.
pub fn keep(mut pens: Vec<UnixStream>) {
    while !pens.is_empty() {
        pens.retain_mut(|pen| match pen.write(&clock::now_ns().to_ne_bytes()) {
            Ok(written) => written == STAMP_BYTES,
            // A thread stalls for seconds: the stamps in line say for how long, and further ones would say it again.
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        });
        std::thread::sleep(STAMP_EVERY);
    }
}

/// Reads stamps for as long as the thread lives.
pub async fn watch(stamps: UnixStream, recorder: Rc<impl AsRef<Recorder>>) -> io::Result<()> {
    let mut stamps = tokio::net::UnixStream::from_std(stamps)?;
    let mut buffer = [0; STAMP_BYTES * STAMPS_AT_ONCE];
    let mut filled = 0;
    loop {
        let read = stamps.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        let now_ns = clock::now_ns();
        let (whole, rest) = buffer[..filled].as_chunks::<STAMP_BYTES>();
        let rest = rest.len();
        whole.iter().for_each(|stamp| (*recorder).as_ref().stamped(u64::from_ne_bytes(*stamp), now_ns));
        buffer.copy_within(filled - rest..filled, 0);
        filled = rest;
    }
}
