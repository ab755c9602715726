//! The listening sockets: one for each shard, all on one port. The kernel distributes new connections among them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{self, SocketFlags, sockopt};

/// Binds and opens the listening sockets of an address, one for each shard. Returns them with the actual address.
pub fn listeners(address: SocketAddr, shards: usize) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    // First bind alone: sockets that share a port would not notice that another server of ours uses it.
    let alone = bound(address, Sharing::Alone)?;
    let address = SocketAddr::try_from(net::getsockname(&alone)?)?;
    drop(alone);
    let listeners = (0..shards).map(|_| bound(address, Sharing::Shared)).collect::<io::Result<Vec<_>>>()?;
    for listener in &listeners {
        net::listen(listener, BACKLOG)?;
    }
    Ok((listeners, address))
}

/// What an operator can know of the failure to take an address.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another server is listening there",
        io::ErrorKind::AddrNotAvailable => "no interface of this machine has this address",
        io::ErrorKind::PermissionDenied => "ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE",
        _ => "the system refuses it",
    }
}

/// Connections that may wait to be accepted. The kernel's own limit may be lower.
pub(crate) const BACKLOG: i32 = 4096;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Shared,
}

fn bound(address: SocketAddr, sharing: Sharing) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { net::AddressFamily::INET } else { net::AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(family, net::SocketType::STREAM, flags, None)?;
    // Lingering connections of an earlier process must not block the port.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if sharing == Sharing::Shared {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    net::bind(&socket, &address)?;
    Ok(socket)
}
