//! What the kernel reports about a server (CPU time, memory), and how a run sets its cores (pinning) and its limit of
//! descriptors. Linux only, like Stentor.

use std::fs;
use std::io;
use std::time::Duration;

use procfs::process::{Process, Schedstat, Status, Task, TasksIter};
use procfs::{CpuInfo, Current, FromRead, ProcResult};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Pins the calling thread, and all threads and processes that it starts from now on, to these cores.
pub fn pin_to(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().for_each(|&cpu| set.set(cpu));
    sched_setaffinity(None, &set).map_err(|error| {
        io::Error::other(format!(
            "cannot run on cpus {cpus:?} ({error}); name others with --server-cpus and --client-cpus"
        ))
    })
}

/// The cores that the calling thread may use: all of the process's cores, until the thread is pinned.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

/// User and system time of a process, including its living threads.
///
/// The kernel's scheduler counts nanoseconds (`schedstat`), `stat` counts hundredths of a second. `stat` is used where
/// the kernel was built without `schedstat`.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut total_ns = 0;
    for thread in threads(pid)? {
        match thread.and_then(|thread| thread.schedstat()) {
            Ok(schedstat) => total_ns += schedstat.sum_exec_runtime,
            Err(_) => return user_and_system_time(pid).map(|(user, system)| user + system),
        }
    }
    Ok(Duration::from_nanos(total_ns))
}

/// What a server has used so far, as the kernel counts it.
#[derive(Clone, Copy)]
pub struct Usage {
    /// CPU time of the server.
    pub cpu: Duration,
    /// The part of it in the kernel, in steps of a hundredth of a second.
    pub in_kernel: Duration,
    /// How long the server or a client was ready to run while its core ran something else. A long time means that other
    /// programs disturb the measurement. Zero where the kernel does not count it.
    pub waiting: Duration,
}

impl Usage {
    /// What the server has used, with the waiting of these clients.
    pub fn of(server: u32, clients: &[u32]) -> io::Result<Usage> {
        let (_, in_kernel) = user_and_system_time(server)?;
        let mut waiting = time_kept_waiting(server)?;
        for &client in clients {
            waiting += time_kept_waiting(client)?;
        }
        Ok(Usage { cpu: cpu_time(server)?, in_kernel, waiting })
    }

    pub fn since(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            in_kernel: self.in_kernel.saturating_sub(before.in_kernel),
            waiting: self.waiting.saturating_sub(before.waiting),
        }
    }
}

/// User and system time of the calling thread.
pub fn thread_time() -> io::Result<Duration> {
    let schedstat = Schedstat::from_file("/proc/thread-self/schedstat").map_err(io::Error::other)?;
    Ok(Duration::from_nanos(schedstat.sum_exec_runtime))
}

fn time_kept_waiting(pid: u32) -> io::Result<Duration> {
    let waited_ns = |thread: ProcResult<Task>| Some(thread.ok()?.schedstat().ok()?.run_delay);
    Ok(Duration::from_nanos(threads(pid)?.filter_map(waited_ns).sum()))
}

/// CPU time in the program and CPU time in the kernel, in steps of a hundredth of a second.
pub fn user_and_system_time(pid: u32) -> io::Result<(Duration, Duration)> {
    let stat = process(pid)?.stat().map_err(io::Error::other)?;
    let duration = |ticks| Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32;
    Ok((duration(stat.utime), duration(stat.stime)))
}

/// Bytes that a process has caused to be written to disks.
pub fn bytes_written(pid: u32) -> io::Result<u64> {
    Ok(process(pid)?.io().map_err(io::Error::other)?.write_bytes)
}

/// The user-space memory of a process that is in RAM, in bytes.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    status_bytes(pid, |status| status.vmrss)
}

/// The highest value of `resident_bytes` since the process started.
pub fn resident_bytes_peak(pid: u32) -> io::Result<u64> {
    status_bytes(pid, |status| status.vmhwm)
}

/// A memory size of `status`, which is there in KiB.
fn status_bytes(pid: u32, kib: impl Fn(&Status) -> Option<u64>) -> io::Result<u64> {
    let status = process(pid)?.status().map_err(io::Error::other)?;
    let kib = kib(&status).ok_or_else(|| io::Error::other("a process that has ended has no memory"))?;
    Ok(kib * 1024)
}

/// Descriptors that a process has open.
pub fn descriptors(pid: u32) -> io::Result<usize> {
    process(pid)?.fd_count().map_err(io::Error::other)
}

fn process(pid: u32) -> io::Result<Process> {
    Process::new(i32::try_from(pid).map_err(io::Error::other)?).map_err(io::Error::other)
}

fn threads(pid: u32) -> io::Result<TasksIter> {
    process(pid)?.tasks().map_err(io::Error::other)
}

/// Memory that the kernel uses for all TCP connections of this machine: bytes that were sent and not read, at both
/// ends.
pub fn kernel_tcp_bytes() -> io::Result<u64> {
    let path = "/proc/net/sockstat";
    let pages = sockstat_tcp_pages(&fs::read_to_string(path)?);
    let pages = pages.ok_or_else(|| io::Error::other(format!("{path} is not written as expected")))?;
    Ok(pages * rustix::param::page_size() as u64)
}

fn sockstat_tcp_pages(text: &str) -> Option<u64> {
    let mut words = text.lines().find_map(|line| line.strip_prefix("TCP: "))?.split_whitespace();
    words.find(|&word| word == "mem")?;
    words.next()?.parse().ok()
}

/// Raises the soft descriptor limit to the hard one and returns it.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // If this fails, the soft limit stays as it was, and the caller uses the value that is returned.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// A description of the machine in one line, for readers of the numbers.
pub fn machine() -> String {
    let cpus = CpuInfo::current().ok();
    let model = cpus.as_ref().and_then(|cpus| cpus.model_name(0)).unwrap_or("unknown processor");
    let cores = cpus.as_ref().map_or(0, CpuInfo::num_cores);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_of_sockets_is_read_by_name() {
        let text = "sockets: used 12\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 416\nUDP: inuse 0 mem 7\n";
        assert_eq!(sockstat_tcp_pages(text), Some(416));
        assert_eq!(sockstat_tcp_pages("UDP: inuse 0 mem 7\n"), None);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let pid = std::process::id();
        let before = cpu_time(pid).unwrap();
        let mut sum = 0u64;
        while cpu_time(pid).unwrap() < before + Duration::from_millis(1) {
            sum = (0..10_000).fold(sum, |sum, number: u64| std::hint::black_box(sum ^ number));
        }
        assert!(resident_bytes(pid).unwrap() > 100 * 1024);
    }
}
