//! The costs of the server's process, read from /proc if its pid is known.

use std::io;

use procfs::ProcResult;
use procfs::process::{Process, Task};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity};

/// A server process on this machine.
#[derive(Clone, Copy, Debug)]
pub struct ServerProbe {
    pid: u32,
}

/// The CPU time that the process has used since it started.
#[derive(Clone, Copy, Default, PartialEq, Debug)]
pub struct CpuTime {
    pub user_secs: f64,
    pub system_secs: f64,
}

impl CpuTime {
    /// The CPU time used since an earlier reading. Of two readings, the later one may have divided its time in another
    /// way (`refined`), so that one part alone seems to have become less: that part is then zero.
    pub fn minus(self, earlier: CpuTime) -> Self {
        let secs = (self.secs() - earlier.secs()).max(0.0);
        let user_secs = (self.user_secs - earlier.user_secs).clamp(0.0, secs);
        Self { user_secs, system_secs: secs - user_secs }
    }

    pub fn secs(self) -> f64 {
        self.user_secs + self.system_secs
    }

    /// The kernel truncates both parts to hundredths of a second, which may be all that a short run uses. `finer_secs`
    /// is exact, but it lacks the threads that have ended.
    fn refined(self, finer_secs: f64) -> Self {
        if finer_secs <= self.secs() {
            return self;
        }
        debug_assert!(finer_secs.is_finite(), "a time of threads");
        let system_part = if self.secs() > 0.0 { self.system_secs / self.secs() } else { 0.5 };
        Self { user_secs: finer_secs * (1.0 - system_part), system_secs: finer_secs * system_part }
    }
}

impl ServerProbe {
    pub fn new(pid: u32) -> io::Result<Self> {
        let probe = Self { pid };
        probe.cpu().map(|_| probe)
    }

    pub fn pid(self) -> u32 {
        self.pid
    }

    /// The cores on which any thread of the process may run.
    pub fn cores(self) -> io::Result<Vec<usize>> {
        let threads = self.process()?.tasks().map_err(io::Error::other)?;
        // A thread that has ended meanwhile has no cores.
        let cores_of = |thread: ProcResult<Task>| sched_getaffinity(Some(Pid::from_raw(thread.ok()?.tid)?)).ok();
        let sets: Vec<CpuSet> = threads.filter_map(cores_of).collect();
        Ok((0..CpuSet::MAX_CPU).filter(|core| sets.iter().any(|set| set.is_set(*core))).collect())
    }

    pub fn cpu(&self) -> io::Result<CpuTime> {
        let process = self.process()?;
        let stat = process.stat().map_err(io::Error::other)?;
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        let counted = CpuTime { user_secs: seconds(stat.utime), system_secs: seconds(stat.stime) };
        Ok(counted.refined(living_threads_secs(&process)))
    }

    pub fn resident_bytes(&self) -> io::Result<u64> {
        let pages = self.process()?.statm().map_err(io::Error::other)?.resident;
        Ok(pages * page_size() as u64)
    }

    fn process(self) -> io::Result<Process> {
        process(self.pid)
    }
}

/// The process with this id on this machine.
pub fn process(pid: u32) -> io::Result<Process> {
    let no_such = |_| io::Error::new(io::ErrorKind::NotFound, format!("/proc/{pid}: no process has such an id"));
    Process::new(i32::try_from(pid).map_err(no_such)?).map_err(io::Error::other)
}

/// The CPU time of the threads that exist now, to the nanosecond; zero where the kernel does not count it.
fn living_threads_secs(process: &Process) -> f64 {
    let ns_of = |thread: ProcResult<Task>| Some(thread.ok()?.schedstat().ok()?.sum_exec_runtime);
    process.tasks().into_iter().flatten().filter_map(ns_of).sum::<u64>() as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_finer_is_divided_as_what_is_not() {
        let check = |user_secs, system_secs, finer, expected: (f64, f64)| {
            let refined = CpuTime { user_secs, system_secs }.refined(finer);
            assert_eq!((refined.user_secs, refined.system_secs), expected, "{user_secs} {system_secs} {finer}");
        };
        check(0.25, 0.75, 2.0, (0.5, 1.5));
        check(0.0, 0.0, 0.004, (0.002, 0.002));
        // A thread has ended.
        check(0.25, 0.75, 0.5, (0.25, 0.75));
        check(0.25, 0.75, 0.0, (0.25, 0.75));
    }

    #[test]
    fn no_part_of_the_time_between_two_readings_is_negative() {
        let time = |user_secs, system_secs| CpuTime { user_secs, system_secs };
        for (later, earlier, expected) in [
            (time(3.0, 2.0), time(1.0, 1.5), time(2.0, 0.5)),
            (time(1.0, 1.0), time(1.0, 1.0), time(0.0, 0.0)),
            // Both were refined: the first by halves, the second by what had been counted by then.
            (time(0.0, 0.75), time(0.25, 0.25), time(0.0, 0.25)),
            (time(0.75, 0.0), time(0.25, 0.25), time(0.25, 0.0)),
            // A thread has ended, and its finer time is lost.
            (time(0.25, 0.25), time(0.5, 0.5), time(0.0, 0.0)),
        ] {
            assert_eq!(later.minus(earlier), expected, "{later:?} after {earlier:?}");
        }
    }

    #[test]
    fn reads_this_very_process() {
        let probe = ServerProbe::new(std::process::id()).expect("we exist");
        assert!(probe.resident_bytes().expect("our memory") > 100_000);
        assert!(probe.cpu().expect("our time").secs() > 0.0);
        let cores = probe.cores().expect("our cores");
        assert!(std::thread::available_parallelism().is_ok_and(|some| some.get() <= cores.len()), "{cores:?}");
    }
}
