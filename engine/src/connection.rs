//! What a home shard knows of one connection: whose it is, what it listens to, and what it is still to be told.
//!
//! At rest that is the session and a list of subscriptions. Only while requests are unanswered, or answers unwritten, does
//! a connection own more (`Traffic`), and that is given back when all is said.

use std::collections::VecDeque;

use crate::admission::Session;
use crate::command::Command;
use crate::fanout::Position;
use crate::limits::{OUTBOX_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX};
use crate::subscribers::AudienceKey;

/// One connection.
pub struct Connection {
    pub generation: u32,
    /// Its socket takes no more for now.
    pub parked: bool,
    /// It waits to be flushed in this turn.
    pub dirty: bool,
    /// The gateway has been told not to read it.
    pub paused: bool,
    /// Its close frame is in the outbox: nothing else will be said.
    pub closing: bool,
    pub session: Session,
    pub subscriptions: Vec<Subscription>,
    pub traffic: Option<Box<Traffic>>,
}

const _: () = assert!(size_of::<Connection>() <= 112);

/// A place in an audience's table.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    pub key: AudienceKey,
    pub index: u32,
}

/// Requests that are unanswered and answers that are unwritten.
#[derive(Default)]
pub struct Traffic {
    /// The number of the request in `slots[0]`.
    first: u32,
    slots: VecDeque<Slot>,
    /// A request that waits until all before it are answered.
    pub held: Option<(String, Command)>,
    /// The close frame that follows the last answer.
    pub farewell: Option<Vec<u8>>,
    pub outbox: VecDeque<Private>,
    outbox_bytes: usize,
    /// Bytes of the first private frame that are written already.
    pub written: usize,
    /// The audience of which a frame is half written: it is finished before anything else is said.
    pub interrupted: Option<AudienceKey>,
}

/// A request's place in the order of answers.
struct Slot {
    cid: String,
    answer: Option<Private>,
}

/// A frame for this connection alone.
pub struct Private {
    /// It follows all that its connection was owed of this audience up to here.
    pub after: Option<(AudienceKey, Position)>,
    pub bytes: Vec<u8>,
}

impl Connection {
    pub fn of(generation: u32, session: Session) -> Self {
        Self {
            generation,
            parked: false,
            dirty: false,
            paused: false,
            closing: false,
            session,
            subscriptions: Vec::new(),
            traffic: None,
        }
    }

    pub fn traffic(&mut self) -> &mut Traffic {
        self.traffic.get_or_insert_default()
    }

    /// Whether its next request may be read now.
    pub fn accepts(&self) -> bool {
        !self.closing && self.traffic.as_ref().is_none_or(|traffic| traffic.accepts())
    }

    pub fn subscription(&self, key: AudienceKey) -> Option<Subscription> {
        self.subscriptions.iter().copied().find(|subscription| subscription.key == key)
    }

    /// Gives back what a connection at rest does not need.
    pub fn rest(&mut self) {
        if self.traffic.as_ref().is_some_and(|traffic| traffic.is_at_rest()) {
            self.traffic = None;
        }
    }
}

impl Traffic {
    fn accepts(&self) -> bool {
        self.held.is_none()
            && self.farewell.is_none()
            && self.slots.len() < REQUESTS_IN_FLIGHT_MAX
            && self.outbox_bytes < OUTBOX_BYTES_MAX
    }

    fn is_at_rest(&self) -> bool {
        self.slots.is_empty()
            && self.held.is_none()
            && self.farewell.is_none()
            && self.outbox.is_empty()
            && self.interrupted.is_none()
    }

    /// Keeps the place of a request's answer; answers its number.
    pub fn ask(&mut self, cid: String) -> u32 {
        self.slots.push_back(Slot { cid, answer: None });
        self.first.wrapping_add(self.slots.len() as u32 - 1)
    }

    pub fn is_unanswered(&self) -> bool {
        !self.slots.is_empty()
    }

    /// The `cid` under which a request wants its answer.
    pub fn cid(&self, number: u32) -> Option<&str> {
        self.slots.get(number.wrapping_sub(self.first) as usize).map(|slot| slot.cid.as_str())
    }

    /// Puts an answer in its place, and lets go all whose turn has come.
    pub fn answer(&mut self, number: u32, answer: Private) {
        let Some(slot) = self.slots.get_mut(number.wrapping_sub(self.first) as usize) else { return };
        slot.answer = Some(answer);
        while let Some(answer) = self.slots.front_mut().and_then(|slot| slot.answer.take()) {
            self.slots.pop_front();
            self.first = self.first.wrapping_add(1);
            self.say(answer);
        }
    }

    /// Puts a frame at the end of the outbox.
    pub fn say(&mut self, private: Private) {
        self.outbox_bytes += private.bytes.len();
        self.outbox.push_back(private);
    }

    /// Puts a frame before all others of the outbox, none of which may have been begun.
    pub fn say_first(&mut self, private: Private) {
        debug_assert_eq!(self.written, 0);
        self.outbox_bytes += private.bytes.len();
        self.outbox.push_front(private);
    }

    /// Forgets the first frame of the outbox: it is written.
    pub fn said(&mut self) {
        if let Some(private) = self.outbox.pop_front() {
            self.outbox_bytes -= private.bytes.len();
        }
        self.written = 0;
    }

    /// Forgets all requests that are unanswered.
    pub fn forget_requests(&mut self) {
        self.slots.clear();
        self.held = None;
        self.farewell = None;
    }

    /// The membership of an audience ends: what its answers were to follow, up to their places, is put before them.
    /// `bytes` reads the log; `cursor` is where the member stood, and where it stands then.
    pub fn detach(
        &mut self,
        key: AudienceKey,
        cursor: &mut Position,
        mut bytes: impl FnMut(Position, Position) -> Vec<u8>,
    ) {
        let unsaid = self.slots.iter_mut().filter_map(|slot| slot.answer.as_mut());
        for private in self.outbox.iter_mut().chain(unsaid) {
            let Some((_, place)) = private.after.take_if(|(of, _)| *of == key) else { continue };
            if place > *cursor {
                let mut before = bytes(*cursor, place);
                self.outbox_bytes += before.len();
                before.append(&mut private.bytes);
                private.bytes = before;
                *cursor = place;
            }
        }
    }
}
