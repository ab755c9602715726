//! Where the server listens, as an operator writes it.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use crate::target::is_host;

/// Before an address whose connections are secured by TLS.
const SECURED: &str = "tls:";
/// Before the path of a socket of this machine.
const UNIX: &str = "unix:";
/// The name that stands for both loopback addresses, whatever a machine's tables of hosts say.
const LOCALHOST: &str = "localhost";
/// Longest path of a socket of this machine, in bytes (`sun_path` of unix(7), with its end).
const UNIX_PATH_BYTES_MAX: usize = 107;

const FORMS: &str = "write an address and a port, such as 127.0.0.1:7350, a name and a port, such as localhost:7350, :7350 for \
                     every address of the machine, or unix:/run/stentor/socket; each with tls: in front for TLS";

/// An address to listen on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListenAddress {
    pub place: Place,
    /// Whether clients begin with a TLS handshake.
    pub secured: bool,
}

/// What a listener's clients speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// HTTP/1.1, and WebSockets that begin with it.
    Http,
    /// HTTP/2 from the first byte.
    Grpc,
}

/// The place of a listener.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Place {
    Tcp {
        host: Host,
        port: u16,
    },
    /// The path of a socket of this machine.
    Unix(PathBuf),
}

/// The host part of an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    Address(IpAddr),
    /// Every address of the machine, of both families.
    Every,
    /// A name that is looked up when the server starts.
    Name(String),
}

impl ListenAddress {
    /// Whether programs on other machines can reach this address, as far as its text tells.
    pub fn is_open(&self) -> bool {
        match &self.place {
            Place::Tcp { host: Host::Address(address), .. } => !address.to_canonical().is_loopback(),
            Place::Tcp { host: Host::Name(name), .. } => name != LOCALHOST,
            Place::Tcp { host: Host::Every, .. } => true,
            Place::Unix(_) => false,
        }
    }
}

impl ListenAddress {
    /// The addresses that the text itself says. A name has none before it is looked up.
    pub fn known_addresses(&self) -> Vec<SocketAddr> {
        match &self.place {
            Place::Tcp { host: Host::Name(name), .. } if name != LOCALHOST => Vec::new(),
            Place::Tcp { host, port } => host.addresses(*port).unwrap_or_default(),
            Place::Unix(_) => Vec::new(),
        }
    }
}

impl Host {
    /// The addresses to listen on. If there are several, it is enough that the machine has one of them. Fails if a name is
    /// not known.
    pub fn addresses(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        let at = |address: IpAddr| SocketAddr::new(address, port);
        match self {
            Self::Address(address) => Ok(vec![at(*address)]),
            Self::Every => Ok(vec![at(Ipv6Addr::UNSPECIFIED.into()), at(Ipv4Addr::UNSPECIFIED.into())]),
            Self::Name(name) if name == LOCALHOST => {
                Ok(vec![at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())])
            }
            Self::Name(name) => {
                let mut addresses: Vec<_> = (name.as_str(), port).to_socket_addrs()?.collect();
                addresses.sort_unstable();
                addresses.dedup();
                Ok(addresses)
            }
        }
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (place, secured) = text.strip_prefix(SECURED).map_or((text, false), |place| (place, true));
        Ok(Self { place: place.parse()?, secured })
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return match path.len() {
                1..=UNIX_PATH_BYTES_MAX => Ok(Self::Unix(path.into())),
                _ => Err(format!("write a path of 1 to {UNIX_PATH_BYTES_MAX} bytes after {UNIX}")),
            };
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Tcp { host: Host::Address(address.ip()), port: address.port() });
        }
        let (host, port) = text.rsplit_once(':').ok_or(FORMS)?;
        let port = port.parse().map_err(|_| FORMS)?;
        match host {
            "" => Ok(Self::Tcp { host: Host::Every, port }),
            name if is_host(name.as_bytes()) && !name.contains([':', '[', '%']) => {
                Ok(Self::Tcp { host: Host::Name(name.to_ascii_lowercase()), port })
            }
            _ => Err(FORMS.into()),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.secured { SECURED } else { "" })?;
        match &self.place {
            Place::Tcp { host: Host::Address(address), port } => SocketAddr::new(*address, *port).fmt(f),
            Place::Tcp { host: Host::Every, port } => write!(f, ":{port}"),
            Place::Tcp { host: Host::Name(name), port } => write!(f, "{name}:{port}"),
            Place::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_form_is_read_and_written_back() {
        for text in [
            "127.0.0.1:7350",
            "[::1]:0",
            "0.0.0.0:80",
            ":7350",
            "localhost:7350",
            "chat.example.org:443",
            "unix:/run/stentor/socket",
            "tls::443",
            "tls:[2001:db8::1]:443",
            "tls:unix:socket",
        ] {
            let address: ListenAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.secured, text.starts_with("tls:"), "{text}");
        }
    }

    #[test]
    fn mistakes_show_the_forms() {
        let long = format!("unix:{}", "a".repeat(UNIX_PATH_BYTES_MAX + 1));
        for text in ["", "7350", "127.0.0.1", "a:b", "::1:7350", "[::1]", ":70000", "tls:", "a b:1", "unix:", &long] {
            let error = text.parse::<ListenAddress>().unwrap_err();
            assert!(error.contains("write a"), "{text:?}: {error}");
        }
    }

    #[test]
    fn localhost_is_both_loopback_addresses() {
        let addresses = Host::Name("localhost".into()).addresses(1).unwrap();
        let expected: [SocketAddr; 2] = ["127.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap()];
        assert_eq!(addresses, expected);
    }

    #[test]
    fn an_open_address_is_known_by_its_text() {
        for (text, open) in [
            ("127.0.0.9:1", false),
            ("[::1]:1", false),
            ("[::ffff:127.0.0.1]:1", false),
            ("localhost:1", false),
            ("unix:/a", false),
            (":1", true),
            ("0.0.0.0:1", true),
            ("192.168.0.1:1", true),
            ("tls:chat.example.org:1", true),
        ] {
            assert_eq!(text.parse::<ListenAddress>().unwrap().is_open(), open, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_reads_back(text in "(tls:)?(unix:)?[a-z0-9.:\\[\\]/]{0,24}") {
            if let Ok(address) = text.parse::<ListenAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
