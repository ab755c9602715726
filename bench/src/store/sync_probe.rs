//! Measures the longest plain sync on the store's disk while the store works. Commits are compared with it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Often enough to see the delays that commits see, and rarely enough to add no load.
const PAUSE: Duration = Duration::from_millis(20);
/// As much as a small commit writes.
const BLOCK: [u8; 4096] = [0x5a; 4096];

/// A thread that appends a block to its own file and syncs it, again and again.
pub struct SyncProbe {
    longest_us: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl SyncProbe {
    pub fn start(directory: &Path) -> io::Result<SyncProbe> {
        let file = File::create(directory.join("sync-probe"))?;
        let (longest_us, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (longest, stopped) = (longest_us.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut place = 0;
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                file.write_all_at(&BLOCK, place)?;
                file.sync_data()?;
                longest.fetch_max(start.elapsed().as_micros() as u64, Ordering::Relaxed);
                place += BLOCK.len() as u64;
                std::thread::sleep(PAUSE);
            }
            Ok(())
        });
        Ok(SyncProbe { longest_us, stop, thread: Some(thread) })
    }

    /// The longest sync since the last call.
    pub fn take_longest(&self) -> Duration {
        Duration::from_micros(self.longest_us.swap(0, Ordering::Relaxed))
    }

    pub fn stop(mut self) -> io::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            _ => Err(io::Error::other("the thread that syncs has failed")),
        }
    }
}
