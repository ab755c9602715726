//! The network that a client's requests count for, where clients share something that is bounded.
//!
//! An IPv4 address is one network. Of an IPv6 address the first 64 bits are the network, because every host of a
//! network can take as many addresses of it as it likes. A site has many such networks (RFC 6177), so where newcomers
//! would find no place beside all of them, they count together.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU64;

use engine::id::NetworkKey;

/// An IPv4 address, or the first 64 bits of an IPv6 address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ClientNetwork {
    V4(Ipv4Addr),
    V6(u64),
}

/// An IPv4 address, or the first 48 bits of an IPv6 address: what providers give to one customer at most.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientSite(ClientNetwork);

/// What stands for a site where many entries name theirs. Sites have equal keys only if they are equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct SiteKey(pub NonZeroU64);

/// Marks the keys of IPv4 addresses. No network of IPv6 begins with these bits (RFC 4291, section 4).
const V4: u64 = 1 << 32;

impl ClientNetwork {
    /// Stands for a client whose address the kernel no longer knows, because its connection is already dead.
    pub const UNKNOWN: Self = Self::V6(0);

    /// The network of an address. An IPv4 address that is written as an IPv6 address counts as IPv4.
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }

    /// The key of the network's budget. Networks have equal keys only if they are equal.
    pub fn key(self) -> NetworkKey {
        let key = match self {
            Self::V4(address) => V4 | u64::from(address.to_bits()),
            Self::V6(network) => network,
        };
        // The network of the loopback address is 0, and no other network of IPv6 is 1.
        NetworkKey(NonZeroU64::new(key).unwrap_or(NonZeroU64::MIN))
    }

    /// The network with this key.
    pub fn of_key(key: NetworkKey) -> Self {
        let key = key.0.get();
        match u32::try_from(key ^ V4) {
            Ok(address) => Self::V4(Ipv4Addr::from_bits(address)),
            Err(_) if key == NonZeroU64::MIN.get() => Self::V6(0),
            Err(_) => Self::V6(key),
        }
    }

    /// The site that the network is a part of.
    pub fn site(self) -> ClientSite {
        const SUBNET_BITS: u32 = 16;
        ClientSite(match self {
            Self::V4(_) => self,
            Self::V6(network) => Self::V6(network >> SUBNET_BITS << SUBNET_BITS),
        })
    }
}

impl fmt::Display for ClientNetwork {
    /// The address, or the network of IPv6 that counts as one client.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4(address) => address.fmt(f),
            Self::V6(network) => write!(f, "{}/64", Ipv6Addr::from_bits(u128::from(*network) << 64)),
        }
    }
}

impl ClientSite {
    /// The key of the site.
    pub fn key(self) -> SiteKey {
        SiteKey(self.0.key().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_of_one_network() {
        for address in ["192.0.2.7", "0.0.0.0", "255.255.255.255", "2001:db8:1:2::", "::", "fe80::"] {
            let network = ClientNetwork::of(address.parse().unwrap());
            assert_eq!(ClientNetwork::of_key(network.key()), network, "{address}");
        }
    }

    #[test]
    fn networks_are_written_as_operators_know_them() {
        let check = |address: &str, expected: &str| {
            assert_eq!(ClientNetwork::of(address.parse().unwrap()).to_string(), expected);
        };
        check("192.0.2.7", "192.0.2.7");
        check("::ffff:192.0.2.7", "192.0.2.7");
        check("2001:db8:1:2:3::4", "2001:db8:1:2::/64");
    }

    #[test]
    fn addresses_of_one_network() {
        let network = |text: &str| ClientNetwork::of(text.parse().unwrap());
        for (one, other, same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::1", true),
            ("2001:db8:1:2::1", "2001:db8:1:3::1", false),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
        ] {
            assert_eq!(network(one) == network(other), same, "{one} {other}");
        }
    }

    #[test]
    fn networks_of_one_site() {
        let site = |text: &str| ClientNetwork::of(text.parse().unwrap()).site();
        for (one, other, same) in [
            ("2001:db8:1:2::1", "2001:db8:1:ffff::1", true),
            ("2001:db8:1:2::1", "2001:db8:2:2::1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "2001:db8:1:2::1", false),
        ] {
            assert_eq!(site(one) == site(other), same, "{one} {other}");
        }
    }
}
