//! The other end of a connection, and the clients for which it may speak.

use std::net::IpAddr;
use std::sync::Arc;

use crate::client_network::ClientNetwork;
use crate::forwarded::{self, ForwardingHeaders};
use crate::trusted_proxies::TrustedProxies;

/// The other end of a connection.
#[derive(Clone)]
pub struct Peer {
    address: Option<IpAddr>,
    proxies: Arc<TrustedProxies>,
}

impl Peer {
    /// `address` is the address that a proxy has given for the whole connection, or else the kernel's. The kernel knows no
    /// address if the connection is already dead.
    pub fn new(address: Option<IpAddr>, proxies: Arc<TrustedProxies>) -> Self {
        Self { address, proxies }
    }

    /// The address of the connection.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// The network of the connection's address.
    pub fn network(&self) -> ClientNetwork {
        self.address.map_or(ClientNetwork::UNKNOWN, ClientNetwork::of)
    }

    /// The network for which a request with these headers counts. If this is a proxy, each request of the connection may
    /// be of another client.
    pub fn client(&self, headers: &(impl ForwardingHeaders + ?Sized)) -> ClientNetwork {
        let client = self.address.map(|address| forwarded::client(address, headers, &self.proxies));
        client.map_or(ClientNetwork::UNKNOWN, ClientNetwork::of)
    }
}
