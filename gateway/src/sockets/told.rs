//! What the log says of openings that are refused, of limits that sessions reach and of readers that are too slow, so that an attack is seen: from which
//! client, of which user if one is known, and why.

use engine::command::RateLimit;
use engine::counters::{OPENING_REFUSAL_KINDS, RATE_LIMITS};
use engine::id::{ConnectionId, UserId};
use engine::session::shared_budgets::Payer;
use engine::shard::Shard;
use tracing::field::display;

use super::SocketTable;
use crate::client_network::ClientNetwork;
use crate::log_limit::{self, CallSite, Line};
use crate::peer::Peer;
use crate::upgrade::{UpgradeRefusal, with_headers};

/// Each kind is limited by itself, so none hides another.
static OPENINGS: [CallSite; OPENING_REFUSAL_KINDS.len()] = [const { CallSite::new() }; OPENING_REFUSAL_KINDS.len()];

/// The same for the limits that requests of sessions reach.
static LIMITS: [CallSite; RATE_LIMITS.len()] = [const { CallSite::new() }; RATE_LIMITS.len()];

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
    pub(super) fn tell_of_slow_reader(id: ConnectionId, shard: &Shard) {
        let (client, user) = client_of(id, shard);
        let user = user.map(|user| display(user.0));
        log_limit::info!(%client, user, "a session is closed: its client reads too slowly");
    }

    /// Says that a request of a session was refused because it came too fast.
    pub(super) fn tell_of_limit(id: ConnectionId, limit: RateLimit, shard: &Shard) {
        if let Line::Written { left_out } = LIMITS[limit.place()].next() {
            let (client, user) = client_of(id, shard);
            let (user, limit) = (user.map(|user| display(user.0)), limit.name());
            tracing::warn!(
                lines_left_out_before = left_out, %client, user, limit, "a limit is reached: a request of a session was refused"
            );
        }
    }
}

/// The client of a session, behind a trusted proxy that which the proxy has named, and its user.
fn client_of(id: ConnectionId, shard: &Shard) -> (ClientNetwork, Option<UserId>) {
    let Payer { user, network } = shard.client(id);
    (network.map_or(ClientNetwork::UNKNOWN, ClientNetwork::of_key), user)
}
