//! The listening sockets: one for each shard, all on one port. The kernel distributes new connections among them.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{self, SocketFlags, sockopt};

/// Binds and opens the listening sockets of an address, one for each shard. Returns them with the actual address.
/// Fails if the address cannot be bound.
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

/// Bytes that the kernel may queue of what a client sends, without its bookkeeping, for which Linux allows as much again.
/// A message has 4 KiB, a body 36 KiB at most. The server reads the sockets of flooders late, and without this bound the
/// kernel would queue megabytes for each. Set on the listener, so that each connection has it when it begins: the window
/// that is offered to the client cannot be taken back.
pub const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;

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
    sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES)?;
    net::bind(&socket, &address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpStream;

    use rustix::io::Errno;

    use super::*;

    #[test]
    fn the_kernel_queues_little_of_a_client_that_is_not_read() {
        let (listeners, address) = listeners("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let accepted = loop {
            match net::accept(&listeners[0]) {
                Ok(accepted) => break accepted,
                Err(Errno::AGAIN) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        // Linux doubles what it is asked for.
        let room = 2 * RECEIVE_BUFFER_BYTES;
        assert_eq!(sockopt::socket_recv_buffer_size(&accepted).unwrap(), room);
        client.set_nonblocking(true).unwrap();
        // More than both ends take: the sender's buffer has some megabytes.
        for _ in 0..1000 {
            if client.write(&[0; 64 * 1024]).is_err() {
                break;
            }
        }
        assert!(client.write(&[0]).is_err(), "the client has to wait");
        let queued = rustix::io::ioctl_fionread(&accepted).unwrap();
        assert!((1..=room as u64).contains(&queued), "{queued} bytes are queued");
    }
}
