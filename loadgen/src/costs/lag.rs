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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::base::clock::SECOND_NS;
    use crate::checks::figures::Figures;

    const MS: u64 = SECOND_NS / 1_000;

    /// What a thread has recorded that reads these pieces of its line, until the line ends.
    fn watched(pieces: &[Vec<u8>]) -> (u64, u64) {
        let recorder = Rc::new(Recorder::new(Arc::default()));
        recorder.begin(0..u64::MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (writer, stamps) = line().expect("a socket pair");
            let mut writer = tokio::net::UnixStream::from_std(writer).expect("a socket");
            let writing = async move {
                for piece in pieces {
                    tokio::io::AsyncWriteExt::write_all(&mut writer, piece).await.expect("an open line");
                    tokio::task::yield_now().await;
                }
            };
            let (watched, ()) = tokio::join!(watch(stamps, recorder.clone()), writing);
            watched.expect("the end of a line is no error");
        });
        let mut figures = Figures::default();
        recorder.account(&mut figures);
        let lag = figures.lag.percentiles();
        (lag.count, lag.max_us)
    }

    #[test]
    fn every_stamp_is_read_however_the_line_is_split_and_the_oldest_shows_the_longest_wait() {
        assert_eq!(watched(&[]), (0, 0));
        let stamps: Vec<u8> =
            (0..200).flat_map(|number| (clock::now_ns() - 500 * MS + number * MS).to_ne_bytes()).collect();
        for size in [1, 3, STAMP_BYTES, STAMP_BYTES * STAMPS_AT_ONCE, stamps.len()] {
            let pieces: Vec<Vec<u8>> = stamps.chunks(size).map(<[u8]>::to_vec).collect();
            let (count, max_us) = watched(&pieces);
            assert_eq!(count, 200, "pieces of {size} bytes");
            assert!(max_us >= 500_000, "pieces of {size} bytes: {max_us} µs");
        }
        // The end comes in the middle of a stamp.
        assert_eq!(watched(&[stamps[..STAMP_BYTES * 3 + 5].to_vec()]).0, 3);
    }

    #[test]
    fn a_thread_that_has_stalled_keeps_its_line_and_one_that_has_ended_does_not() {
        let (full, stalled) = line().expect("a socket pair");
        let (open, ended) = line().expect("a socket pair");
        while (&full).write(&[0; STAMP_BYTES]).is_ok() {}
        drop(ended);
        let keeping = std::thread::spawn(move || keep(vec![full, open]));
        std::thread::sleep(4 * STAMP_EVERY);
        assert!(!keeping.is_finished(), "the full line is kept");
        drop(stalled);
        keeping.join().expect("a line without a reader is not kept");
    }
}
