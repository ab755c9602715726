//! What a home shard knows of one connection: its session, its subscriptions, and the frames that it is still owed.
//!
//! At rest that is the session and a list of subscriptions. Only while requests are unanswered or answers are unwritten
//! does a connection own more (`Traffic`). That is freed when all is written.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::budget::Bucket;
use crate::command::Command;
use crate::counters::SessionEnd;
use crate::fanout::frames::ListedFrame;
use crate::fanout::log::Position;
use crate::fanout::subscribers::{AudienceKey, Subscribers};
use crate::fanout::tail::TailPiece;
use crate::id::{ChannelId, MessageId, Monotonic};
use crate::limits::{OUTBOX_BYTES_MAX, PONGS_BYTES_MAX, REQUESTS_IN_FLIGHT_MAX, SUBSCRIPTIONS_MAX};
use crate::parcel::ChannelAction;
use crate::rate::{Used, WINDOW};
use crate::session::admission::Session;

/// One connection.
pub struct Connection {
    pub generation: u32,
    /// Its socket is full.
    pub parked: bool,
    /// It waits to be flushed in this turn.
    pub dirty: bool,
    /// It is parked because this turn has written enough, and waits for a later one.
    pub deferred: bool,
    /// The gateway has been told not to read it.
    pub paused: bool,
    /// It waits to be closed, and its close frame is its farewell.
    pub ending: bool,
    /// Its close frame is in the outbox: nothing is sent after it.
    pub closing: bool,
    /// How much of the allowed rate its sends so far use up.
    sends: Used,
    /// What its requests have cost.
    pub work: Bucket,
    pub rest: Rest,
    /// Why the session ends, once that is decided.
    pub end: SessionEnd,
    /// The number of the first request of the next `Traffic`: no number is used twice, so an answer that comes twice or
    /// late answers no other request.
    requests: u32,
    pub session: Session,
    pub subscriptions: Vec<Subscription>,
    pub traffic: Option<Box<Traffic>>,
}

const _: () = assert!(size_of::<Connection>() <= 128);

/// Whether a connection is read later because of its budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rest {
    Not,
    Resting,
    /// It has rested. Its next request is read, however its budget stands.
    Over,
}

/// A place in an audience's table.
#[derive(Clone, Copy, Debug)]
pub struct Subscription {
    pub key: AudienceKey,
    pub index: u32,
    pub terms: JoinTerms,
}

/// How a member has joined.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct JoinTerms {
    pub hidden: bool,
    pub persistence: bool,
}

impl JoinTerms {
    /// The terms of a join; of another request, none.
    pub fn of(action: &ChannelAction) -> Self {
        match action {
            ChannelAction::Join { presence, hidden, .. } => Self { hidden: *hidden, persistence: presence.persistence },
            _ => Self::default(),
        }
    }
}

/// The unanswered requests and the unwritten answers of a connection.
#[derive(Default)]
pub struct Traffic {
    /// The number of the request in `slots[0]`.
    first: u32,
    slots: VecDeque<Slot>,
    /// The store is asked about the last request, so later requests are looked at only after its answer.
    pub exclusive: bool,
    /// A request that waits until all requests before it are answered.
    pub held: Option<(String, Command)>,
    /// The close frame that follows the last answer.
    pub farewell: Option<Vec<u8>>,
    pub outbox: VecDeque<Private>,
    /// The memory that the outbox and its frames hold.
    outbox_bytes: usize,
    /// The part of it that pongs hold.
    pong_bytes: usize,
    /// The bytes of logs in the outbox, which other connections may share.
    tail_bytes: usize,
    /// What is counted of it in the account of the shard.
    pub accounted: usize,
    /// Bytes of the first private frame that are written already.
    pub written: usize,
    /// The first private frame is the rest of a frame that is half written.
    finishing: bool,
    /// The audience whose frame is half written. That frame is finished before anything else is sent.
    pub interrupted: Option<AudienceKey>,
}

/// A request, at its place in the order of answers.
struct Slot {
    cid: String,
    answer: Option<Private>,
    /// If a channel's owner answers it: the request.
    request: Option<OpenRequest>,
}

/// A request that a channel's owner answers.
pub struct OpenRequest {
    pub channel: ChannelId,
    pub kind: RequestKind,
    /// If it is a join.
    pub terms: JoinTerms,
}

/// What a request changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RequestKind {
    Join,
    Leave,
    Message,
}

impl RequestKind {
    /// The kind of a request for this action.
    pub fn of(action: &ChannelAction) -> Self {
        match action {
            ChannelAction::Join { .. } => Self::Join,
            ChannelAction::Leave | ChannelAction::Depart => Self::Leave,
            ChannelAction::Message(_) => Self::Message,
        }
    }
}

/// A frame for this connection alone.
pub struct Private {
    /// The frame is sent only after this audience's log up to this position.
    pub after: Option<(AudienceKey, Position)>,
    pub bytes: FrameBytes,
    /// The frame tells of a gap in this audience, which begins after this message.
    pub gap: Option<(AudienceKey, Option<MessageId>)>,
    /// The frame answers a ping of WebSocket.
    pub is_pong: bool,
}

impl Private {
    /// A frame that needs to follow no audience's log.
    pub fn of(bytes: impl Into<FrameBytes>) -> Self {
        Self { after: None, bytes: bytes.into(), gap: None, is_pong: false }
    }

    /// The answer to a ping of WebSocket.
    pub fn pong(bytes: Vec<u8>) -> Self {
        Self { is_pong: true, ..Self::of(bytes) }
    }

    fn tail_bytes(&self) -> usize {
        if matches!(self.bytes, FrameBytes::Tail(_)) { self.bytes.len() } else { 0 }
    }

    /// The memory that the frame holds while it waits.
    fn bytes_held(&self) -> usize {
        size_of::<Self>() + ALLOCATION_BYTES + self.bytes.len()
    }
}

/// What an allocation costs beside its bytes, about.
const ALLOCATION_BYTES: usize = 16;

/// The bytes of a frame: of this connection alone, or shared by all connections that are sent the same. A tail is whole
/// frames of a log.
pub enum FrameBytes {
    Own(Vec<u8>),
    Shared(Arc<[u8]>),
    Listed(Box<ListedFrame>),
    Tail(TailPiece),
}

impl FrameBytes {
    /// The parts that follow each other on the wire.
    fn parts(&self) -> [&[u8]; FRAME_PARTS_MAX] {
        match self {
            Self::Own(bytes) => [bytes, &[], &[]],
            Self::Shared(bytes) => [bytes, &[], &[]],
            Self::Tail(bytes) => [bytes, &[], &[]],
            Self::Listed(frame) => frame.parts(),
        }
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.parts().iter().map(|part| part.len()).sum()
    }

    /// Whether it has no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes behind the first `written`, as parts of which none is empty.
    pub fn behind(&self, written: usize) -> impl Iterator<Item = &[u8]> {
        let mut written = written;
        self.parts().into_iter().filter_map(move |part| {
            let skipped = written.min(part.len());
            written -= skipped;
            Some(&part[skipped..]).filter(|rest| !rest.is_empty())
        })
    }

    /// The bytes in one piece.
    #[cfg(test)]
    fn to_vec(&self) -> Vec<u8> {
        self.parts().concat()
    }
}

/// Parts of one frame in a write.
pub const FRAME_PARTS_MAX: usize = 3;

impl From<ListedFrame> for FrameBytes {
    fn from(frame: ListedFrame) -> Self {
        Self::Listed(Box::new(frame))
    }
}

impl From<Vec<u8>> for FrameBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Own(bytes)
    }
}

impl From<Arc<[u8]>> for FrameBytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::Shared(bytes)
    }
}

impl Connection {
    /// An open connection without subscriptions. The generation tells it from earlier connections in the same slot.
    pub fn of(generation: u32, session: Session) -> Self {
        Self {
            generation,
            parked: false,
            dirty: false,
            deferred: false,
            paused: false,
            ending: false,
            closing: false,
            sends: Used::default(),
            work: Bucket::default(),
            rest: Rest::Not,
            end: SessionEnd::Gone,
            requests: 0,
            session,
            subscriptions: Vec::new(),
            traffic: None,
        }
    }

    /// Whether nothing of its own is sent to it any more but its close frame, because its client reads too slowly.
    pub fn is_mute(&self) -> bool {
        self.end == SessionEnd::Slow
    }

    /// Takes in why the session ends. The first reason stays.
    pub fn end_because(&mut self, end: SessionEnd) {
        if self.end == SessionEnd::Gone {
            self.end = end;
        }
    }

    /// What the connection is owed. It is allocated at the first call after everything was written.
    pub fn traffic(&mut self) -> &mut Traffic {
        let first = self.requests;
        self.traffic.get_or_insert_with(|| Box::new(Traffic { first, ..Traffic::default() }))
    }

    /// Whether its next request may be read now.
    pub fn accepts(&self) -> bool {
        !self.closing && self.rest != Rest::Resting && self.traffic.as_ref().is_none_or(|traffic| traffic.accepts())
    }

    /// Counts a send, if the session may send now, at a rate of at most `most` messages a second. Otherwise returns the
    /// time until it may.
    pub fn send(&mut self, most: NonZeroU32, now: Monotonic) -> Result<(), Duration> {
        let sends = self.sends.with(1, most, now);
        if !sends.is_within(now) {
            return Err(sends.beyond(WINDOW, now));
        }
        self.sends = sends;
        Ok(())
    }

    /// Whether it is closed, or waits to be.
    pub fn is_leaving(&self) -> bool {
        self.ending || self.closing
    }

    /// Whether it ends already, or an operator has closed it and it only waits for its answers.
    pub fn is_closed_by_operator(&self) -> bool {
        self.is_leaving() || self.end == SessionEnd::Operator
    }

    /// The connection's subscription in this audience, or `None` if it has none.
    pub fn subscription(&self, key: AudienceKey) -> Option<Subscription> {
        self.subscriptions.iter().copied().find(|subscription| subscription.key == key)
    }

    /// Asserts what the connection's tables promise. `slot` is its place in the table of connections.
    pub fn invariants(&self, slot: u32, subscribers: &Subscribers) {
        assert!(self.subscriptions.len() <= SUBSCRIPTIONS_MAX, "subscriptions are bounded");
        for Subscription { key, index, .. } in &self.subscriptions {
            subscribers.assert_place(*key, *index, slot, self.parked);
        }
        let Some(traffic) = &self.traffic else { return };
        let bytes: usize = traffic.outbox.iter().map(Private::bytes_held).sum();
        assert_eq!(traffic.outbox_bytes, bytes, "outbox bytes");
        let pongs = traffic.outbox.iter().filter(|private| private.is_pong);
        assert_eq!(traffic.pong_bytes, pongs.map(Private::bytes_held).sum::<usize>(), "pong bytes");
        assert_eq!(traffic.tail_bytes, traffic.outbox.iter().map(Private::tail_bytes).sum::<usize>(), "tail bytes");
        assert!(traffic.pong_bytes < 2 * PONGS_BYTES_MAX, "pongs are bounded");
        let first = traffic.outbox.front().map_or(0, |private| private.bytes.len());
        assert!(traffic.written <= first, "no more of a frame is written than it has");
        assert!(traffic.slots.len() <= REQUESTS_IN_FLIGHT_MAX, "requests in flight are bounded");
        assert!(!self.closing || self.subscriptions.is_empty(), "a closing connection is in no channel");
    }

    /// Whether the socket was found full. A connection that only waits for the server's next turns is parked, too.
    pub fn is_slow(&self) -> bool {
        self.parked && !self.deferred
    }

    /// Frees what a connection at rest does not need.
    pub fn rest(&mut self) {
        if let Some(traffic) = self.traffic.take_if(|traffic| traffic.is_at_rest()) {
            self.requests = traffic.first;
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
            && self.accounted == 0
    }

    /// Reserves a place for a request's answer. Returns the request's number.
    pub fn ask(&mut self, cid: String) -> u32 {
        self.slots.push_back(Slot { cid, answer: None, request: None });
        self.first.wrapping_add(self.slots.len() as u32 - 1)
    }

    /// The last request is answered by a channel's owner.
    pub fn wait_for_owner(&mut self, request: OpenRequest) {
        if let Some(slot) = self.slots.back_mut() {
            slot.request = Some(request);
        }
    }

    /// Unanswered requests to owners, with their numbers.
    pub fn open_requests(&self) -> impl Iterator<Item = (u32, &OpenRequest)> {
        let unanswered = self.slots.iter().enumerate().filter(|(_, slot)| slot.answer.is_none());
        unanswered.filter_map(|(index, slot)| Some((self.first.wrapping_add(index as u32), slot.request.as_ref()?)))
    }

    /// How the request with this number wants to join; `None` if it is answered.
    pub fn join_terms(&self, number: u32) -> Option<JoinTerms> {
        self.cid(number)?;
        let mut open = self.open_requests().filter(|(open, _)| *open == number);
        open.next().map(|(_, request)| request.terms)
    }

    /// Whether a request of the connection still waits for its answer.
    pub fn is_unanswered(&self) -> bool {
        !self.slots.is_empty()
    }

    /// The `cid` under which an unanswered request wants its answer.
    pub fn cid(&self, number: u32) -> Option<&str> {
        let slot = self.slots.get(number.wrapping_sub(self.first) as usize)?;
        slot.answer.is_none().then_some(slot.cid.as_str())
    }

    /// Puts an answer in its place. Moves all answers with no unanswered request before them to the outbox.
    pub fn answer(&mut self, number: u32, answer: Private) {
        let Some(slot) = self.slots.get_mut(number.wrapping_sub(self.first) as usize) else { return };
        slot.answer = Some(answer);
        while let Some(answer) = self.slots.front_mut().and_then(|slot| slot.answer.take()) {
            self.slots.pop_front();
            self.first = self.first.wrapping_add(1);
            self.say(answer);
        }
    }

    /// The memory that frames hold which are not written yet.
    pub fn outbox_bytes(&self) -> usize {
        self.outbox_bytes
    }

    /// Puts a frame at the end of the outbox. An empty frame that follows nothing needs no write.
    pub fn say(&mut self, private: Private) {
        if private.bytes.is_empty() && private.after.is_none() {
            return;
        }
        self.outbox_bytes += private.bytes_held();
        self.pong_bytes += if private.is_pong { private.bytes_held() } else { 0 };
        self.tail_bytes += private.tail_bytes();
        self.outbox.push_back(private);
    }

    /// Puts a part of a log at the end of the outbox.
    pub fn say_tail(&mut self, pieces: Vec<TailPiece>) {
        pieces.into_iter().for_each(|piece| self.say(Private::of(FrameBytes::Tail(piece))));
    }

    /// The bytes of logs among what waits in the outbox.
    pub fn tail_bytes(&self) -> u64 {
        self.tail_bytes as u64
    }

    /// The memory that the outbox holds alone.
    pub fn held(&self) -> usize {
        self.outbox_bytes - self.tail_bytes
    }

    /// Forgets all that waits, also of a frame that is half written: nothing can be sent after it.
    pub fn abandon(&mut self) {
        (self.written, self.finishing, self.interrupted) = (0, false, None);
        self.forget_unsaid();
        self.forget_requests();
    }

    /// Answers a ping. If many pongs wait, the last of them is not sent: its ping is answered by this one.
    pub fn say_pong(&mut self, frame: Vec<u8>) {
        let begun = usize::from(self.written > 0 || self.finishing);
        let last = (begun..self.outbox.len()).rfind(|&index| self.outbox[index].is_pong);
        if self.pong_bytes >= PONGS_BYTES_MAX
            && let Some(superseded) = last.and_then(|index| self.outbox.remove(index))
        {
            self.let_go(&superseded);
        }
        self.say(Private::pong(frame));
    }

    /// The frame has left the outbox.
    fn let_go(&mut self, private: &Private) {
        self.outbox_bytes -= private.bytes_held();
        self.pong_bytes -= if private.is_pong { private.bytes_held() } else { 0 };
        self.tail_bytes -= private.tail_bytes();
    }

    /// Puts the rest of a half-written frame before all others of the outbox, none of which may be half written.
    pub fn say_first(&mut self, private: Private) {
        debug_assert!(self.written == 0 && !self.finishing);
        self.finishing = true;
        self.outbox_bytes += private.bytes_held();
        self.outbox.push_front(private);
    }

    /// Puts a frame that tells of a gap into the outbox: before all frames that are not begun, but after the frames
    /// that belong at the `border` where the gap begins, such as the answer to a join. If a gap of the same audience is
    /// not told yet, the two become one. `encode` makes the frame, given the message after which the gap begins.
    pub fn say_gap(
        &mut self,
        (key, border): (AudienceKey, Position),
        after: Option<MessageId>,
        encode: impl FnOnce(Option<MessageId>) -> Vec<u8>,
    ) {
        let begun = usize::from(self.written > 0 || self.finishing);
        let of_this = |private: &Private| private.gap.is_some_and(|(of, _)| of == key);
        let untold = (begun..self.outbox.len()).find(|&index| of_this(&self.outbox[index]));
        let merged = untold.and_then(|index| self.outbox.remove(index));
        self.outbox_bytes -= merged.as_ref().map_or(0, Private::bytes_held);
        let at = |index: usize| self.outbox[index].after.filter(|(of, _)| *of == key).map(|(_, place)| place);
        // Before a frame that belongs after the border, the writer sends the log up to that frame's place. So the gap
        // must come before such a frame.
        let beyond = (0..self.outbox.len()).find(|&index| at(index) > Some(border)).unwrap_or(self.outbox.len());
        let behind = (0..beyond).rfind(|&index| at(index) == Some(border)).map_or(begun, |index| index + 1);
        let place = untold.unwrap_or(behind.max(begun));
        let after = merged.and_then(|private| private.gap).map_or(after, |(_, after)| after);
        let gap = Private { gap: Some((key, after)), ..Private::of(encode(after)) };
        self.outbox_bytes += gap.bytes_held();
        self.outbox.insert(place, gap);
    }

    /// Removes the first frame of the outbox, which is written.
    pub fn said(&mut self) {
        if let Some(private) = self.outbox.pop_front() {
            self.let_go(&private);
        }
        self.written = 0;
        self.finishing = false;
    }

    /// Removes all frames of the outbox that are not begun.
    pub fn forget_unsaid(&mut self) {
        for private in self.outbox.split_off(usize::from(self.written > 0 || self.finishing)) {
            self.let_go(&private);
        }
    }

    /// Forgets all requests that are unanswered.
    pub fn forget_requests(&mut self) {
        self.slots.clear();
        self.held = None;
        self.farewell = None;
    }

    /// Ends the membership of an audience. Some frames in the outbox must follow the log up to a certain place: that
    /// part of the log is put before each of them. `tail` reads the log. `cursor` is where the member stands, between two
    /// frames, and this function moves it on.
    ///
    /// The caller then puts the rest of the log at the end of the outbox. So an answer that still waits for earlier
    /// answers comes after all of the log. The log must not wait for that answer, or the member would receive the
    /// channel's messages after frames that were sent later.
    pub fn detach(
        &mut self,
        key: AudienceKey,
        cursor: &mut Position,
        mut tail: impl FnMut(Position, Position) -> Vec<TailPiece>,
    ) {
        for mut private in std::mem::take(&mut self.outbox) {
            // A gap of this membership must not be merged with a gap of a later one.
            private.gap = private.gap.filter(|(of, _)| *of != key);
            if let Some((_, place)) = private.after.take_if(|(of, _)| *of == key)
                && place > *cursor
            {
                self.say_tail(tail(*cursor, place));
                *cursor = place;
            }
            self.outbox.push_back(private);
        }
        for waiting in self.slots.iter_mut().filter_map(|slot| slot.answer.as_mut()) {
            waiting.after.take_if(|(of, _)| *of == key);
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::fanout::frames::Format;
    use crate::fanout::log::{FrameLog, Run};
    use crate::fanout::tail::{TailBytes, Tails};
    use crate::id::{SessionId, UserId};
    use crate::parcel::Reached;
    use crate::session::admission::OnLag;

    const SECOND: i64 = 1_000_000_000;

    fn connection() -> Connection {
        let (user, session) = (UserId(Uuid::nil()), SessionId(Uuid::nil()));
        let session = Session {
            user,
            session,
            username: "alice".into(),
            format: Format::Json,
            on_lag: OnLag::Close,
            network: None,
        };
        Connection::of(0, session)
    }

    /// How many of `tries` sends at this time are allowed.
    fn sends(connection: &mut Connection, tries: usize, now: i64) -> usize {
        let most = NonZeroU32::new(4).unwrap();
        (0..tries).filter(|_| connection.send(most, Monotonic(now)).is_ok()).count()
    }

    #[test]
    fn a_session_has_one_second_s_sends_at_once_and_then_its_rate() {
        let mut connection = connection();
        let start = 1_700_000_000 * SECOND;
        for (now, tries, expected) in [
            (start, 10, 4),
            (start + SECOND / 8, 10, 0),
            (start + SECOND / 4, 10, 1),
            (start + SECOND, 10, 3),
            (start + 100 * SECOND, 10, 4),
        ] {
            assert_eq!(sends(&mut connection, tries, now), expected, "at {}", now - start);
        }
        let most = NonZeroU32::new(4).unwrap();
        let refused = connection.send(most, Monotonic(start + 100 * SECOND));
        assert_eq!(refused, Err(Duration::from_millis(250)), "a quarter of a second gives one back");
    }

    #[test]
    fn gaps_of_one_audience_that_were_not_told_become_one() {
        let mut subscribers = crate::fanout::subscribers::Subscribers::default();
        let mut audience = |room| {
            let channel = crate::id::ChannelId::room(room).unwrap();
            subscribers.subscribe(&channel, Format::Json, 0, Reached::default()).0
        };
        let (one, other) = (audience("one"), audience("other"));
        let id = |number| Some(MessageId(Uuid::from_u128(number)));
        let frame = |after: Option<MessageId>| after.map_or(b"none".to_vec(), |id| id.0.as_bytes().to_vec());
        let mut traffic = Traffic::default();
        traffic.say(Private::of(b"begun".to_vec()));
        traffic.written = 2;
        traffic.say(Private::of(b"ack".to_vec()));
        for (key, after) in [(one, 1), (other, 2), (one, 3), (one, 4)] {
            traffic.say_gap((key, Position(7)), id(after), frame);
        }
        let said: Vec<_> = traffic.outbox.iter().map(|private| private.bytes.to_vec()).collect();
        assert_eq!(said, [b"begun".to_vec(), frame(id(2)), frame(id(1)), b"ack".to_vec()]);
        assert_eq!(traffic.outbox_bytes, traffic.outbox.iter().map(Private::bytes_held).sum::<usize>());
        // A gap frame that is half written is finished first, and the new gap gets a frame of its own.
        traffic.said();
        traffic.written = 1;
        traffic.say_gap((other, Position(7)), id(5), frame);
        let said: Vec<_> = traffic.outbox.iter().map(|private| private.bytes.to_vec()).collect();
        assert_eq!(said, [frame(id(2)), frame(id(5)), frame(id(1)), b"ack".to_vec()]);
    }

    #[test]
    fn of_many_pongs_that_wait_only_the_newest_is_sent() {
        let mut traffic = Traffic::default();
        traffic.say(Private::of(b"begun".to_vec()));
        traffic.written = 1;
        let pings = 10_000_u32;
        for ping in 0..pings {
            traffic.say_pong(ping.to_be_bytes().to_vec());
        }
        traffic.say(Private::of(b"answer".to_vec()));
        assert!(traffic.outbox_bytes < 2 * PONGS_BYTES_MAX, "{} bytes are held", traffic.outbox_bytes);
        let pongs: Vec<_> = traffic.outbox.iter().filter(|private| private.is_pong).collect();
        assert_eq!(pongs[0].bytes.to_vec(), 0_u32.to_be_bytes(), "as long as few wait, each is answered");
        assert_eq!(pongs[pongs.len() - 1].bytes.to_vec(), (pings - 1).to_be_bytes());
        while !traffic.outbox.is_empty() {
            traffic.said();
        }
        assert_eq!((traffic.outbox_bytes, traffic.pong_bytes), (0, 0));
    }

    #[test]
    fn a_gap_follows_the_rest_of_a_frame_and_the_answer_to_its_join() {
        let mut subscribers = crate::fanout::subscribers::Subscribers::default();
        let room = crate::id::ChannelId::room("one").unwrap();
        let key = subscribers.subscribe(&room, Format::Json, 0, Reached::default()).0;
        let mut traffic = Traffic::default();
        traffic.say(Private { after: Some((key, Position(7))), ..Private::of(b"joined".to_vec()) });
        traffic.say(Private { after: Some((key, Position(9))), ..Private::of(b"ack".to_vec()) });
        traffic.say_first(Private::of(b"rest".to_vec()));
        traffic.say_gap((key, Position(8)), None, |_| b"early".to_vec());
        assert_eq!(traffic.outbox[1].bytes.to_vec(), b"early");
        traffic.outbox.remove(1);
        traffic.say_gap((key, Position(7)), None, |_| b"gap".to_vec());
        let said: Vec<_> = traffic.outbox.iter().map(|private| private.bytes.to_vec()).collect();
        assert_eq!(said, [b"rest".as_slice(), b"joined", b"gap", b"ack"]);
    }

    #[test]
    fn what_a_channel_said_does_not_wait_for_answers_when_the_membership_ends() {
        let mut subscribers = crate::fanout::subscribers::Subscribers::default();
        let room = crate::id::ChannelId::room("one").unwrap();
        let key = subscribers.subscribe(&room, Format::Json, 0, Reached::default()).0;
        let behind =
            |place, bytes: &[u8]| Private { after: Some((key, Position(place))), ..Private::of(bytes.to_vec()) };
        let mut traffic = Traffic::default();
        let (first, second) = (traffic.ask("1".into()), traffic.ask("2".into()));
        traffic.say(behind(3, b"said"));
        // This answer waits for the answer to the first request, which comes from another channel.
        traffic.answer(second, behind(5, b"second"));
        let mut log = FrameLog::default();
        log.append(&Run { bytes: b"abcdefgh".to_vec(), marks: Vec::new() });
        let (mut tails, all) = (Tails::default(), TailBytes::default());
        let mut tail = |from, to| tails.take(&log, from, to, &all);
        let mut cursor = Position(1);
        traffic.detach(key, &mut cursor, &mut tail);
        assert_eq!(cursor, Position(3));
        traffic.say_tail(tail(cursor, log.end()));
        assert_eq!((traffic.tail_bytes(), all.held()), (7, 7));
        traffic.answer(first, Private::of(b"first".to_vec()));
        let said: Vec<_> = traffic.outbox.iter().map(|private| private.bytes.to_vec()).collect();
        assert_eq!(said, [b"bc".as_slice(), b"said", b"defgh", b"first", b"second"]);
        assert!(traffic.outbox.iter().all(|private| private.after.is_none()));
    }
}
