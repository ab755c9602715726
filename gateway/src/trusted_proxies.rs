//! The proxies whose word on a client's address counts. All other peers speak for themselves.
//!
//! A proxy tells the address in the headers of each request (`forwarded.rs`), or once a connection, in a header of the
//! PROXY protocol before the first request (`proxy_header.rs`).

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

/// Most networks of proxies. Each request that comes from a proxy is compared with all of them.
pub const NETWORKS_MAX: usize = 256;

/// Addresses and networks of proxies. The default trusts no peer.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    introduce: bool,
}

impl TrustedProxies {
    /// Trusts the peers in these networks.
    pub fn new(networks: impl IntoIterator<Item = TrustedNetwork>) -> Self {
        Self { networks: networks.into_iter().map(|TrustedNetwork(network)| network).collect(), introduce: false }
    }

    /// From now on these proxies begin each connection with a header of the PROXY protocol.
    pub fn introducing_clients(self) -> Self {
        Self { introduce: true, ..self }
    }

    /// Whether no peer is trusted.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty()
    }

    /// Whether this is a proxy's address.
    pub fn trust(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Whether any peer begins its connections with a header of the PROXY protocol.
    pub fn introduce_clients(&self) -> bool {
        self.introduce
    }
}

/// An address, or a network in CIDR form: `192.0.2.1`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrustedNetwork(IpNet);

impl FromStr for TrustedNetwork {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().map_err(|_| {
                format!("{text:?} is no address and no network; write such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32")
            })?,
        };
        if network.addr() != network.network() {
            // A slip of the pen in the length of the prefix trusts more peers than the operator thinks.
            return Err(format!("{text:?} has bits behind its prefix; write {} or one address", network.trunc()));
        }
        Ok(Self(canonical(network)))
    }
}

/// IPv4 addresses that are written as IPv6 addresses count as IPv4, as those of peers do.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED_BITS: u8 = 96;
    let IpNet::V6(mapped) = network else { return network };
    let prefix = mapped.prefix_len().checked_sub(MAPPED_BITS);
    match (mapped.addr().to_ipv4_mapped(), prefix) {
        (Some(address), Some(prefix)) => Ipv4Net::new(address, prefix).map_or(network, IpNet::V4),
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    fn proxies(networks: &[&str]) -> TrustedProxies {
        TrustedProxies::new(networks.iter().map(|network| network.parse().unwrap()))
    }

    #[test]
    fn addresses_and_networks() {
        let proxies = proxies(&["192.0.2.1", "10.0.0.0/8", "2001:db8::/32", "::1", "::ffff:198.51.100.0/120"]);
        for (address, expected) in [
            ("192.0.2.1", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.2.2", false),
            ("10.255.0.1", true),
            ("11.0.0.1", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("::1", true),
            ("127.0.0.1", false),
            ("198.51.100.7", true),
            ("198.51.101.7", false),
        ] {
            assert_eq!(proxies.trust(address.parse().unwrap()), expected, "{address}");
        }
        assert!(!TrustedProxies::default().trust(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    }

    #[test]
    fn everything_of_one_family() {
        assert!(proxies(&["0.0.0.0/0"]).trust("203.0.113.9".parse().unwrap()));
        assert!(!proxies(&["0.0.0.0/0"]).trust("2001:db8::1".parse().unwrap()));
        assert!(!proxies(&["::/0"]).trust("::ffff:203.0.113.9".parse().unwrap()));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, expected) in [
            ("", "such as"),
            ("localhost", "such as"),
            ("10.0.0.0/33", "such as"),
            ("2001:db8::/129", "such as"),
            ("10.0.0/8", "such as"),
            ("10.0.0.0/", "such as"),
            (" 10.0.0.1", "such as"),
            ("10.0.0.1/8", "10.0.0.0/8"),
            ("2001:db8::1/32", "2001:db8::/32"),
        ] {
            let error = text.parse::<TrustedNetwork>().unwrap_err();
            assert!(error.contains(expected) && error.contains(text), "{text:?}: {error}");
        }
    }
}
