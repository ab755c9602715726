//! The only place that reads the time: nanoseconds of CLOCK_MONOTONIC.
//!
//! All processes of one machine share that clock, so an intended time written by one process can be compared with an
//! arrival time from another. A worker on another machine is told how far its clock is from the coordinator's
//! (`comparison.rs`). From then on, all its times are on the coordinator's clock.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub const SECOND_NS: u64 = 1_000_000_000;

/// The number added to the machine's own clock. It is set once, before anything is measured.
static OFFSET_NS: AtomicI64 = AtomicI64::new(0);

/// From now on, this process uses a clock that is ahead of the machine's clock by `offset_ns`.
pub fn follow(offset_ns: i64) {
    let before = OFFSET_NS.swap(offset_ns, Relaxed);
    assert!(before == 0, "the clock is set once: times before and after would not compare");
}

/// The time on the run's clock, which is the coordinator's monotonic clock.
pub fn now_ns() -> u64 {
    machine_ns().saturating_add_signed(OFFSET_NS.load(Relaxed))
}

/// The time on this machine's monotonic clock.
pub fn machine_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// The CPU time that the calling thread has used.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::ThreadCPUTime)
}

/// The CPU time that all threads of this process have used.
pub fn process_cpu_ns() -> u64 {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    // These clocks start at boot or with the process: neither part is ever negative.
    now.tv_sec as u64 * SECOND_NS + now.tv_nsec as u64
}

/// How long it is until that time; zero when it has passed.
pub fn until(point_ns: u64) -> Duration {
    Duration::from_nanos(point_ns.saturating_sub(now_ns()))
}

/// Blocks this thread until that time.
pub fn sleep_until(point_ns: u64) {
    let wait = until(point_ns);
    if !wait.is_zero() {
        std::thread::sleep(wait);
    }
}
