//! The costs of the server's process, read from /proc if its pid is known.

use std::fs;
use std::io;

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
    /// The CPU time used since an earlier reading.
    pub fn minus(self, earlier: CpuTime) -> Self {
        Self { user_secs: self.user_secs - earlier.user_secs, system_secs: self.system_secs - earlier.system_secs }
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
        let path = format!("/proc/{}/task", self.pid);
        let threads = fs::read_dir(&path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))?;
        let threads = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        // A thread that has ended meanwhile has no cores.
        let sets: Vec<CpuSet> =
            threads.filter_map(|thread| sched_getaffinity(Some(Pid::from_raw(thread)?)).ok()).collect();
        Ok((0..CpuSet::MAX_CPU).filter(|core| sets.iter().any(|set| set.is_set(*core))).collect())
    }

    pub fn cpu(&self) -> io::Result<CpuTime> {
        let stat = self.read("stat")?;
        let ticks = cpu_ticks(&stat).ok_or_else(|| self.unreadable("stat"))?;
        let seconds = |ticks: u64| ticks as f64 / clock_ticks_per_second() as f64;
        let counted = CpuTime { user_secs: seconds(ticks.0), system_secs: seconds(ticks.1) };
        Ok(counted.refined(self.living_threads_secs().unwrap_or(0.0)))
    }

    /// The CPU time of the threads that exist now, to the nanosecond; zero where the kernel does not count it.
    fn living_threads_secs(&self) -> io::Result<f64> {
        let threads = fs::read_dir(format!("/proc/{}/task", self.pid))?;
        let ns_of = |thread: fs::DirEntry| {
            let schedstat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            schedstat.split(' ').next()?.parse::<u64>().ok()
        };
        Ok(threads.filter_map(|thread| ns_of(thread.ok()?)).sum::<u64>() as f64 / 1e9)
    }

    pub fn resident_bytes(&self) -> io::Result<u64> {
        let statm = self.read("statm")?;
        let pages: Option<u64> = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok());
        Ok(pages.ok_or_else(|| self.unreadable("statm"))? * page_size() as u64)
    }

    fn read(&self, file: &str) -> io::Result<String> {
        let path = format!("/proc/{}/{file}", self.pid);
        fs::read_to_string(&path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
    }

    fn unreadable(&self, file: &str) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{}/{file} is not as the kernel writes it", self.pid))
    }
}

/// User and system ticks: the 14th and 15th field, counted after the name, which may itself hold spaces and brackets.
fn cpu_ticks(stat: &str) -> Option<(u64, u64)> {
    let after_name = stat.rsplit_once(") ")?.1;
    let mut fields = after_name.split(' ').skip(11).map(|field| field.parse().ok());
    Some((fields.next()??, fields.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_ticks_behind_any_name() {
        let tail = "S 1 2 3 4 -1 4194560 10 20 30 40 777 888 9 9 20 0 4 0 100";
        for name in ["(stentor)", "(a b)", "(odd) name) x)"] {
            assert_eq!(cpu_ticks(&format!("42 {name} {tail}")), Some((777, 888)), "{name}");
        }
        for broken in ["", "42 (x", "42 (x) S 1 2", "42 (x) S 1 2 3 4 5 6 7 8 9 10 a b"] {
            assert_eq!(cpu_ticks(broken), None, "{broken}");
        }
    }

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
    fn reads_this_very_process() {
        let probe = ServerProbe::new(std::process::id()).expect("we exist");
        assert!(probe.resident_bytes().expect("our memory") > 100_000);
        assert!(probe.cpu().expect("our time").secs() > 0.0);
        let cores = probe.cores().expect("our cores");
        assert!(std::thread::available_parallelism().is_ok_and(|some| some.get() <= cores.len()), "{cores:?}");
    }
}
