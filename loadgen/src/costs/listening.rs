//! Which process of this machine listens on a port. The kernel's table names the socket; the process that has this
//! socket open is the one.

use std::net::{SocketAddr, UdpSocket};

use procfs::net::{TcpNetEntry, TcpState, tcp, tcp6};
use procfs::process::{FDTarget, Process, all_processes};

/// The process that listens at this address, if it is on this machine, is the only one, and lets us read its
/// descriptors.
pub fn process_at(server: SocketAddr) -> Option<u32> {
    // Only an address of this machine can be bound.
    UdpSocket::bind(SocketAddr::new(server.ip(), 0)).ok()?;
    let table = [tcp(), tcp6()].into_iter().flatten().flatten();
    let inodes: Vec<u64> = inodes_of(table, server).collect();
    let mut owners = all_processes().ok()?.flatten().filter(|process| has_open(process, &inodes));
    let owner = owners.next()?;
    // If several processes share the port, the costs of one would be reported as those of all.
    owners.next().is_none().then(|| owner.pid().cast_unsigned())
}

/// The inodes of the sockets that listen at this address, or at all addresses.
fn inodes_of(table: impl Iterator<Item = TcpNetEntry>, server: SocketAddr) -> impl Iterator<Item = u64> {
    let listens_here = move |socket: &TcpNetEntry| {
        let local = socket.local_address;
        socket.state == TcpState::Listen
            && local.port() == server.port()
            && (local.ip().is_unspecified() || local.ip() == server.ip())
    };
    table.filter(listens_here).map(|socket| socket.inode)
}

/// Whether the process has one of these sockets open. The kernel does not tell us about other users' processes.
fn has_open(process: &Process, inodes: &[u64]) -> bool {
    let mut descriptors = process.fd().into_iter().flatten().flatten();
    descriptors.any(|open| matches!(open.target, FDTarget::Socket(inode) if inodes.contains(&inode)))
}

#[cfg(test)]
mod tests {
    use procfs::FromReadSI;
    use procfs::net::TcpNetEntries;

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
        let TcpNetEntries(table) =
            TcpNetEntries::from_read(table.as_bytes(), procfs::current_system_info()).expect("a table of the kernel's");
        let found: Vec<u64> = inodes_of(table.into_iter(), "127.0.0.1:7350".parse().expect("an address")).collect();
        assert_eq!(found, [111, 222]);
    }
}
