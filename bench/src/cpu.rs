//! What the kernel reports about a server (CPU time, memory), and how a run sets its cores (pinning) and its limit of
//! descriptors. Linux only, like Stentor.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, setrlimit};
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
    let threads = fs::read_dir(format!("/proc/{pid}/task"))?;
    let mut total_ns = 0;
    for thread in threads {
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        match schedstat_ns(&text, Schedstat::Ran) {
            Some(ns) => total_ns += ns,
            None => return user_and_system_time(pid).map(|(user, system)| user + system),
        }
    }
    Ok(Duration::from_nanos(total_ns))
}

/// User and system time of the calling thread.
pub fn thread_time() -> io::Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let ran = schedstat_ns(&fs::read_to_string(path)?, Schedstat::Ran);
    ran.map(Duration::from_nanos).ok_or_else(|| unreadable(Path::new(path)))
}

/// How long a process's threads were ready to run while their core ran something else. A long time means that other
/// programs disturb the measurement. Zero where the kernel does not count it.
pub fn time_kept_waiting(pid: u32) -> io::Result<Duration> {
    let mut total_ns = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        total_ns += schedstat_ns(&text, Schedstat::Waited).unwrap_or(0);
    }
    Ok(Duration::from_nanos(total_ns))
}

/// How often the threads of a process whose names begin with `name` have gone to sleep. The number only grows while
/// they work.
pub fn sleeps_of_threads(pid: u32, name: &str) -> io::Result<u64> {
    let mut found = None;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let text = fs::read_to_string(thread?.path().join("status")).unwrap_or_default();
        if let Some(sleeps) = sleeps_if_named(&text, name) {
            *found.get_or_insert(0) += sleeps;
        }
    }
    found.ok_or_else(|| io::Error::other(format!("the server has no thread whose name begins with {name}")))
}

fn sleeps_if_named(text: &str, name: &str) -> Option<u64> {
    let field = |field| text.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
    field("Name:")?.starts_with(name).then(|| field("voluntary_ctxt_switches:")?.parse().ok())?
}

/// The fields of `schedstat` that are read, by their position.
#[derive(Clone, Copy)]
enum Schedstat {
    Ran = 0,
    Waited = 1,
}

fn schedstat_ns(text: &str, field: Schedstat) -> Option<u64> {
    text.split_whitespace().nth(field as usize)?.parse().ok()
}

/// CPU time in the program and CPU time in the kernel, in steps of a hundredth of a second.
pub fn user_and_system_time(pid: u32) -> io::Result<(Duration, Duration)> {
    let path = format!("/proc/{pid}/stat");
    let (user, system) = stat_ticks(&fs::read_to_string(&path)?).ok_or_else(|| unreadable(Path::new(&path)))?;
    let duration = |ticks| Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32;
    Ok((duration(user), duration(system)))
}

/// `utime` and `stime`, fields 14 and 15. The second field is a name in parentheses, and the name may contain blanks
/// and parentheses. So fields are counted from the last closing parenthesis.
fn stat_ticks(text: &str) -> Option<(u64, u64)> {
    let (_, behind_name) = text.rsplit_once(')')?;
    let mut times = behind_name.split_whitespace().skip(11).map(|field| field.parse::<u64>().ok());
    Some((times.next()??, times.next()??))
}

/// Bytes that a process has caused to be written to disks.
pub fn bytes_written(pid: u32) -> io::Result<u64> {
    let path = format!("/proc/{pid}/io");
    io_bytes(&fs::read_to_string(&path)?, "write_bytes:").ok_or_else(|| unreadable(Path::new(&path)))
}

fn io_bytes(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

/// The user-space memory of a process that is in RAM, in bytes.
pub fn resident_bytes(pid: u32) -> io::Result<u64> {
    status_bytes(pid, "VmRSS:")
}

/// The highest value of `resident_bytes` since the process started.
pub fn resident_bytes_peak(pid: u32) -> io::Result<u64> {
    status_bytes(pid, "VmHWM:")
}

fn status_bytes(pid: u32, name: &str) -> io::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path)?;
    status_kib(&text, name).map(|kib| kib * 1024).ok_or_else(|| unreadable(Path::new(&path)))
}

/// Memory that the kernel uses for all TCP connections of this machine: bytes that were sent and not read, at both
/// ends.
pub fn kernel_tcp_bytes() -> io::Result<u64> {
    let path = "/proc/net/sockstat";
    let pages = sockstat_tcp_pages(&fs::read_to_string(path)?).ok_or_else(|| unreadable(Path::new(path)))?;
    Ok(pages * rustix::param::page_size() as u64)
}

fn sockstat_tcp_pages(text: &str) -> Option<u64> {
    let mut words = text.lines().find_map(|line| line.strip_prefix("TCP: "))?.split_whitespace();
    words.find(|&word| word == "mem")?;
    words.next()?.parse().ok()
}

/// Descriptors that a process has open.
pub fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

fn status_kib(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn unreadable(path: &Path) -> io::Error {
    io::Error::other(format!("{} is not written as expected", path.display()))
}

/// Raises the soft descriptor limit to the hard one and returns it.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // If this fails, the soft limit stays as it was, and the caller uses the value that is returned.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Kills a child process. A measured server has nothing to save.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Stops a child process without telling it.
pub fn pause(pid: u32) {
    signal(pid, Signal::STOP);
}

/// Lets a stopped child process go on.
pub fn resume(pid: u32) {
    signal(pid, Signal::CONT);
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // The process may already have ended by itself.
        let _ = rustix::process::kill_process(pid, signal);
    }
}

/// A description of the machine in one line, for readers of the numbers.
pub fn machine() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or(": unknown processor");
    let model = model.trim_start_matches([' ', '\t', ':']);
    let cpus = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    format!("{model}, {cpus} cores, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_is_read_behind_any_name() {
        let check = |text: &str, expected| assert_eq!(stat_ticks(text), expected, "{text}");
        check("7 (a) S 1 1 1 0 -1 4194560 10 0 0 0 123 45 0 0 20 0 1 0 5", Some((123, 45)));
        check("7 (a) b) 3) R 1 1 1 0 -1 4194560 10 0 0 0 1 2 0 0 20 0 1 0 5", Some((1, 2)));
        check("7 (a) S 1 1", None);
        check("", None);
    }

    #[test]
    fn schedstat_is_read_by_place() {
        let text = "548015 68954 4\n";
        assert_eq!(schedstat_ns(text, Schedstat::Ran), Some(548_015));
        assert_eq!(schedstat_ns(text, Schedstat::Waited), Some(68_954));
        assert_eq!(schedstat_ns("", Schedstat::Ran), None);
    }

    #[test]
    fn sleeps_are_of_threads_with_the_name() {
        let text = "Name:\tstore-read-1\nThreads:\t3\nvoluntary_ctxt_switches:\t42\nnonvoluntary_ctxt_switches:\t7\n";
        assert_eq!(sleeps_if_named(text, "store-read-"), Some(42));
        assert_eq!(sleeps_if_named(text, "shard-"), None);
        assert_eq!(sleeps_if_named("", "store-read-"), None);
    }

    #[test]
    fn written_bytes_are_read_by_name() {
        let text = "wchar: 5\nread_bytes: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n";
        assert_eq!(io_bytes(text, "write_bytes:"), Some(4096));
        assert_eq!(io_bytes(text, "nothing:"), None);
    }

    #[test]
    fn status_is_read_by_name() {
        let text = "Name:\tx\nVmHWM:\t   99 kB\nVmRSS:\t    1234 kB\n";
        assert_eq!(status_kib(text, "VmRSS:"), Some(1234));
        assert_eq!(status_kib(text, "VmSwap:"), None);
    }

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
