//! What the kernel reports about the whole machine: the memory of sockets, and what was sent. Every process of the
//! machine is in these numbers, so they say little on a machine that is busy with other work. Only differences are
//! useful.

use std::fs;
use std::io;

use procfs::{Current, Meminfo};
use rustix::param::page_size;

/// One reading of the machine's numbers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct KernelReading {
    /// The bytes in the buffers of all TCP sockets.
    pub socket_buffer_bytes: u64,
    /// Kernel objects that cannot be reclaimed: sockets, their files and timers among them.
    pub slab_bytes: u64,
    /// TCP segments with data that were sent in the process's network namespace.
    pub data_segments: u64,
    /// Bytes of IP packets that were sent in that namespace, headers included.
    pub sent_bytes: u64,
}

impl KernelReading {
    /// Reads the numbers, with the network namespace of the process `pid`.
    pub fn take(pid: u32) -> io::Result<Self> {
        let netstat = read(&format!("/proc/{pid}/net/netstat"))?;
        let named = |group, name| counter(&netstat, group, name).ok_or_else(|| unreadable("net/netstat", name));
        Ok(Self {
            socket_buffer_bytes: socket_pages(&read("/proc/net/sockstat")?)
                .ok_or_else(|| unreadable("net/sockstat", "TCP mem"))?
                * page_size() as u64,
            slab_bytes: Meminfo::current()
                .map_err(io::Error::other)?
                .s_unreclaim
                .ok_or_else(|| unreadable("meminfo", "SUnreclaim"))?,
            data_segments: named("TcpExt:", "TCPOrigDataSent")?,
            sent_bytes: named("IpExt:", "OutOctets")?,
        })
    }
}

fn read(path: &str) -> io::Result<String> {
    fs::read_to_string(path).map_err(|error| io::Error::new(error.kind(), format!("{path}: {error}")))
}

fn unreadable(file: &str, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{file} has no {what}"))
}

/// The pages of all TCP buffers: the number after `mem` in the TCP line.
fn socket_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP: "))?;
    let mut words = line.split(' ').skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

/// One counter of a group. The group has a line of names and below it a line of values.
fn counter(netstat: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let found = names.split_whitespace().zip(values.split_whitespace()).find(|(found, _)| *found == name);
    found?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_this_machine() {
        let reading = KernelReading::take(std::process::id()).expect("a Linux machine");
        assert!(reading.slab_bytes > 1_000_000, "{reading:?}");
    }

    #[test]
    fn finds_what_is_asked_for_and_nothing_else() {
        let sockstat = "sockets: used 165\nTCP: inuse 127 orphan 0 tw 288 alloc 127 mem 85\nUDP: inuse 2 mem 9\n";
        assert_eq!(socket_pages(sockstat), Some(85));
        assert_eq!(socket_pages("UDP: inuse 2 mem 9\n"), None);
        let netstat = "TcpExt: A B\nTcpExt: 1 2\nIpExt: B C\nIpExt: 3 4\n";
        for (group, name, expected) in
            [("TcpExt:", "B", Some(2)), ("IpExt:", "B", Some(3)), ("IpExt:", "A", None), ("UdpExt:", "A", None)]
        {
            assert_eq!(counter(netstat, group, name), expected, "{group} {name}");
        }
    }
}
