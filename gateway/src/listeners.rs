//! The listening sockets: one for each shard and address. The kernel distributes new connections among them.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{self, SocketFlags, sockopt};

use crate::listen_address::{Host, ListenAddress, Place, Protocol};

/// The listening sockets of one place.
#[derive(Debug)]
pub struct Listening {
    pub at: At,
    /// Whether clients begin with a TLS handshake.
    pub secured: bool,
    pub protocol: Protocol,
    /// One for each shard.
    pub sockets: Vec<OwnedFd>,
}

/// Where a socket listens.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum At {
    /// With the port that the kernel chose if port 0 was asked for.
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listening {
    /// Whether clients of a network come here with HTTP/1.1, and without TLS.
    pub fn is_plain_http(&self) -> bool {
        !self.secured && self.protocol == Protocol::Http && matches!(self.at, At::Tcp(_))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let At::Unix(path) = &self.at {
            let _ = fs::remove_file(path);
        }
    }
}

/// How often port 0 is asked for again, if the port that the first address gets is taken on another one.
const PORT_TRIES: usize = 16;

/// Binds and opens the listening sockets of an address. A name with several addresses gives one `Listening` for each
/// address that this machine has. Fails if none can be bound, or if another server has one of them.
pub fn listen(address: &ListenAddress, protocol: Protocol, shards: usize) -> io::Result<Vec<Listening>> {
    let secured = address.secured;
    match &address.place {
        Place::Unix(path) => {
            let sockets = unix_listeners(path, shards)?;
            Ok(vec![Listening { at: At::Unix(path.clone()), secured, protocol, sockets }])
        }
        Place::Tcp { host, port } => {
            let mut tries = 1;
            let listening = loop {
                match listen_on_each(host, *port, shards) {
                    Err(error) if *port == 0 && error.kind() == ErrorKind::AddrInUse && tries < PORT_TRIES => {
                        tries += 1
                    }
                    outcome => break outcome?,
                }
            };
            let of = |(sockets, address)| Listening { at: At::Tcp(address), secured, protocol, sockets };
            Ok(listening.into_iter().map(of).collect())
        }
    }
}

/// All addresses of a host get the same port.
fn listen_on_each(host: &Host, port: u16, shards: usize) -> io::Result<Vec<(Vec<OwnedFd>, SocketAddr)>> {
    let (mut listening, mut failed): (Vec<(Vec<OwnedFd>, SocketAddr)>, _) = (Vec::new(), None);
    for address in host.addresses(port)? {
        let port = listening.first().map_or(port, |(_, first)| first.port());
        match listeners(SocketAddr::new(address.ip(), port), shards) {
            Ok(bound) => {
                listening.push(bound);
                // This one takes the connections of IPv4 as well.
                if *host == Host::Every {
                    break;
                }
            }
            Err(error) if is_absent(&error) => failed = Some(error),
            Err(error) => return Err(error),
        }
    }
    match failed {
        Some(error) if listening.is_empty() => Err(error),
        _ if listening.is_empty() => Err(io::Error::new(ErrorKind::NotFound, "the name has no address")),
        _ => Ok(listening),
    }
}

/// Whether the machine has no such address, or no IPv6.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

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

/// A socket of this machine has one queue of connections, from which all shards accept. A socket that a dead server has
/// left is replaced. The owner and the group of the file may connect.
fn unix_listeners(path: &Path, shards: usize) -> io::Result<Vec<OwnedFd>> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => return Err(ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path)?,
        Err(_) => {}
    }
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(net::AddressFamily::UNIX, net::SocketType::STREAM, flags, None)?;
    net::bind(&socket, &net::SocketAddrUnix::new(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(UNIX_SOCKET_MODE))?;
    net::listen(&socket, BACKLOG)?;
    (0..shards).map(|_| socket.try_clone()).collect()
}

/// What an operator can know of the failure to take this address.
pub fn advice_for(address: &ListenAddress, error: &io::Error) -> &'static str {
    let is_path = matches!(address.place, Place::Unix(_));
    match error.kind() {
        ErrorKind::PermissionDenied if is_path => "the user of the server may not make files in its directory",
        ErrorKind::NotFound if is_path => "its directory does not exist",
        _ => advice(error),
    }
}

/// The same for an address with a port.
pub fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::AddrInUse => "another server is listening there",
        ErrorKind::AddrNotAvailable => "no interface of this machine has this address",
        ErrorKind::PermissionDenied => "ports below 1024 need root, or the capability CAP_NET_BIND_SERVICE",
        _ => "the system refuses it",
    }
}

/// Connections that may wait to be accepted. The kernel's own limit may be lower.
pub(crate) const BACKLOG: i32 = 4096;

/// Owner and group may connect: a proxy in front is put into the group.
const UNIX_SOCKET_MODE: u32 = 0o660;

/// Bytes that the kernel may queue of what a client sends, without its bookkeeping, for which Linux allows as much again.
/// A message has 4 KiB, a body 36 KiB at most, and only those of storage objects up to 256 KiB. The server reads the sockets of flooders late, and without this bound the
/// kernel would queue megabytes for each. Set on the listener, so that each connection has it when it begins: the window
/// that is offered to the client cannot be taken back.
///
/// Three of the largest segments. A sender waits until a whole segment fits the window, and the kernel announces more
/// room only when the window has doubled. With room for less than two segments a client on this machine, such as a proxy,
/// would wait for the timer that probes a closed window: 200 ms and more for each 64 KiB.
pub const RECEIVE_BUFFER_BYTES: usize = 3 * SEGMENT_BYTES_MAX;

/// The largest segment of a connection within one machine, whose interface carries packets of 64 KiB.
const SEGMENT_BYTES_MAX: usize = 64 * 1024;

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
    if let IpAddr::V6(address) = address.ip() {
        // The address of all interfaces takes IPv4 as well, whatever the system's default is.
        sockopt::set_ipv6_v6only(&socket, !address.is_unspecified())?;
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

    fn listening(text: &str) -> io::Result<Vec<Listening>> {
        listen(&text.parse().unwrap(), Protocol::Http, 2)
    }

    fn port_of(listening: &Listening) -> u16 {
        match listening.at {
            At::Tcp(address) => address.port(),
            At::Unix(_) => panic!("it has no port"),
        }
    }

    #[test]
    fn a_name_listens_on_each_of_its_addresses_with_one_port() {
        let both = listening("tls:localhost:0").unwrap();
        assert!(both.iter().all(|one| one.secured && one.sockets.len() == 2 && port_of(one) == port_of(&both[0])));
        for one in &both {
            let At::Tcp(address) = one.at else { panic!("{one:?}") };
            TcpStream::connect(address).unwrap();
        }
    }

    #[test]
    fn every_address_is_reached_by_ipv4() {
        let every = listening(":0").unwrap();
        TcpStream::connect(("127.0.0.1", port_of(&every[0]))).unwrap();
        assert_eq!(every.len(), 1);
    }

    #[test]
    fn a_taken_address_is_refused_and_a_socket_of_a_dead_server_is_replaced() {
        let taken = listening("127.0.0.1:0").unwrap();
        let again = listening(&format!("127.0.0.1:{}", port_of(&taken[0]))).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AddrInUse);

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let text = format!("unix:{}", path.display());
        let first = listening(&text).unwrap();
        UnixStream::connect(&path).unwrap();
        assert_eq!(listening(&text).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, UNIX_SOCKET_MODE);
        drop(first);
        assert!(!path.exists(), "an orderly end removes the file");
        // A killed server leaves its file.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        listening(&text).unwrap();
        fs::write(&path, "a file").unwrap();
        assert_eq!(listening(&text).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }

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
