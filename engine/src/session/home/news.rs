//! What sessions are told that belongs to no channel: notifications, and the statuses of the users that a session
//! follows.
//!
//! Every shard receives everything of this kind (`Broadcast`), and tells its own connections. It is less frequent than
//! channel messages, so it needs no log: frames are private ones, encoded once per format. A client that does not read
//! them is disconnected.

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;

use super::{Home, Lookup};
use crate::budget::Work;
use crate::command::{News, Rejection, Reply};
use crate::counters::SessionEnd;
use crate::fanout::frames::{self, Format};
use crate::id::{ConnectionId, SessionId, UserId};
use crate::limits::{
    BLOCKS_AT_ONCE_MAX, FOLLOWS_MAX, FOLLOWS_PER_USER_MAX, NEWS_BYTES_MAX, NOTICE_TURN_PUSHES_MAX, PUSH_BYTES,
    STATUS_EVENT_BYTES_MAX, STATUS_PRESENCE_BYTES, STATUS_TURN_BYTES_MAX, STATUS_TURN_PUSHES_MAX, STATUSES_BYTES_MAX,
    STATUSES_OF_USER_BYTES_MAX,
};
use crate::message::StatusPresence;
use crate::outbox::{Asker, Outbox};
use crate::parcel::Broadcast;
use crate::persist::{StoreFailure, StoreQuestion, StoreReceipt};
use crate::query::Block;
use crate::session::admission::Session;
use crate::session::connection::Private;
use crate::session::costs::{TOLD, TOLD_MAX};
use crate::session::shared_budgets::{Payer, Purse};
use crate::session::untold::{Change, Opened, Waiting};
use crate::social::notification::Notification;
use crate::wire::websocket;

/// News on their way to connections, which share the encoded bytes. One turn gives them to some of the connections.
pub(super) struct Push {
    to: Vec<ConnectionId>,
    /// How many of them have the news.
    done: usize,
    encoded: [Option<Arc<[u8]>>; Format::COUNT],
}

impl Push {
    /// Bytes of the encoded news, each format counted once.
    fn bytes(&self) -> usize {
        self.encoded.iter().flatten().map(|frame| frame.len()).sum()
    }
}

impl Home {
    /// Takes in a broadcast.
    pub fn hear(&mut self, broadcast: &Broadcast) {
        match broadcast {
            Broadcast::Notices(notices) => {
                for run in notices.chunk_by(|one, next| one.user == next.user) {
                    let notifications: Vec<_> = run.iter().map(|notice| notice.notification.clone()).collect();
                    self.notify_in_turn(run[0].user, notifications);
                }
            }
            Broadcast::Status { before, after } => self.hear_status(before.as_ref(), after.as_ref()),
            Broadcast::Expelled(user) => self.expel(*user),
        }
    }

    /// Puts notifications, all for the same user, where they wait to be pushed to the user's sessions. Each push is charged
    /// to the user who has caused it.
    fn notify_in_turn(&mut self, user: UserId, notifications: Vec<Notification>) {
        let sessions = self.sessions_by_user.count(user) as usize;
        if sessions == 0 {
            return;
        }
        for notification in &notifications {
            let payer = Payer { user: Some(notification.sender), network: None };
            self.shared_budgets.charge(payer, Purse::Requests, TOLD.times(sessions.min(TOLD_MAX)));
        }
        if self.notices.put((user, ()), (user, notifications)).is_some() {
            // It is stored, so its user finds it in the list.
            self.counters.notices_untold += 1;
        }
    }

    /// Pushes notifications to sessions: as many as one turn may cost. Users take turns. Must be called once a turn.
    pub fn tell_notices(&mut self) {
        let mut left = NOTICE_TURN_PUSHES_MAX;
        while self.deferred.is_empty() && left > 0 {
            let Some(push) = self.notice_push.take().or_else(|| self.next_notice()) else { return };
            self.notice_push = self.go_on_pushing(push, &mut left);
        }
    }

    fn next_notice(&mut self) -> Option<Push> {
        let (user, notifications) = self.notices.take()?;
        let slots: Vec<u32> = self.sessions_by_user.of(user).collect();
        Some(self.begin_push(&slots, &News::Notifications(notifications)))
    }

    fn hear_status(&mut self, before: Option<&StatusPresence>, after: Option<&StatusPresence>) {
        if let Some(presence) = after.or(before) {
            self.untold.note(presence.user, presence.session, after.cloned());
        }
    }

    /// Tells the sessions here of changed statuses: as much as one turn may cost, and at least one event. Must be called
    /// once a turn, before it ends.
    pub fn tell_statuses(&mut self, outbox: &mut Outbox) {
        let (mut bytes, mut left) = (0, STATUS_TURN_PUSHES_MAX);
        // While connections wait for their turn, nothing more is told: what changes meanwhile becomes one event.
        while self.deferred.is_empty() && bytes < STATUS_TURN_BYTES_MAX && left > 0 {
            if let Some(push) = self.status_push.take() {
                self.status_push = self.go_on_pushing(push, &mut left);
                continue;
            }
            let Some((user, changes)) = self.untold.take(STATUS_EVENT_BYTES_MAX) else { return };
            left = left.saturating_sub(changes.len());
            bytes += self.begin_telling(user, changes, outbox);
        }
    }

    /// Begins to tell of changes of one user's sessions in one event: the sessions that wait for an answer are told, and
    /// then answered. A session that has opened since knows what it showed then. Returns the bytes of the encoded event.
    fn begin_telling(&mut self, user: UserId, changes: Vec<(SessionId, Change)>, outbox: &mut Outbox) -> usize {
        let (mut joins, mut leaves, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
        let taken_up = changes.len();
        let alone = changes.len() == 1;
        let mut knows = None;
        for (session, change) in changes {
            if let Some(opened) = &change.opened {
                self.tell_opened(opened, change.after.as_ref());
                knows = Some(opened.connection.slot).filter(|_| alone);
            }
            let before = self.statuses.of_session(user, session).cloned();
            self.statuses.change(before.as_ref(), change.after.as_ref());
            joins.extend(change.after);
            leaves.extend(before);
            waiting.extend(change.waiting);
        }
        let asked_by: Vec<ConnectionId> = waiting.iter().map(|waiting| waiting.connection).collect();
        let (mut slots, mut first) = (Vec::new(), 0);
        if !joins.is_empty() || !leaves.is_empty() {
            // Every session is told of its own user's statuses, and those that wait for an answer come first. A follow
            // leaves out the session's own user, so no connection is in both lists.
            let asking: HashSet<u32> = asked_by.iter().map(|id| id.slot).collect();
            let own = self.sessions_by_user.of(user).filter(|&slot| Some(slot) != knows);
            let others: Vec<u32>;
            (slots, others) = own.partition(|slot| asking.contains(slot));
            first = slots.len();
            slots.extend(others);
            slots.append(&mut self.statuses.followers(user));
        }
        let push = self.begin_push(&slots, &News::Status { joins, leaves });
        let bytes = push.bytes();
        let told = TOLD.times((taken_up + push.to.len()).min(TOLD_MAX));
        self.charge_telling(user, &asked_by, told + Work::bytes(bytes));
        self.status_push = self.go_on_pushing(push, &mut first);
        for Waiting { connection, number } in waiting {
            self.answer(connection, number, &Reply::Done, None, outbox);
        }
        bytes
    }

    /// Tells a session that opened after the last status event was sent, if the user's status has changed since the
    /// session was given it.
    fn tell_opened(&mut self, opened: &Opened, after: Option<&StatusPresence>) {
        if self.connections.get(opened.connection).is_none() || after == Some(&opened.shown) {
            return;
        }
        let news = News::Status { joins: after.cloned().into_iter().collect(), leaves: vec![opened.shown.clone()] };
        self.push_to(opened.connection, &news);
    }

    /// Ends all sessions of a user. None of them is read any more. They are closed one after the other, because each may
    /// be in a thousand channels.
    fn expel(&mut self, user: UserId) {
        let slots: Vec<u32> = self.sessions_by_user.of(user).collect();
        for slot in slots {
            let Some(id) = self.connections.id_in_slot(slot) else { continue };
            let Some(connection) = self.connections.get_mut(id).filter(|connection| !connection.closing) else {
                continue;
            };
            let mut frame = Vec::new();
            websocket::close_frame(&mut frame, Some(websocket::CloseCode::NORMAL), "this account has been deleted");
            connection.end_because(SessionEnd::Deleted);
            let traffic = connection.traffic();
            traffic.held = None;
            // A connection that has a farewell is closed when its requests are answered.
            if traffic.farewell.is_none() {
                traffic.farewell = Some(frame);
                self.end_later(id);
            }
        }
    }

    /// Encodes news for the connections in these slots, in the formats that they have. No connection is sent them yet.
    fn begin_push(&mut self, slots: &[u32], news: &News) -> Push {
        let mut encoded: [Option<Arc<[u8]>>; Format::COUNT] = Default::default();
        let mut to = Vec::with_capacity(slots.len());
        for &slot in slots {
            if let Some(connection) = self.connections.in_slot(slot).filter(|connection| !connection.closing) {
                let format = connection.session.format;
                encoded[format as usize].get_or_insert_with(|| frames::news(format, news).into());
                to.push(ConnectionId { slot, generation: connection.generation });
            }
        }
        Push { to, done: 0, encoded }
    }

    /// Sends news to the next connections, at most `left`, and counts them off. News that have many bytes count as several.
    /// Returns the rest.
    fn go_on_pushing(&mut self, mut push: Push, left: &mut usize) -> Option<Push> {
        let weight = 1 + push.bytes() / PUSH_BYTES;
        let end = push.to.len().min(push.done + left.div_ceil(weight));
        for &id in &push.to[push.done..end] {
            let format = self.connections.get(id).map(|connection| connection.session.format);
            if let Some(frame) = format.and_then(|format| push.encoded[format as usize].clone()) {
                self.say_news(id, frame);
            }
        }
        *left = left.saturating_sub((end - push.done) * weight);
        push.done = end;
        (end < push.to.len()).then_some(push)
    }

    /// Sends news to one connection.
    fn push_to(&mut self, id: ConnectionId, news: &News) {
        let push = self.begin_push(&[id.slot], news);
        let rest = self.go_on_pushing(push, &mut 1);
        debug_assert!(rest.is_none(), "there is one connection");
    }

    /// Sends an encoded event to a connection. If the connection has too many unread bytes, closes it instead. To a
    /// connection whose socket was not found full yet, one turn may send more than that: it has had no chance to read.
    fn say_news(&mut self, id: ConnectionId, frame: Arc<[u8]>) {
        let Some(connection) = self.connections.get_mut(id).filter(|connection| !connection.closing) else { return };
        if connection.is_slow() && connection.traffic().outbox_bytes() + frame.len() > NEWS_BYTES_MAX {
            return self.let_go(id, &format!("too slow: more than {NEWS_BYTES_MAX} bytes of news are unread"));
        }
        connection.traffic().say(Private::of(frame));
        self.mark(id.slot);
    }

    /// Whether sessions here must still be told of news.
    pub(super) fn has_news(&self) -> bool {
        let under_way = self.status_push.is_some() || self.notice_push.is_some();
        under_way || !self.notices.is_empty() || !self.untold.is_empty()
    }

    /// A session that has just opened shows itself. It is told at once, so this is the first frame that it receives.
    pub(super) fn show_opening(&mut self, id: ConnectionId, outbox: &mut Outbox) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Session { user, session, ref username, .. } = connection.session;
        let shown = StatusPresence { user, session, username: username.clone(), status: "".into() };
        self.push_to(id, &News::Status { joins: vec![shown.clone()], leaves: Vec::new() });
        outbox.broadcast(Broadcast::Status { before: None, after: Some(shown.clone()) });
        self.untold.open(Opened { connection: id, shown });
    }

    /// Sets what a session shows from now on; `None`: it is visible no more. `request` is answered when the others are
    /// told.
    pub(super) fn show(
        &mut self,
        id: ConnectionId,
        status: Option<Arc<str>>,
        request: Option<u32>,
        outbox: &mut Outbox,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Session { user, session, ref username, .. } = connection.session;
        let told = self.statuses.of_session(user, session);
        let before = self.untold.newest(user, session).unwrap_or(told).cloned();
        let username = username.clone();
        let after = status.map(|status| StatusPresence { user, session, username, status });
        if before.is_some() || after.is_some() {
            let change = self.untold.note(user, session, after.clone());
            change.waiting.extend(request.map(|number| Waiting { connection: id, number }));
            outbox.broadcast(Broadcast::Status { before, after });
        } else if let Some(number) = request {
            self.answer(id, number, &Reply::Done, None, outbox);
        }
    }

    /// Asks the store which of these users exist. The answer to the request waits for that.
    pub(super) fn follow(
        &mut self,
        id: ConnectionId,
        number: u32,
        ids: Vec<UserId>,
        usernames: Vec<String>,
        outbox: &mut Outbox,
    ) {
        if ids.is_empty() && usernames.is_empty() {
            return self.answer(id, number, &Reply::Statuses(Vec::new()), None, outbox);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.traffic().exclusive = true;
        let follower = connection.session.user;
        self.lookups.insert(id, Lookup { number, blocked_by: Vec::new() });
        outbox.store(Asker::Follower(id), StoreQuestion::Users { follower, ids, usernames });
    }

    pub(super) fn unfollow(&mut self, id: ConnectionId, users: &[UserId]) {
        for &user in users {
            self.statuses.unfollow(id.slot, user);
        }
    }

    /// Ends the following after a block: the blocked user's sessions no longer follow the user. No session is told. If
    /// the user follows the blocked user, that goes on.
    pub fn end_following(&mut self, Block { user, other: blocked }: Block) {
        let slots: Vec<u32> = self.sessions_by_user.of(blocked).collect();
        for slot in slots {
            self.statuses.unfollow(slot, user);
        }
        for (&connection, lookup) in &mut self.lookups {
            let requester = self.connections.get(connection);
            if requester.is_some_and(|requester| requester.session.user == blocked)
                && !lookup.blocked_by.contains(&user)
            {
                // A list of one more than the bound means that the bound was exceeded.
                lookup.blocked_by.truncate(BLOCKS_AT_ONCE_MAX);
                lookup.blocked_by.push(user);
            }
        }
    }

    /// Takes in the store's answer which users exist. The request is answered later in the turn, by `answer_follows`.
    pub fn receipt(&mut self, id: ConnectionId, outcome: Result<StoreReceipt, StoreFailure>) {
        self.found.push((id, outcome));
    }

    /// Answers the requests to follow that the store has answered in this turn. Must be called once a turn, after
    /// `tell_statuses`: a change of which this shard has heard is then in the answer already, unless the shard is behind.
    /// So a client that asks after another client's change was answered finds the new status.
    pub fn answer_follows(&mut self, outbox: &mut Outbox) {
        for (id, outcome) in mem::take(&mut self.found) {
            self.answer_follow(id, outcome, outbox);
        }
    }

    fn answer_follow(&mut self, id: ConnectionId, outcome: Result<StoreReceipt, StoreFailure>, outbox: &mut Outbox) {
        let lookup = self.lookups.remove(&id).expect("the store answers what it was asked, once");
        let Lookup { number, blocked_by } = lookup;
        let Some(connection) = self.connections.get_mut(id).filter(|connection| !connection.closing) else { return };
        let own = connection.session.user;
        let reply = match outcome {
            Ok(StoreReceipt::Users(mut users)) if blocked_by.len() <= BLOCKS_AT_ONCE_MAX => {
                users.retain(|user| *user != own && !blocked_by.contains(user));
                self.follow_found(id.slot, own, &users)
            }
            outcome => {
                let advice = outcome.err().map_or("try again", |failure| failure.advice());
                Reply::Refused(Rejection::unavailable(format!("the users could not be looked up: {advice}")))
            }
        };
        self.answer(id, number, &reply, None, outbox);
    }

    /// Follows all of these users, or none if that would be too many. A user that the connection follows already is not
    /// counted twice.
    fn follow_found(&mut self, slot: u32, own: UserId, users: &[UserId]) -> Reply {
        let followed: HashSet<UserId> = self.statuses.followed(slot).chain(users.iter().copied()).collect();
        if followed.len() > FOLLOWS_MAX {
            let reason = format!("unfollow a user first: a session follows at most {FOLLOWS_MAX} users");
            return Reply::Refused(Rejection::bad_input(reason));
        }
        let of_all: usize = self.sessions_by_user.of(own).map(|session| self.statuses.followed_count(session)).sum();
        if of_all - self.statuses.followed_count(slot) + followed.len() > FOLLOWS_PER_USER_MAX {
            let reason =
                format!("unfollow a user first: the sessions of a user follow at most {FOLLOWS_PER_USER_MAX} users");
            return Reply::Refused(Rejection::bad_input(reason));
        }
        let shown: Vec<StatusPresence> = users.iter().flat_map(|&user| self.first_statuses(user)).cloned().collect();
        if shown.iter().map(bytes_of).sum::<usize>() > STATUSES_BYTES_MAX {
            let reason =
                format!("follow fewer users at once: their statuses have more than {STATUSES_BYTES_MAX} bytes");
            return Reply::Refused(Rejection::bad_input(reason));
        }
        users.iter().for_each(|&user| self.statuses.follow(slot, user));
        Reply::Statuses(shown)
    }

    /// What the user's sessions show: as many as one answer tells of one user.
    fn first_statuses(&self, user: UserId) -> impl Iterator<Item = &StatusPresence> {
        let mut bytes = 0;
        self.statuses.of(user).take_while(move |presence| {
            bytes += bytes_of(presence);
            bytes <= STATUSES_OF_USER_BYTES_MAX
        })
    }

    /// For each of these users, whether any of the user's sessions is visible.
    pub fn online(&self, users: &[UserId]) -> Vec<bool> {
        users.iter().map(|&user| self.statuses.shows(user)).collect()
    }
}

/// Bytes in which a message tells of a status, before they are escaped for JSON.
fn bytes_of(presence: &StatusPresence) -> usize {
    STATUS_PRESENCE_BYTES + presence.status.len()
}
