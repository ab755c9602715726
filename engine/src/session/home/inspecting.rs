//! What operators are told of sessions, and sessions that they close.
//!
//! A user's sessions are found by the user. A session alone is found by looking at all connections, some in each turn.

use super::{CloseMode, Home};
use crate::counters::SessionEnd;
use crate::id::UserId;
use crate::limits::{CHANNELS_LISTED_MAX, DISCONNECT_LOOKS_MAX, SESSIONS_LISTED_MAX};
use crate::outbox::Outbox;
use crate::query::{Disconnect, Disconnected, SessionSeen, SessionsSeen, Whom};
use crate::session::connection::Connection;

impl Home {
    /// The sessions of a user here: the newest of them, and how many there are.
    pub fn sessions(&mut self, user: UserId) -> SessionsSeen {
        let slots: Vec<u32> = self.sessions_by_user.of(user).take(SESSIONS_LISTED_MAX).collect();
        let mut listed = Vec::with_capacity(slots.len());
        for slot in slots {
            let Some(connection) = self.connections.in_slot(slot) else { continue };
            let Connection { session, subscriptions, .. } = connection;
            let channels = subscriptions.iter().take(CHANNELS_LISTED_MAX);
            listed.push(SessionSeen {
                session: session.session,
                network: session.network,
                channels: channels.map(|place| self.subscribers.channel_of(place.key).clone()).collect(),
                memberships: subscriptions.len(),
            });
        }
        SessionsSeen {
            listed,
            sessions: self.sessions_by_user.count(user) as usize,
            memberships: self.sessions_by_user.memberships(user) as usize,
        }
    }

    /// Closes sessions, after the answers to their requests: as many as one turn may cost. The answer says where to go on.
    pub fn disconnect(&mut self, query: &Disconnect, outbox: &mut Outbox) -> Disconnected {
        let looked_at: Vec<u32> = match query.whom {
            // Those that are closed already are still there until their clients hang up.
            Whom::User(user) => self.sessions_by_user.of(user).take(DISCONNECT_LOOKS_MAX).collect(),
            Whom::Session(_) => {
                let end = query.from_slot.saturating_add(DISCONNECT_LOOKS_MAX as u32).min(self.connections.slots());
                (query.from_slot..end).collect()
            }
        };
        let mut closed = 0;
        for slot in &looked_at {
            let is_meant = |connection: &&mut Connection| match query.whom {
                Whom::User(_) => !connection.is_closed_by_operator(),
                Whom::Session(session) => connection.session.session == session && !connection.is_closed_by_operator(),
            };
            let is_meant = self.connections.in_slot(*slot).filter(is_meant).is_some();
            let Some(id) = self.connections.id_in_slot(*slot).filter(|_| is_meant) else { continue };
            self.close(id, query.frame.clone(), CloseMode::AfterAnswers, SessionEnd::Operator, outbox);
            closed += 1;
            if matches!(query.whom, Whom::Session(_)) {
                return Disconnected { closed, next_slot: None };
            }
        }
        let next_slot = match query.whom {
            Whom::User(_) => None,
            Whom::Session(_) => looked_at.last().map(|last| last + 1).filter(|next| *next < self.connections.slots()),
        };
        Disconnected { closed, next_slot }
    }
}
