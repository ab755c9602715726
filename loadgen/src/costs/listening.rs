//! Which process of this machine listens on a port. The kernel's table names the socket; the process that has this
//! socket open is the one.

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The code of a listening socket in the kernel's tables.
const LISTEN: &str = "0A";

/// The process that listens at this address, if it is on this machine, is the only one, and lets us read its
/// descriptors.
pub fn process_at(server: SocketAddr) -> Option<u32> {
    // Only an address of this machine can be bound.
    UdpSocket::bind(SocketAddr::new(server.ip(), 0)).ok()?;
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    let inodes: Vec<String> = tables.iter().flat_map(|table| inodes_of(table, server)).collect();
    let mut owners = processes().filter(|pid| has_open(*pid, &inodes));
    let owner = owners.next()?;
    // If several processes share the port, the costs of one would be reported as those of all.
    owners.next().is_none().then_some(owner)
}

/// The inodes of the sockets that listen at this address, or at all addresses.
fn inodes_of(table: &str, server: SocketAddr) -> impl Iterator<Item = String> {
    table.lines().skip(1).filter_map(move |line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
        let (address, port) = local.split_once(':')?;
        let listens_here = *state == LISTEN
            && u16::from_str_radix(port, 16).ok()? == server.port()
            && (address.bytes().all(|digit| digit == b'0') || address == written(server));
        listens_here.then(|| (*inode).to_owned())
    })
}

/// The address as the kernel writes it: 32-bit words in the machine's byte order.
fn written(server: SocketAddr) -> String {
    let words = |octets: &[u8]| {
        octets
            .chunks_exact(4)
            .map(|word| format!("{:08X}", u32::from_ne_bytes([word[0], word[1], word[2], word[3]])))
            .collect()
    };
    match server {
        SocketAddr::V4(address) => words(&Ipv4Addr::octets(address.ip())),
        SocketAddr::V6(address) => words(&Ipv6Addr::octets(address.ip())),
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Whether the process has one of these sockets open. The kernel does not tell us about other users' processes.
fn has_open(pid: u32, inodes: &[String]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let mut links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.any(|link| {
        let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|wanted| wanted == inode))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_of_ours_is_found() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let port = listener.local_addr().expect("its address").port();
            let host = if address.starts_with('[') { "[::1]" } else { "127.0.0.1" };
            let server: SocketAddr = format!("{host}:{port}").parse().expect("an address");
            assert_eq!(process_at(server), Some(std::process::id()), "{address}");
            drop(listener);
            assert_eq!(process_at(server), None, "{address}");
        }
        assert_eq!(process_at("192.0.2.1:80".parse().expect("an address")), None, "nobody here has this address");
    }

    #[test]
    fn only_listeners_at_the_address_count() {
        let table = "  sl  local_address rem_address   st tx_queue:rx_queue tr:tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1CB6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 x
   1: 00000000:1CB6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 x
   2: 0200007F:1CB6 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 x
   3: 0100007F:1CB6 0100007F:9000 01 00000000:00000000 00:00000000 00000000     0        0 444 1 x
   4: 0100007F:1CB7 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 555 1 x
";
        let found: Vec<String> = inodes_of(table, "127.0.0.1:7350".parse().expect("an address")).collect();
        assert_eq!(found, ["111", "222"]);
    }
}
