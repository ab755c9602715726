//! The only place that reads the time: nanoseconds of CLOCK_MONOTONIC.
//!
//! All processes of one machine share that clock, so an intended time written by one of them can be compared with the
//! arrival seen by another. Several machines would need an offset here, and nowhere else.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

pub const SECOND_NS: u64 = 1_000_000_000;

/// A point on the machine's monotonic clock.
pub fn now_ns() -> u64 {
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
