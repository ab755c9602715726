//! What the log says of openings that are refused and of readers that are too slow, so that an attack is seen: from which
//! client, of which user if one is known, and why.

use engine::counters::OPENING_REFUSAL_KINDS;
use engine::id::{ConnectionId, UserId};
use engine::shard::Shard;
use tracing::field::display;

use super::SocketTable;
use super::opening::kernels_address;
use crate::client_network::ClientNetwork;
use crate::log_limit::{self, CallSite, Line};
use crate::peer::Peer;
use crate::upgrade::{UpgradeRefusal, with_headers};

/// Each kind is limited by itself, so none hides another.
static OPENINGS: [CallSite; OPENING_REFUSAL_KINDS.len()] = [const { CallSite::new() }; OPENING_REFUSAL_KINDS.len()];

impl SocketTable {
    /// Says that an opening is refused. `head` are the bytes that were read of it.
    pub(super) fn tell_of_refused_opening(
        &mut self,
        id: ConnectionId,
        refusal: UpgradeRefusal,
        head: &[u8],
        user: Option<UserId>,
    ) {
        let kind = refusal.kind();
        if let Line::Written { left_out } = OPENINGS[kind].next() {
            let peer = Peer::new(self.address(id), self.proxies.clone());
            let client = with_headers(head, |headers| peer.client(headers)).unwrap_or_else(|| peer.network());
            let user = user.map(|user| display(user.0));
            let kind = OPENING_REFUSAL_KINDS[kind];
            tracing::info!(lines_left_out_before = left_out, %client, user, kind, "the opening of a WebSocket was refused");
        }
    }

    /// Says that a session is closed because its client reads too slowly.
    pub(super) fn tell_of_slow_reader(&mut self, id: ConnectionId, shard: &Shard) {
        let Some(socket) = self.socket(id) else { return };
        let address = || kernels_address(&socket.descriptor).map_or(ClientNetwork::UNKNOWN, ClientNetwork::of);
        let user = || shard.payer(id).user.map(|user| display(user.0));
        log_limit::info!(peer = %address(), user = user(), "a session is closed: its client reads too slowly");
    }
}
