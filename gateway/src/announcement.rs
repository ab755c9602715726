//! What the server says when it is ready.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::database;
use crate::listen_address::Protocol;
use crate::listeners::{At, Listening};
use crate::options::{Options, StoreKind};

/// Where the server listens, each place with whether it has TLS.
pub struct Places {
    http: Vec<(At, bool)>,
    grpc: Vec<(At, bool)>,
}

impl Places {
    /// Where these sockets listen.
    pub fn of(listening: &[Listening]) -> Self {
        let of = |protocol| {
            let places = listening.iter().filter(|listening| listening.protocol == protocol);
            places.map(|listening| (listening.at.clone(), listening.secured)).collect()
        };
        Self { http: of(Protocol::Http), grpc: of(Protocol::Grpc) }
    }
}

/// Where the server listens, how many shards it has, where it stores data, and what to do next.
pub fn text(options: &Options, places: &Places, admin: Option<SocketAddr>, shards: usize, capacity: usize) -> String {
    let store = match options.store {
        StoreKind::Embedded => format!("embedded, in {}", options.data.display()),
        StoreKind::Scylla => format!("scylla, {}", database::place(&options.database)),
        StoreKind::Memory => "memory: nothing outlives this process".to_owned(),
    };
    let listed = |places: &[(At, bool)]| {
        let places: Vec<String> = places.iter().map(|(at, secured)| place(at, *secured)).collect();
        places.join(", ")
    };
    let grpc = if places.grpc.is_empty() { "off".to_owned() } else { listed(&places.grpc) };
    let open = places.http.iter().find_map(page).unwrap_or_else(|| "the address of the proxy in front".to_owned());
    let admin = admin.map_or_else(|| "off".to_owned(), |admin| format!("http://{admin}/metrics"));
    format!(
        "stentor {}: listening on {}\n\
         \x20 shards       {shards}, one a core\n\
         \x20 store        {store}\n\
         \x20 connections  {capacity} fit the limit on open descriptors\n\
         \x20 admin        {admin}\n\
         \x20 grpc         {grpc}\n\
         \x20 open         {open} for a chat page, or connect a Nakama client with server key \"{}\"\n",
        env!("CARGO_PKG_VERSION"),
        listed(&places.http),
        options.server_key
    )
}

fn place(at: &At, secured: bool) -> String {
    let tls = if secured { " (TLS)" } else { "" };
    match at {
        At::Tcp(address) => format!("{address}{tls}"),
        At::Unix(path) => format!("{}{tls}", path.display()),
    }
}

/// Where a browser on this machine finds the chat page.
fn page((at, secured): &(At, bool)) -> Option<String> {
    let At::Tcp(address) = at else { return None };
    let host = if address.ip().is_unspecified() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { address.ip() };
    let scheme = if *secured { "https" } else { "http" };
    Some(format!("{scheme}://{}/", SocketAddr::new(host, address.port())))
}
