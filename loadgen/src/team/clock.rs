//! The only place that reads the time: nanoseconds of CLOCK_MONOTONIC.
//!
//! All processes of one machine share that clock, so an intended time written by one of them can be compared with the
//! arrival seen by another. A worker on another machine is told how far its clock is from the coordinator's
//! (`comparison.rs`), and from then on everything in it goes by the coordinator's.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub const SECOND_NS: u64 = 1_000_000_000;

/// What is added to the machine's own clock; set once, before anything is measured.
static OFFSET_NS: AtomicI64 = AtomicI64::new(0);

/// From here on this process goes by a clock that is so far ahead of the machine's.
pub fn follow(offset_ns: i64) {
    OFFSET_NS.store(offset_ns, Relaxed);
}

/// A point on the run's clock: the coordinator's monotonic one.
pub fn now_ns() -> u64 {
    machine_ns().saturating_add_signed(OFFSET_NS.load(Relaxed))
}

/// A point on this machine's monotonic clock.
pub fn machine_ns() -> u64 {
    read(ClockId::Monotonic)
}

/// How long the calling thread has computed.
pub fn thread_cpu_ns() -> u64 {
    read(ClockId::ThreadCPUTime)
}

/// How long all threads of this process have computed.
pub fn process_cpu_ns() -> u64 {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    // These clocks start at boot or with the process: neither part is ever negative.
    now.tv_sec as u64 * SECOND_NS + now.tv_nsec as u64
}

/// How long until that point; nothing when it has passed.
pub fn until(point_ns: u64) -> Duration {
    Duration::from_nanos(point_ns.saturating_sub(now_ns()))
}
