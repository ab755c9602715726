//! What a session hears that concerns no channel: notifications, and the statuses of those it follows.
//!
//! Every shard is told everything of this kind (`Broadcast`), and tells its own connections. It is the slower life: frames
//! are private ones, encoded once a format, and who does not read them is let go.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Home, Lookup, find};
use crate::command::{News, Rejection, Reply};
use crate::fanout::frames::{self, Format};
use crate::id::{ConnectionId, UserId};
use crate::limits::{BLOCKS_AT_ONCE_MAX, FOLLOWS_MAX, NEWS_BYTES_MAX};
use crate::message::StatusPresence;
use crate::parcel::{Block, Broadcast};
use crate::persist::{StoreFailure, StoreReceipt, StoreRequest, Ticket};
use crate::session::connection::Private;
use crate::social::notification::{Notice, Notification};
use crate::wire::websocket;

/// Marks the tickets of homes among those of a shard: owners count theirs from one.
const HOME_TICKET: u64 = 1 << 63;

impl Ticket {
    /// Whether this is a home's, not an owner's.
    pub(crate) fn is_of_home(self) -> bool {
        self.0 & HOME_TICKET != 0
    }
}

impl Home {
    /// Tells all shards, this one included.
    pub fn circulate(&mut self, broadcast: Broadcast) {
        self.hear(&broadcast);
        self.broadcasts.push(Arc::new(broadcast));
    }

    /// Hears what all shards are told.
    pub fn hear(&mut self, broadcast: &Broadcast) {
        match broadcast {
            Broadcast::Notices(notices) => {
                for run in notices.chunk_by(|one, next| one.user == next.user) {
                    self.notify(run);
                }
            }
            Broadcast::Status { before, after } => self.hear_status(before.as_ref(), after.as_ref()),
            Broadcast::Expelled(user) => self.expel(*user),
        }
    }

    /// Pushes notifications, all of one user, to its sessions.
    fn notify(&mut self, notices: &[Notice]) {
        let slots: Vec<u32> = self.sessions_by_user.of(notices[0].user).collect();
        let notifications: Vec<Notification> = notices.iter().map(|notice| notice.notification.clone()).collect();
        self.push(&slots, &News::Notifications(notifications));
    }

    fn hear_status(&mut self, before: Option<&StatusPresence>, after: Option<&StatusPresence>) {
        self.statuses.change(before, after);
        let Some(user) = after.or(before).map(|presence| presence.user) else { return };
        // Every session follows its own user, and nobody follows themselves besides.
        let mut slots: Vec<u32> = self.sessions_by_user.of(user).collect();
        slots.append(&mut self.statuses.followers(user));
        let news =
            News::Status { joins: after.cloned().into_iter().collect(), leaves: before.cloned().into_iter().collect() };
        self.push(&slots, &news);
    }

    fn expel(&mut self, user: UserId) {
        let slots: Vec<u32> = self.sessions_by_user.of(user).collect();
        for slot in slots {
            let Some(connection) = &self.connections[slot as usize] else { continue };
            let id = ConnectionId { slot, generation: connection.generation };
            let mut frame = Vec::new();
            websocket::close_frame(&mut frame, Some(websocket::CloseCode::NORMAL), "this account has been deleted");
            self.close(id, frame, super::CloseMode::AtOnce);
        }
    }

    /// Tells these connections. One that has left too much unread is let go instead.
    fn push(&mut self, slots: &[u32], news: &News) {
        let mut encoded: [Option<Vec<u8>>; Format::COUNT] = Default::default();
        for &slot in slots {
            let Some(connection) = self.connections[slot as usize].as_mut() else { continue };
            if connection.closing {
                continue;
            }
            let format = connection.session.format;
            let frame = encoded[format as usize].get_or_insert_with(|| frames::news(format, news));
            if connection.traffic().outbox_bytes() + frame.len() > NEWS_BYTES_MAX {
                let id = ConnectionId { slot, generation: connection.generation };
                self.let_go(id, &format!("too slow: more than {NEWS_BYTES_MAX} bytes of news are unread"));
                continue;
            }
            connection.traffic().say(Private::of(frame.clone()));
            self.mark(slot);
        }
    }

    /// What a session shows from now on; nothing: it is not seen any more.
    pub(super) fn show(&mut self, id: ConnectionId, status: Option<Arc<str>>) {
        let Some(connection) = find(&mut self.connections, id) else { return };
        let session = &connection.session;
        let before = self.statuses.of_session(session.user, session.session).cloned();
        let after = status.map(|status| StatusPresence {
            user: session.user,
            session: session.session,
            username: session.username.clone(),
            status,
        });
        if before.is_some() || after.is_some() {
            self.circulate(Broadcast::Status { before, after });
        }
    }

    /// Requests the store which of these users there are; the answer waits for that.
    pub(super) fn follow(&mut self, id: ConnectionId, number: u32, ids: Vec<UserId>, usernames: Vec<String>) {
        if ids.is_empty() && usernames.is_empty() {
            return self.answer(id, number, &Reply::Statuses(Vec::new()), None);
        }
        let Some(connection) = self.connection(id) else { return };
        connection.traffic().exclusive = true;
        let follower = connection.session.user;
        self.tickets += 1;
        let ticket = Ticket(HOME_TICKET | self.tickets);
        self.lookups.insert(ticket, Lookup { connection: id, number, blocked_by: Vec::new() });
        self.store_requests.push((ticket, StoreRequest::Users { follower, ids, usernames }));
    }

    pub(super) fn unfollow(&mut self, id: ConnectionId, users: &[UserId]) {
        for &user in users {
            self.statuses.unfollow(id.slot, user);
        }
    }

    /// A user has been blocked: its sessions follow the other no more. Nobody hears of it, and the other goes on following the
    /// user, if it did.
    pub fn end_following(&mut self, Block { user, other: blocked }: Block) {
        let slots: Vec<u32> = self.sessions_by_user.of(blocked).collect();
        for slot in slots {
            self.statuses.unfollow(slot, user);
        }
        for lookup in self.lookups.values_mut() {
            let requester = find(&mut self.connections, lookup.connection);
            if requester.is_some_and(|requester| requester.session.user == blocked)
                && !lookup.blocked_by.contains(&user)
            {
                // One more than the bound says that it was exceeded.
                lookup.blocked_by.truncate(BLOCKS_AT_ONCE_MAX);
                lookup.blocked_by.push(user);
            }
        }
    }

    /// The store has said which users there are.
    pub fn receipt(&mut self, ticket: Ticket, outcome: Result<StoreReceipt, StoreFailure>) {
        let lookup = self.lookups.remove(&ticket).expect("the store answers what it was asked, once");
        let Lookup { connection: id, number, blocked_by } = lookup;
        let Some(connection) = self.connection(id).filter(|connection| !connection.closing) else { return };
        let own = connection.session.user;
        let reply = match outcome {
            Ok(StoreReceipt::Users(mut users)) if blocked_by.len() <= BLOCKS_AT_ONCE_MAX => {
                users.retain(|user| *user != own && !blocked_by.contains(user));
                self.follow_found(id.slot, &users)
            }
            _ => Reply::Refused(Rejection::unavailable("the users could not be looked up: try again")),
        };
        self.answer(id, number, &reply, None);
    }

    /// All of them or none; whom the connection follows already takes no further place.
    fn follow_found(&mut self, slot: u32, users: &[UserId]) -> Reply {
        let followed: HashSet<UserId> = self.statuses.followed(slot).chain(users.iter().copied()).collect();
        if followed.len() > FOLLOWS_MAX {
            let reason = format!("unfollow somebody first: {FOLLOWS_MAX} users are the most to follow");
            return Reply::Refused(Rejection::bad_input(reason));
        }
        users.iter().for_each(|&user| self.statuses.follow(slot, user));
        Reply::Statuses(users.iter().flat_map(|&user| self.statuses.of(user)).cloned().collect())
    }

    /// Which of these users show themselves.
    pub fn online(&self, users: &[UserId]) -> Vec<bool> {
        users.iter().map(|&user| !self.statuses.of(user).is_empty()).collect()
    }

    /// Requests that the store has not answered.
    pub fn waiting(&self) -> usize {
        self.lookups.len()
    }
}
