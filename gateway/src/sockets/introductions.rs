//! Trusted proxies begin each connection with a header that says whose connection it is (`proxy_header.rs`), if the
//! operator has said so.
//!
//! There is no guessing: a connection of a trusted proxy that begins without the header ends. The header is never looked
//! for on connections of other peers.

use std::os::fd::OwnedFd;

use engine::id::{ConnectionId, Timestamp};
use engine::shard::Shard;

use super::opening::kernels_address;
use super::{SocketTable, Stage};
use crate::log_limit;
use crate::proxy_header::{self, ProxyHeader};
use crate::trusted_proxies::TrustedProxies;
use crate::upgrade::UpgradeRefusal;

impl SocketTable {
    /// Reads the header with which a proxy begins a connection, and then the first request behind it.
    pub(super) fn be_introduced(&mut self, id: ConnectionId, bytes: &mut [u8], shard: &mut Shard, now: Timestamp) {
        match proxy_header::read(bytes) {
            ProxyHeader::NeedMore => self.keep_head(id, bytes),
            ProxyHeader::Bad(fault) => {
                let peer = self.address(id);
                log_limit::warn!(?peer, %fault, "a proxy's connection is refused: --proxy-protocol expects the header");
                self.refuse(id, UpgradeRefusal::ProxyHeader, None);
            }
            ProxyHeader::Whole { read, client } => {
                self.heads.leave(id);
                self.addresses.extend(client.map(|client| (id, client)));
                let rest = &mut bytes[read..];
                if let Some(socket) = self.socket(id) {
                    socket.stage = Stage::Opening;
                }
                if !rest.is_empty() && !self.affords_handshake(id) {
                    return self.refuse_handshake(id, shard, now);
                }
                let Some(socket) = self.socket(id) else { return };
                match &mut socket.tls {
                    Some(tls) => {
                        let mut content = Vec::new();
                        let received = tls.begin_with(rest, &mut content);
                        let flushed = socket.flush();
                        match received {
                            Err(fault) => self.broke_tls(id, &fault, shard, now),
                            Ok(_) if flushed.is_err() => self.drop_connection(id, shard, now),
                            Ok(_) if content.is_empty() => self.heard_no_content(id, shard),
                            Ok(_) => self.judge(id, &mut content, 0, shard, now),
                        }
                    }
                    None if rest.is_empty() => {}
                    None => self.judge(id, rest, 0, shard, now),
                }
            }
        }
    }
}

/// Whether this new connection must begin with a header of the PROXY protocol.
pub(super) fn is_due(proxies: &TrustedProxies, descriptor: &OwnedFd) -> bool {
    proxies.introduce_clients() && kernels_address(descriptor).is_some_and(|address| proxies.trust(address))
}

/// What has come of the first request, behind a proxy's header. Returns `None` until the header is whole.
pub(super) fn request_behind<'a>(proxies: &TrustedProxies, descriptor: &OwnedFd, bytes: &'a [u8]) -> Option<&'a [u8]> {
    if !is_due(proxies, descriptor) {
        return Some(bytes);
    }
    match proxy_header::read(bytes) {
        ProxyHeader::NeedMore => None,
        ProxyHeader::Whole { read, .. } => Some(&bytes[read..]),
        ProxyHeader::Bad(_) => Some(bytes),
    }
}
