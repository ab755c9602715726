//! What the server says when it is ready.

use std::net::SocketAddr;

use crate::database;
use crate::options::{Options, StoreKind};

/// Where the server listens, how many shards it has, where it stores data, and what to do next.
pub fn text(
    options: &Options,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    shards: usize,
    capacity: usize,
) -> String {
    let store = match options.store {
        StoreKind::Embedded => format!("embedded, in {}", options.data.display()),
        StoreKind::Scylla => format!("scylla, {}", database::place(&options.database)),
        StoreKind::Memory => "memory: nothing outlives this process".to_owned(),
    };
    let host =
        if address.ip().is_unspecified() { format!("127.0.0.1:{}", address.port()) } else { address.to_string() };
    let admin = admin.map_or_else(|| "off".to_owned(), |admin| format!("http://{admin}/metrics"));
    format!(
        "stentor {}: listening on {address}\n\
         \x20 shards       {shards}, one a core\n\
         \x20 store        {store}\n\
         \x20 connections  {capacity} fit the limit on open descriptors\n\
         \x20 admin        {admin}\n\
         \x20 open         http://{host}/ for a chat page, or connect a Nakama client with server key \"{}\"\n",
        env!("CARGO_PKG_VERSION"),
        options.server_key
    )
}
