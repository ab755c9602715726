//! Decides by a connection's next request what it becomes: a session, a connection of `http/`, or a refused connection.
//!
//! This request may be the first of the connection, or it may follow others that `http/` has answered. In the second
//! case `http/` has given the connection back.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::time::Duration;

use engine::id::{ConnectionId, NetworkKey, Timestamp};
use engine::session::admission::{OpeningRefusal, Session};
use engine::shard::Input;
use engine::shard::Shard;
use httparse::Header;
use rustix::event::epoll;
use rustix::net::{self, AddressFamily, RecvFlags};

use super::unfinished_heads::{UnfinishedHeads, is_unfinished};
use super::{Socket, SocketTable, Stage, expiry};
use crate::client_network::ClientNetwork;
use crate::http::answer::{BUDGET_SPREAD_SECONDS, retry_after_seconds};
use crate::http::error::seconds_rounded_up;
use crate::http::{self, IdentityOpening, Returned, Services};
use crate::identity::is_token;
use crate::listen_address::Protocol;
use crate::live::Live;
use crate::peer::Peer;
use crate::token::TokenRefusal;
use crate::trusted_proxies::TrustedProxies;
use crate::upgrade::{self, Admitted, Ending, Identity, Opening, UpgradeRefusal};
use crate::{full, heads, session};

/// When a client whose user has too many sessions may try again.
const SESSIONS_RETRY_SECONDS: RangeInclusive<u64> = 5..=14;

impl SocketTable {
    /// Takes the connections that `http/` has given back.
    pub(super) fn take_returns(&mut self, shard: &mut Shard, now: Timestamp) {
        while let Some(Returned { descriptor, tls, peer, mut bytes, admitted }) = self.services.returns().take() {
            // After the stop has begun, no connection becomes a session.
            if (!self.listeners.is_empty() || self.draining)
                && let Some(id) = self.seat(descriptor, tls, Stage::Opening, Protocol::Http)
            {
                self.addresses.extend(peer.address().map(|address| (id, address)));
                self.judge_for(admitted, id, &mut bytes, 0, shard, now);
            }
        }
    }

    /// Sets the bytes that the unfinished heads of this shard may hold together. Call it before the first turn.
    pub fn bound_heads(&mut self, bytes_max: usize) {
        self.heads = UnfinishedHeads::new(bytes_max);
    }

    /// Sets which peers may speak for clients. Call it before the first turn. Each connection that is accepted later finds
    /// what is trusted then.
    pub fn trust(&mut self, proxies: Live<TrustedProxies>) {
        self.proxies = proxies.load_full();
        self.trusted = proxies;
    }

    /// The address of a connection whose request is being read.
    pub(super) fn address(&mut self, id: ConnectionId) -> Option<IpAddr> {
        if let Some(address) = self.addresses.get(&id) {
            return Some(*address);
        }
        let address = kernels_address(&self.socket(id)?.descriptor)?;
        self.addresses.insert(id, address);
        Some(address)
    }

    /// Keeps what has come of a head until the rest comes.
    ///
    /// Its headers are not whole, so it counts for the network of the connection, also behind a proxy.
    pub(super) fn keep_head(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(socket) = self.socket(id) else { return };
        socket.unfinished = bytes.to_vec();
        let from = self.address(id).map_or(ClientNetwork::UNKNOWN, ClientNetwork::of);
        self.count_head(id, bytes.len(), from);
    }

    /// Counts the bytes that are kept of an unfinished head or handshake. Refuses those connections that give way to it.
    pub(super) fn count_head(&mut self, id: ConnectionId, bytes: usize, from: ClientNetwork) {
        for given_way in self.heads.hold(id, bytes, from) {
            let Some(mut socket) = self.remove(given_way) else { continue };
            self.counters.refused += 1;
            socket.send_whole(&full::unasked());
            hang_up_refused(socket);
        }
    }

    /// Decides what to do with the bytes read so far of a connection's next request. The first `judged` of them were not
    /// enough.
    pub(super) fn judge(
        &mut self,
        id: ConnectionId,
        bytes: &mut [u8],
        judged: usize,
        shard: &mut Shard,
        now: Timestamp,
    ) {
        self.judge_for(None, id, bytes, judged, shard, now);
    }

    /// The same. If it is known whose opening it is, or why it is refused, `admitted` says so, and it has been paid for.
    fn judge_for(
        &mut self,
        admitted: Option<Result<Admitted, UpgradeRefusal>>,
        id: ConnectionId,
        bytes: &mut [u8],
        judged: usize,
        shard: &mut Shard,
        now: Timestamp,
    ) {
        if self.socket(id).is_some_and(|socket| socket.protocol == Protocol::Grpc) {
            return self.hand_over(id, bytes.to_vec(), http::serve_grpc);
        }
        // Empty lines before a request have no meaning. If they were kept, each of them would end a line of the head.
        let empty = heads::empty_lines(bytes);
        let (bytes, judged) = (&mut bytes[empty..], judged.saturating_sub(empty));
        if !upgrade::is_worth_parsing(bytes, judged) {
            return self.keep_head(id, bytes);
        }
        let peer = Peer::new(self.address(id), self.proxies.clone());
        let (services, mut network, open) = (self.services.clone(), None, self.let_sessions_in());
        let is_known = admitted.is_some();
        let let_in = |headers: &[Header<'_>]| {
            open?;
            let key = *network.insert(peer.client(headers).key());
            if is_known { Ok(()) } else { let_in(&services, headers, key) }
        };
        let admit = |token: &str| admitted.unwrap_or_else(|| Admitted::by_session_token(services.tokens(), token, now));
        match upgrade::judge(bytes, let_in, admit) {
            Opening::Refuse { refusal: UpgradeRefusal::Token(TokenRefusal::Invalid), .. }
                if !is_known && self.look_up(id, bytes, network) => {}
            Opening::NeedMore => self.keep_head(id, bytes),
            Opening::Http if is_unfinished(bytes) => self.keep_head(id, bytes),
            Opening::WebSocket { answer, identity, consumed } => {
                if let Err(refused) = shard.admits(identity.user) {
                    let refusal = refusal_of(refused);
                    self.tell_of_refused_opening(id, refusal, bytes, Some(identity.user));
                    let (head, next) = bytes.split_at(consumed);
                    return self.refuse_opening(id, refusal, head, Some(next));
                }
                if let Some(network) = network.filter(|_| !is_known) {
                    services.count_opening(network);
                }
                let Some(socket) = self.socket(id) else { return };
                if !socket.send_whole(&answer) || socket.hand_tls_over().is_err() {
                    return self.drop_connection(id, shard, now);
                }
                let is_in_kernel = socket.kernel_tls.is_in_force();
                self.counters.tls_in_kernel += u64::from(is_in_kernel);
                self.begin_session(id, identity, network, shard, now);
                self.hear(id, &mut bytes[consumed..], shard, now);
            }
            Opening::Refuse { refusal, next } => {
                self.tell_of_refused_opening(id, refusal, bytes, None);
                self.refuse_opening(id, refusal, bytes, next.map(|next| &bytes[next..]));
            }
            Opening::Http => self.hand_to_http(id, bytes.to_vec()),
        }
    }

    fn begin_session(
        &mut self,
        id: ConnectionId,
        identity: Identity,
        network: Option<NetworkKey>,
        shard: &mut Shard,
        now: Timestamp,
    ) {
        self.heads.leave(id);
        self.addresses.remove(&id);
        let expires = if self.closes_on_expiry { expiry::deadline(identity.expires, id) } else { expiry::NEVER };
        let Some(socket) = self.socket(id) else { return };
        assert!(socket.stage == Stage::Opening, "a session begins once");
        socket.expires = expires;
        socket.stage = Stage::Session;
        socket.format = identity.format;
        self.counters.stages[Stage::Opening as usize] -= 1;
        self.counters.stages[Stage::Session as usize] += 1;
        let session = Session {
            user: identity.user,
            session: session::new_id(now),
            username: identity.username,
            format: identity.format,
            on_lag: identity.on_lag,
            network,
        };
        shard.step(Input::Opened { connection: id, session, visibility: identity.visibility }, now);
    }

    /// Refuses an opening. If it is allowed, the connection stays open for the next request, because proxies and HTTP
    /// clients reuse it.
    pub(super) fn refuse(&mut self, id: ConnectionId, refusal: UpgradeRefusal, next: Option<&[u8]>) {
        self.counters.openings_refused[refusal.kind()] += 1;
        // Clients that the rate refuses are many, and each connection that waits for a next request holds memory.
        let is_crowd = matches!(refusal, UpgradeRefusal::BeyondRate { .. });
        let next = next.filter(|_| self.services.may_keep() && !is_crowd);
        let ending = if next.is_some() { Ending::Keep } else { Ending::Close };
        let answer = refusal.written(ending);
        let Some(socket) = self.socket(id) else { return };
        let sent = socket.send_whole(&answer);
        match next {
            Some(next) if sent => self.hand_to_http(id, next.to_vec()),
            _ => {
                if let Some(socket) = self.remove(id) {
                    hang_up_refused(socket);
                }
            }
        }
    }

    /// If the opening has a token of an identity provider, and such tokens open sockets, takes the connection out of the
    /// table until its user is known. Returns whether it did.
    fn look_up(&mut self, id: ConnectionId, bytes: &[u8], network: Option<NetworkKey>) -> bool {
        let terms = self.services.sign_in_terms();
        let token = terms.direct_provider().and_then(|_| upgrade::token_in(bytes)).filter(|token| is_token(token));
        let (Some(token), Some(network)) = (token, network) else { return false };
        let peer = Peer::new(self.address(id), self.proxies.clone());
        let Some(socket) = self.remove(id) else { return false };
        let _ = epoll::delete(&self.epoll, &socket.descriptor);
        let (descriptor, tls) = (socket.descriptor, socket.tls);
        let opening = IdentityOpening { descriptor, tls, peer, bytes: bytes.to_vec(), token, network };
        self.http.serve(http::admit(self.services.clone(), opening));
        true
    }

    fn hand_to_http(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        self.hand_over(id, bytes, http::serve);
    }

    /// Lets a task serve a connection, of which these bytes were read.
    fn hand_over(&mut self, id: ConnectionId, bytes: Vec<u8>, serve: http::Serve) {
        let peer = Peer::new(self.address(id), self.proxies.clone());
        let Some(socket) = self.remove(id) else { return };
        let _ = epoll::delete(&self.epoll, &socket.descriptor);
        let stream = http::SecuredStream::new(socket.descriptor, socket.tls);
        self.http.serve(serve(stream, bytes, peer, self.services.clone()));
    }
}

/// Whether an opening with these headers may be looked at more closely: all that is known before its token is checked.
fn let_in(services: &Services, headers: &[Header<'_>], network: NetworkKey) -> Result<(), UpgradeRefusal> {
    let allowed = services.allows_origins(heads::values(headers, "origin"));
    services.afford_opening(network).map_err(over_budget)?;
    if !allowed {
        return Err(UpgradeRefusal::Origin);
    }
    // Only an opening with a good token uses up the rate, so that no client without one keeps others out.
    services.has_room_for_opening(network).map_err(|retry_after| beyond_rate(seconds_rounded_up(retry_after)))
}

/// What the client of an opening is told that its user may not make now.
fn refusal_of(refused: OpeningRefusal) -> UpgradeRefusal {
    match refused {
        OpeningRefusal::TooManySessions => {
            UpgradeRefusal::SessionsOfUser { retry_after_seconds: retry_after_seconds(SESSIONS_RETRY_SECONDS) }
        }
        OpeningRefusal::OverBudget { retry_after } => over_budget(retry_after),
    }
}

fn over_budget(retry_after: Duration) -> UpgradeRefusal {
    let wait_seconds = seconds_rounded_up(retry_after);
    UpgradeRefusal::OverBudget {
        retry_after_seconds: retry_after_seconds(wait_seconds..=wait_seconds + BUDGET_SPREAD_SECONDS),
    }
}

/// The refusal of an opening that the rate of the process lets in after so many seconds.
pub(crate) fn beyond_rate(wait_seconds: u64) -> UpgradeRefusal {
    UpgradeRefusal::BeyondRate {
        retry_after_seconds: retry_after_seconds(wait_seconds..=wait_seconds + BUDGET_SPREAD_SECONDS),
    }
}

/// The address that the kernel knows. It knows none if the connection is already dead. The other end of a socket of this
/// machine is a program of this machine, so it counts as its loopback address.
pub(super) fn kernels_address(descriptor: &OwnedFd) -> Option<IpAddr> {
    let peer = net::getpeername(descriptor).ok().flatten()?;
    if peer.address_family() == AddressFamily::UNIX {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    SocketAddr::try_from(peer).ok().map(|peer| peer.ip())
}

/// Closes so that a refused client can read its answer: closing at once with unread bytes would reset the connection.
fn hang_up_refused(mut socket: Socket) {
    socket.hang_up();
    let mut rest = [0; 1024];
    let _ = net::recv(&socket.descriptor, &mut rest[..], RecvFlags::DONTWAIT);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Drawn so often, none of a few times is missing but once in 10^38 runs.
    fn waits(refusal: impl Fn() -> UpgradeRefusal) -> BTreeSet<u64> {
        let wait = |_| match refusal() {
            UpgradeRefusal::OverBudget { retry_after_seconds }
            | UpgradeRefusal::BeyondRate { retry_after_seconds }
            | UpgradeRefusal::SessionsOfUser { retry_after_seconds } => retry_after_seconds,
            other => panic!("{other:?} names no time"),
        };
        (0..400).map(wait).collect()
    }

    #[test]
    fn openings_that_were_refused_together_come_back_at_different_times() {
        let retry_after = Duration::from_millis(6_500);
        let spread = waits(|| refusal_of(OpeningRefusal::OverBudget { retry_after }));
        assert_eq!(spread, BTreeSet::from([7, 8, 9]), "behind the end of the debt, not before it");
        assert_eq!(waits(|| beyond_rate(7)), BTreeSet::from([7, 8, 9]));
        assert!(waits(|| refusal_of(OpeningRefusal::TooManySessions)).len() > 2);
    }
}
