//! Returns memory to the system that the C library's allocator keeps after a crowd has gone.
//!
//! By itself the allocator returns only the memory at the end of its heaps. When 200,000 channels go, or thousands of HTTP
//! connections with their answers, the holes between the remaining blocks are hundreds of MiB. A shard notices when most
//! of what it had is gone, and signals a thread. The thread makes the allocator return all holes. A shard that allocates
//! meanwhile has to wait, so this happens only after a crowd has gone.

use std::io;
use std::time::Duration;

use engine::counters::Levels;

/// How many channels, members and subscriptions of a shard, and KiB of its logs and of HTTP, together count as a crowd.
/// Each leaves some hundred bytes.
const CROWD: u64 = 20_000;
/// Bytes of logs, of HTTP answers and of HTTP connections that count as one of these.
const BYTES_OF_ONE: u64 = 1024;
/// What one HTTP connection holds: its future and its buffers (`http/serve.rs`).
const HTTP_CONNECTION_BYTES: u64 = 18 * 1024;
/// Time from the signal to the return of memory: the rest of a crowd leaves soon after its first half.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells the thread to return memory to the operating system. Sending never waits.
#[derive(Clone)]
pub struct ReturnSignal(flume::Sender<()>);

/// Starts the thread. It ends when the last `ReturnSignal` is dropped.
pub fn start() -> io::Result<ReturnSignal> {
    allocator::map_large_blocks();
    let (signal, rung) = flume::bounded(1);
    let giving_back = move || {
        while rung.recv().is_ok() {
            std::thread::sleep(PATIENCE);
            allocator::give_back();
        }
    };
    std::thread::Builder::new().name("memory".to_owned()).spawn(giving_back)?;
    Ok(ReturnSignal(signal))
}

/// The most that a shard has had since its memory was last returned.
pub struct HighWater {
    most: u64,
    signal: ReturnSignal,
}

/// Bytes of HTTP answers that wait for their readers: the most since the last look, because they come and go quickly, and
/// those that wait now.
#[derive(Clone, Copy, Default)]
pub struct AnswerBytes {
    pub most: usize,
    pub now: usize,
}

impl HighWater {
    /// Nothing has been seen yet. `signal` wakes the thread.
    pub fn new(signal: ReturnSignal) -> Self {
        Self { most: 0, signal }
    }

    /// Takes the present numbers of a shard. Signals the thread if half of a crowd has gone, and again for each further
    /// half.
    pub fn take_in(&mut self, levels: &Levels, answers: AnswerBytes, http_connections: usize) {
        let bytes = levels.log_bytes + http_connections as u64 * HTTP_CONNECTION_BYTES;
        let with = |answers: usize| {
            levels.channels + levels.members + levels.subscriptions + (bytes + answers as u64) / BYTES_OF_ONE
        };
        let here = with(answers.now);
        self.most = self.most.max(with(answers.most.max(answers.now)));
        if self.most >= CROWD && here <= self.most / 2 {
            self.most = here;
            let _ = self.signal.0.try_send(());
        }
    }
}

#[cfg(target_env = "gnu")]
mod allocator {
    #![allow(unsafe_code)]

    /// Returns the unused pages of all heaps to the system. Takes the locks of the allocator, so other threads may wait
    /// for it.
    pub fn give_back() {
        // SAFETY: `malloc_trim` only tells the system which pages of the heaps are unused, under the allocator's own
        // locks.
        unsafe { libc::malloc_trim(0) };
    }

    /// Has each large block mapped by itself, so that its memory goes back to the system with it. Without this the allocator
    /// takes the blocks of later hashes of passwords from its heaps, and keeps hundreds of MiB after a storm of sign-ins.
    pub fn map_large_blocks() {
        // SAFETY: `mallopt` only sets a threshold, under the allocator's own locks.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES) };
    }

    /// A block of so many bytes is large: a hash of a password takes 19 MiB (`password.rs`).
    const LARGE_BYTES: libc::c_int = 8 << 20;
}

#[cfg(not(target_env = "gnu"))]
mod allocator {
    /// Other allocators manage this themselves, so nothing is done.
    pub fn give_back() {}

    /// As above.
    pub fn map_large_blocks() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(channels: u64) -> Levels {
        Levels { channels, members: channels, subscriptions: channels, ..Levels::default() }
    }

    #[test]
    fn a_crowd_that_goes_rings_once_for_each_half() {
        let (signal, rung) = flume::bounded(1);
        let mut water = HighWater::new(ReturnSignal(signal));
        let mut rings = |channels| {
            water.take_in(&levels(channels), AnswerBytes::default(), 0);
            rung.try_iter().count()
        };
        for (channels, expected) in
            [(100, 0), (10, 0), (100_000, 0), (60_000, 0), (50_000, 1), (49_999, 0), (90_000, 0), (45_000, 1), (0, 1)]
        {
            assert_eq!(rings(channels), expected, "{channels}");
        }
        assert_eq!(rings(6_000), 0, "no crowd");
        assert_eq!(rings(0), 0, "no crowd has gone");
    }

    #[test]
    fn answers_and_connections_of_http_that_go_ring_too() {
        let (signal, rung) = flume::bounded(1);
        let mut water = HighWater::new(ReturnSignal(signal));
        for (most, now, connections, expected) in [
            (60, 60, 0, 0),
            (60, 10, 0, 1),
            (10, 0, 0, 0),
            (0, 0, 2000, 0),
            (0, 0, 10, 1),
            (10, 10, 0, 0),
            (10, 0, 0, 0),
            // They have come and gone between two looks.
            (60, 0, 0, 1),
        ] {
            water.take_in(&Levels::default(), AnswerBytes { most: most << 20, now: now << 20 }, connections);
            assert_eq!(rung.try_iter().count(), expected, "{most} and {now} MiB, {connections} connections");
        }
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn holes_between_what_stays_are_given_back() {
        const MIB: usize = 128;
        // Small pieces, of which every hundredth stays, so that no heap can shrink from its end.
        let mut pieces: Vec<Option<Box<[u8; 1024]>>> = (0..MIB * 1024).map(|_| Some(Box::new([1; 1024]))).collect();
        for (place, piece) in pieces.iter_mut().enumerate() {
            if place % 100 != 0 {
                *piece = None;
            }
        }
        let before = resident_mib();
        allocator::give_back();
        let after = resident_mib();
        assert!(after + MIB / 2 < before, "{before} MiB, then {after}");
        assert!(pieces.iter().flatten().all(|piece| piece[0] == 1));
    }

    #[cfg(target_env = "gnu")]
    fn resident_mib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() / 1024
    }
}
