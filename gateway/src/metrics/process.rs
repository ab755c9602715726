//! What the kernel says of this process, under the names that Prometheus' own client libraries use, so that dashboards
//! which are made for any process show this one.

use procfs::process::{LimitValue, Process};
use procfs::{ProcResult, boot_time_secs, page_size, ticks_per_second};

/// Figures of a process.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ProcessState {
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
    pub virtual_bytes: u64,
    pub open_descriptors: u64,
    /// The limit on open descriptors.
    pub descriptors_max: u64,
    pub threads: u64,
    /// When the process was started, in seconds since 1970.
    pub start_seconds: f64,
}

impl ProcessState {
    /// Reads the figures of this process. `None` if the kernel does not show them, as without `/proc`.
    pub fn read() -> Option<Self> {
        Self::of(&Process::myself().ok()?).ok()
    }

    fn of(process: &Process) -> ProcResult<Self> {
        let stat = process.stat()?;
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second() as f64;
        Ok(Self {
            cpu_seconds: seconds(stat.utime + stat.stime),
            resident_bytes: stat.rss * page_size(),
            virtual_bytes: stat.vsize,
            open_descriptors: open_descriptors(process)?,
            descriptors_max: match process.limits()?.max_open_files.soft_limit {
                LimitValue::Value(limit) => limit,
                LimitValue::Unlimited => u64::MAX,
            },
            threads: stat.num_threads.unsigned_abs(),
            start_seconds: boot_time_secs()? as f64 + seconds(stat.starttime),
        })
    }
}

/// Since version 6.2 the kernel says the number as the size of the directory. Before, the entries must be counted, which
/// takes a tenth of a second for half a million.
fn open_descriptors(process: &Process) -> ProcResult<u64> {
    match std::fs::metadata("/proc/self/fd") {
        Ok(directory) if directory.len() > 0 => Ok(directory.len()),
        _ => Ok(process.fd_count()? as u64),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn figures_are_those_of_this_process() {
        let process = ProcessState::read().expect("there is a /proc");
        assert!(process.resident_bytes > 1 << 20 && process.virtual_bytes >= process.resident_bytes, "{process:?}");
        assert!(process.threads > 0 && process.cpu_seconds >= 0.0, "{process:?}");
        let age =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64() - process.start_seconds;
        assert!(age > -2.0 && age < Duration::from_secs(24 * 3600).as_secs_f64(), "started {age} s ago");
        let files: Vec<File> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        let more = ProcessState::read().unwrap();
        // Other tests of this process open and close files, too.
        assert!(
            more.open_descriptors + 50 > process.open_descriptors + files.len() as u64,
            "{more:?} after {process:?}"
        );
        assert!(more.open_descriptors <= more.descriptors_max);
    }
}
