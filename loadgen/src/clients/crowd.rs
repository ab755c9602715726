//! What the users of one thread in one room share, and where every frame that they receive is checked.
//!
//! A frame is checked in one of two ways. The first member of the crowd to receive it checks it completely: one pass
//! over the frame, one over the content, one checksum, two table look-ups. A frame found right is kept in the crowd's
//! `Record`. When the next member receives the same bytes at the same place of the room's order, the bytes are only
//! compared. A frame that differs in a byte or comes at another place is checked completely. Neither way allocates
//! memory for a delivery.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::rc::Rc;

use tokio_tungstenite::tungstenite::Message;

use crate::base::clock;
use crate::base::content::{self, Content, ContentFault, ScheduleSlot};
use crate::checks::acceptances::MessageId;
use crate::checks::check::{Answers, Checker, DeliveryResult, Observation, fingerprint};
use crate::checks::figures::Figures;
use crate::checks::page_check;
use crate::checks::reach::Reach;
use crate::checks::record::{Entry, Record, Said};
use crate::checks::stays::{End, MessageOutcomes, Stay};
use crate::clients::client_error::ClientError;
use crate::clients::ledger::{Book, Ledger};
use crate::clients::publisher::{Publisher, Wording};
use crate::clients::socket::Lost;
use crate::costs::closes::{RESTART, TRY_LATER};
use crate::costs::gauges::Gauges;
use crate::orders::PublishAnswers;
use crate::plan::actions::{Action, Actions};
use crate::plan::lives::ReadingMode;
use crate::plan::run_plan::RoomPlan;
use crate::wire::history_page::Item;
use crate::wire::{Dialect, Entrance, Frame, Heard, Kind, Request};

/// One user's slot in the crowd.
struct MemberSlot {
    user: u32,
    reading_mode: ReadingMode,
    /// The user's stays, one after the other; the last may still be open. In a run where no member comes and goes,
    /// there is one stay from the beginning.
    stays: Vec<Stay>,
    leave_sent_ns: u64,
    /// Presences received: those listed in the answer to the join, and those announced since.
    presences: u64,
    /// The place in the record of the last message that the user received in order, if the record has it.
    place: u32,
}

impl MemberSlot {
    fn stay(&mut self) -> Option<&mut Stay> {
        self.stays.last_mut().filter(|stay| stay.end == End::Open)
    }
}

/// One delivery.
#[derive(Clone, Copy)]
struct Arrival {
    slot: ScheduleSlot,
    intended_ns: u64,
    arrived_ns: u64,
    /// Whether the result so far holds for every member that receives the same bytes.
    same_for_all: bool,
}

/// The answer to a join or a leave.
pub enum RoomAnswer {
    /// With the channel's id, where the room has one.
    Joined {
        channel_id: Option<String>,
    },
    Refused {
        code: i32,
        reason: String,
    },
    Left,
}

/// Why a connection ended that its user had not ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parting {
    /// The server found the reader too slow, and gave notice where the reader could still hear it.
    TooSlow,
    /// The server drains, as the run expects.
    Drained,
    /// For no good reason.
    Lost,
}

/// A message that is due now.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    pub number: u32,
    pub intended_ns: u64,
}

pub struct Crowd {
    /// The room's number in the plan.
    room: usize,
    actions: Actions,
    ledger: Rc<Ledger>,
    state: RefCell<State>,
}

struct State {
    member_slots: Vec<MemberSlot>,
    checker: Checker,
    /// The publishers of this crowd, by number in the room.
    publishers: HashMap<u32, Publisher>,
    /// The messages that will be removed, by id, and their slots.
    removable: HashMap<MessageId, ScheduleSlot>,
    reach: Reach,
    record: Record,
    /// The message in the current frame when the record does not have it yet: the first to be received at its place in
    /// the order.
    to_keep: Option<Said>,
}

impl Crowd {
    pub fn new(ledger: Rc<Ledger>, room: usize, users: &[u32]) -> Self {
        let plan = &ledger.plan.rooms[room];
        let conduct = ledger.plan.conduct.as_ref();
        let member_slot = |user: &u32| MemberSlot {
            user: *user,
            reading_mode: conduct
                .map_or(ReadingMode::Prompt, |conduct| plan.reading_mode(conduct, ledger.plan.seed, *user)),
            // Members that come and go get their first stay when they join.
            stays: Vec::from_iter(conduct.is_none().then(|| Stay::new(0, &plan.schedule))),
            leave_sent_ns: 0,
            presences: 0,
            place: 0,
        };
        let publishers = users.iter().filter_map(|user| plan.publisher(*user));
        let publisher = |publisher| (publisher, Publisher::new(plan.schedule.planned(publisher)));
        let state = State {
            member_slots: users.iter().map(member_slot).collect(),
            checker: Checker::new(plan.schedule.clone(), ledger.plan.order),
            publishers: publishers.map(publisher).collect(),
            removable: HashMap::new(),
            reach: Reach::new(&plan.schedule, ledger.plan.messages()),
            record: Record::new(users.len()),
            to_keep: None,
        };
        Self { room, actions: Actions::new(plan.actions), ledger, state: RefCell::new(state) }
    }

    pub fn plan(&self) -> &RoomPlan {
        &self.ledger.plan.rooms[self.room]
    }

    pub fn entrance(&self) -> &Entrance {
        &self.plan().entrance
    }

    pub fn dialect(&self) -> &Dialect {
        &self.ledger.plan.target.dialect
    }

    fn gauges(&self) -> &Gauges {
        self.ledger.gauges()
    }

    fn book(&self) -> RefMut<'_, Book> {
        self.ledger.book()
    }

    /// Checks one frame that a user received. An answer to a join or a leave is returned for the caller to handle.
    pub fn hear(&self, member_slot: usize, frame: &Frame) -> Option<RoomAnswer> {
        let arrived_ns = clock::now_ns();
        self.ledger.recorder.turn(arrived_ns);
        let state = &mut *self.state.borrow_mut();
        let mut answer = None;
        let (mut things, mut messages) = (0, 0);
        state.to_keep = None;
        let read = self.dialect().read(frame, &mut self.ledger.scratch.borrow_mut(), |heard| {
            things += 1;
            messages += u64::from(matches!(heard, Heard::Message { .. }));
            answer = self.judge(state, member_slot, heard, arrived_ns).or(answer.take());
        });
        self.book().weigh(frame, messages, arrived_ns);
        if read.is_err() {
            self.corrupt(state, member_slot, "an unreadable frame", &frame.shown());
        } else if things == 1
            && let Some(said) = state.to_keep
            && let Some(place) = state.record.keep(frame, said)
        {
            state.member_slots[member_slot].place = place;
        }
        answer
    }

    /// Compares what a user reads with what other members of the crowd received. Returns how many bytes at the
    /// beginning are messages that are right for this user too; these are recorded as received. The rest must be
    /// checked completely.
    pub fn recognise(&self, member_slot: usize, bytes: &[u8]) -> usize {
        let State { member_slots, checker, record, reach, .. } = &mut *self.state.borrow_mut();
        let MemberSlot { reading_mode, stays, place, .. } = &mut member_slots[member_slot];
        let Some(stay) = stays.last_mut().filter(|stay| stay.end == End::Open) else { return 0 };
        let is_behind = record.at(*place).is_some_and(|said| checker.is_right_behind(&stay.member, said.index));
        if !is_behind {
            return 0;
        }
        let entries = record.recognise(*place, bytes);
        let entries = &entries[..checker.follow(&mut stay.member, entries)];
        let Some(first) = entries.first() else { return 0 };
        let arrived_ns = clock::now_ns();
        self.ledger.recorder.turn(arrived_ns);
        stay.heard(first.said.index);
        *place += entries.len() as u32;
        let prompt = *reading_mode == ReadingMode::Prompt;
        if prompt {
            for Said { index, intended_ns, .. } in entries.iter().map(|entry| entry.said) {
                reach.note(index, arrived_ns.saturating_sub(intended_ns));
            }
        }
        let heard_bytes = entries.iter().map(Entry::wire_bytes).sum();
        assert!(heard_bytes <= bytes.len() as u64, "{heard_bytes} bytes are recognised of {}", bytes.len());
        self.ledger.delivered(arrived_ns, entries.iter().map(|entry| entry.said.intended_ns), prompt);
        self.book().weigh_recognised(entries, heard_bytes, arrived_ns);
        heard_bytes as usize
    }

    fn judge(&self, state: &mut State, member_slot: usize, heard: Heard<'_>, arrived_ns: u64) -> Option<RoomAnswer> {
        match heard {
            Heard::Message { id, kind: kind @ (Kind::New | Kind::Update), content } => {
                self.hear_content(state, member_slot, kind, id, content, arrived_ns);
            }
            Heard::Message { id, kind: Kind::Removal, .. } => self.hear_removal(state, member_slot, id, arrived_ns),
            Heard::Message { kind: Kind::Event, .. } => self.book().figures.foreign += 1,
            Heard::Presences { joins, leaves, .. } => self.hear_presences(state, member_slot, joins, leaves),
            Heard::Accepted { request, id } => self.hear_answer(state, member_slot, request, Some(id), arrived_ns),
            Heard::Joined { request: Some(Request::Join), channel_id, presences, .. } => {
                state.member_slots[member_slot].presences += presences;
                self.begin_stay(state, member_slot, arrived_ns);
                return Some(RoomAnswer::Joined { channel_id: channel_id.map(str::to_owned) });
            }
            Heard::Done { request: Some(Request::Leave) } => {
                let sent_ns = state.member_slots[member_slot].leave_sent_ns;
                self.end_stay(state, member_slot, End::Left { sent_ns });
                return Some(RoomAnswer::Left);
            }
            Heard::Refused { request: Some(Request::Join | Request::Leave), code, reason, .. } => {
                return Some(RoomAnswer::Refused { code, reason: reason.to_owned() });
            }
            Heard::Refused { request, code, reason, retry_after } => {
                let user = state.member_slots[member_slot].user;
                self.book().figures.refused_too_fast += u64::from(retry_after.is_some());
                self.book().figures.samples.put(|| format!("user {user} was refused: code {code}, {reason}"));
                self.hear_answer(state, member_slot, request, None, arrived_ns);
            }
            Heard::Gap { after, before } => self.hear_gap(state, member_slot, after, before, arrived_ns),
            Heard::Joined { .. } | Heard::Done { .. } | Heard::Other => {}
        }
        None
    }

    /// A new message, or an update of one: both have a content.
    fn hear_content(&self, state: &mut State, member_slot: usize, kind: Kind, id: &str, text: &str, arrived_ns: u64) {
        let content = match content::read(text, self.ledger.plan.run) {
            Ok(content) => content,
            Err(ContentFault::Foreign) => {
                self.book().figures.foreign += 1;
                return;
            }
            Err(ContentFault::Corrupt) => return self.corrupt(state, member_slot, "a corrupt content", text),
        };
        let Some(slot) = self.slot(content.slot) else {
            return self.corrupt(state, member_slot, "a message of another room", text);
        };
        let target_is_known = match kind {
            Kind::Update => match self.updates_its_target(state, slot, id) {
                Some(false) => {
                    return self.corrupt(state, member_slot, "an update of another message than its own", text);
                }
                known => known.is_some(),
            },
            _ => true,
        };
        if kind == Kind::New && self.actions.removal_of(slot.number).is_some() {
            state.removable.insert(MessageId::read(id), slot);
        }
        self.observe(
            state,
            member_slot,
            Arrival { slot, intended_ns: content.intended_ns, arrived_ns, same_for_all: target_is_known },
            fingerprint(kind, id),
            text,
        );
    }

    /// Whether an update changes the message that it must change; `None` when no member of the crowd received that
    /// message.
    fn updates_its_target(&self, state: &State, slot: ScheduleSlot, id: &str) -> Option<bool> {
        let Action::Update { target } = self.actions.of(slot.number) else { return Some(false) };
        let index = self.plan().schedule.index(ScheduleSlot { number: target, ..slot })?;
        // The crowd cannot know when none of its members was present when the message was sent.
        let known = state.checker.fingerprint(index)?;
        Some(known == fingerprint(Kind::New, id))
    }

    /// The removal of a message: it carries only the id.
    fn hear_removal(&self, state: &mut State, member_slot: usize, id: &str, arrived_ns: u64) {
        let message = MessageId::read(id);
        let removal = state.removable.get(&message).copied().and_then(|target| {
            let slot = ScheduleSlot { number: self.actions.removal_of(target.number)?, ..target };
            Some((slot, self.plan().schedule.index(slot)?))
        });
        if let Some((slot, index)) = removal {
            let intended_ns = self.book().start_ns + self.plan().schedule.due_ns(index);
            let arrival = Arrival { slot, intended_ns, arrived_ns, same_for_all: true };
            return self.observe(state, member_slot, arrival, fingerprint(Kind::Removal, id), id);
        }
        let noted = state.member_slots[member_slot].stay().is_some_and(|stay| stay.unknown_removal(message));
        if !noted {
            self.corrupt(state, member_slot, "more removals than there are messages", id);
        }
    }

    fn observe(&self, state: &mut State, member_slot: usize, arrival: Arrival, fingerprint: u64, text: &str) {
        let prompt = state.member_slots[member_slot].reading_mode == ReadingMode::Prompt;
        let Some(stay) = state.member_slots[member_slot].stay() else {
            self.book().figures.lives.outside += 1;
            return self.fault(state, member_slot, "a message that came when it was not in the room", text);
        };
        let Observation { result, first } = state.checker.observe(&mut stay.member, arrival.slot, fingerprint);
        if let Some(index) = self.plan().schedule.index(arrival.slot) {
            stay.heard(index);
            if result == DeliveryResult::InOrder {
                let Arrival { slot, intended_ns, same_for_all, .. } = arrival;
                state.to_keep = (first && same_for_all).then_some(Said { index, slot, intended_ns });
                state.member_slots[member_slot].place = state.record.place(index).unwrap_or(u32::MAX);
            }
            if prompt
                && matches!(result, DeliveryResult::InOrder | DeliveryResult::OutOfOrder | DeliveryResult::OtherId)
            {
                state.reach.note(index, arrival.arrived_ns.saturating_sub(arrival.intended_ns));
            }
        }
        match result {
            DeliveryResult::InOrder => self.delivered(arrival, prompt),
            DeliveryResult::OutOfOrder => {
                self.book().figures.out_of_order += 1;
                self.fault(state, member_slot, "a message out of order", text);
                self.delivered(arrival, prompt);
            }
            DeliveryResult::OtherId => {
                self.corrupt(state, member_slot, "a message under another id than others saw", text);
                self.delivered(arrival, prompt);
            }
            DeliveryResult::Duplicate => {
                self.book().figures.duplicates += 1;
                self.fault(state, member_slot, "a message twice", text);
            }
            DeliveryResult::Unscheduled => self.corrupt(state, member_slot, "a message that was not scheduled", text),
        }
    }

    fn hear_gap(
        &self,
        state: &mut State,
        member_slot: usize,
        after: Option<&str>,
        before: Option<&str>,
        arrived_ns: u64,
    ) {
        let shown = format!("after {after:?}, before {before:?}");
        let asked = state.member_slots[member_slot].reading_mode == ReadingMode::Slow { skips: true };
        let Some(stay) = state.member_slots[member_slot].stay().filter(|_| asked) else {
            return self.corrupt(state, member_slot, "a gap that it had not asked for", &shown);
        };
        let noted = stay.gap(after.map(MessageId::read), before.map(MessageId::read), arrived_ns);
        state.checker.let_go(&mut stay.member);
        self.book().figures.lives.gaps += 1;
        if !noted {
            self.corrupt(state, member_slot, "more gaps than a member can be behind", &shown);
        }
    }

    /// Records that a user is in the room of a server that does not confirm it.
    pub fn joined(&self, member_slot: usize) {
        self.begin_stay(&mut self.state.borrow_mut(), member_slot, clock::now_ns());
    }

    fn begin_stay(&self, state: &mut State, member_slot: usize, joined_ns: u64) {
        // A plain server may say its welcome again, and a member that is in the room does not enter it.
        if self.ledger.plan.conduct.is_none() || state.member_slots[member_slot].stay().is_some() {
            return;
        }
        self.book().figures.lives.stays += 1;
        let stay = Stay::new(joined_ns, &self.plan().schedule);
        state.member_slots[member_slot].stays.push(stay);
    }

    fn end_stay(&self, state: &mut State, member_slot: usize, end: End) {
        let Some(stay) = state.member_slots[member_slot].stay() else { return };
        stay.end = end;
        state.checker.let_go(&mut stay.member);
        let lives = &mut self.book().figures.lives;
        match end {
            End::Left { .. } => lives.left += 1,
            End::Dropped => lives.dropped += 1,
            End::Closed { .. } => lives.closed += 1,
            End::Open | End::Drained { .. } | End::Lost { .. } => {}
        }
        self.gauges().left.bump();
    }

    /// Records that a leave is about to be sent.
    pub fn leaving(&self, member_slot: usize) {
        self.state.borrow_mut().member_slots[member_slot].leave_sent_ns = clock::now_ns();
    }

    /// Records that the user dropped the connection.
    pub fn dropped(&self, member_slot: usize) {
        self.end_stay(&mut self.state.borrow_mut(), member_slot, End::Dropped);
    }

    pub fn reading_mode(&self, member_slot: usize) -> ReadingMode {
        self.state.borrow().member_slots[member_slot].reading_mode
    }

    /// A content's slot in the room's schedule: contents name a publisher by its user number.
    fn slot(&self, named: ScheduleSlot) -> Option<ScheduleSlot> {
        let publisher = named.publisher.checked_sub(self.plan().users.start)?;
        (publisher < self.plan().members()).then_some(ScheduleSlot { publisher, ..named })
    }

    fn delivered(&self, Arrival { intended_ns, arrived_ns, .. }: Arrival, prompt: bool) {
        self.ledger.delivered(arrived_ns, std::iter::once(intended_ns), prompt);
    }

    fn hear_presences(&self, state: &mut State, member_slot: usize, joins: u64, leaves: u64) {
        self.gauges().presence_frames.bump();
        state.member_slots[member_slot].presences += joins;
        let presence = &mut self.book().figures.presence;
        presence.frames += 1;
        presence.joins += joins;
        presence.leaves += leaves;
    }

    /// Records the answer to a publish: the id under which the server accepted it, or `None` when it was refused.
    fn hear_answer(
        &self,
        state: &mut State,
        member_slot: usize,
        request: Option<Request>,
        id: Option<&str>,
        arrived_ns: u64,
    ) {
        let number = if let Some(Request::Publish(number)) = request { Some(number) } else { None };
        let awaited =
            self.plan().publisher(state.member_slots[member_slot].user).zip(number).filter(|(publisher, number)| {
                let publisher = state.publishers.get_mut(publisher);
                publisher.is_some_and(|publisher| match id {
                    Some(id) => publisher.accepted(&self.actions, *number, id, arrived_ns),
                    None => publisher.refused(*number),
                })
            });
        let Some((publisher, number)) = awaited else {
            self.book().figures.stray_answers += 1;
            return self.fault(state, member_slot, "an answer to nothing", &format!("{request:?}"));
        };
        if id.is_none() {
            return self.gauges().refused.bump();
        }
        self.gauges().accepted.bump();
        if let Some(intended_ns) = self.measured_ns(ScheduleSlot { publisher, number }) {
            self.book().figures.ack.record_ns(arrived_ns.saturating_sub(intended_ns));
        }
    }

    /// The intended time of a message whose latency is measured.
    fn measured_ns(&self, slot: ScheduleSlot) -> Option<u64> {
        let schedule = &self.plan().schedule;
        let index = schedule.index(slot)?;
        schedule.is_measured(index).then(|| self.book().start_ns + schedule.due_ns(index))
    }

    /// The frame that a publisher, named by its user number, sends at this time.
    pub fn write_publish(&self, user: u32, channel_id: &str, due: Due) -> Message {
        let publisher = self.plan().publisher(user);
        let mut state = self.state.borrow_mut();
        let publisher = publisher.and_then(|publisher| state.publishers.get_mut(&publisher));
        let wording = publisher.map_or(Wording::Say, |publisher| publisher.word(&self.actions, due.number));
        let text = &mut self.book().content;
        self.write_content(text, user, due);
        let action = match wording {
            Wording::Say => None,
            Wording::Update { message_id } => self.dialect().update(due.number, channel_id, &message_id, text),
            Wording::Remove { message_id } => self.dialect().remove(due.number, channel_id, &message_id),
        };
        action.unwrap_or_else(|| self.dialect().send(user, due.number, channel_id, text))
    }

    fn write_content(&self, text: &mut String, user: u32, due: Due) {
        let content =
            Content { slot: ScheduleSlot { publisher: user, number: due.number }, intended_ns: due.intended_ns };
        text.clear();
        content::write(text, self.ledger.plan.run, content, self.plan().payload_bytes);
    }

    /// Records that a message is about to be given to the socket. The time since its intended time is the generator's
    /// own lateness.
    pub fn sending(&self, user: u32, due: Due) {
        let Some(publisher) = self.plan().publisher(user) else { return };
        let now_ns = clock::now_ns();
        let lateness_ns = now_ns.saturating_sub(due.intended_ns);
        self.ledger.recorder.turn(now_ns);
        self.ledger.recorder.sent_late_by(lateness_ns);
        let state = &mut *self.state.borrow_mut();
        if self.measured_ns(ScheduleSlot { publisher, number: due.number }).is_some() {
            self.book().figures.lateness.record_ns(lateness_ns);
        }
        if let Some(publisher) = state.publishers.get_mut(&publisher) {
            publisher.sending(due.number);
        }
        self.gauges().sent.bump();
    }

    /// Records that a message was completely given to the socket. A server without answers is taken to have accepted
    /// it. Its id is then its content, as the other members name it so too.
    pub fn sent(&self, user: u32, due: Due) {
        if self.dialect().has_answers() {
            return;
        }
        let text = &mut self.book().content;
        self.write_content(text, user, due);
        let mut state = self.state.borrow_mut();
        let publisher = self.plan().publisher(user).and_then(|publisher| state.publishers.get_mut(&publisher));
        if publisher.is_some_and(|publisher| publisher.accepted(&self.actions, due.number, text, clock::now_ns())) {
            self.gauges().accepted.bump();
        }
    }

    /// The newest message that any member of the crowd received.
    pub fn newest(&self) -> Option<u32> {
        self.state.borrow().checker.newest()
    }

    /// Records that a page of the history is about to be requested. The time since the read's intended time is the
    /// generator's own lateness.
    pub fn reading_page(&self, intended_ns: u64) {
        let now_ns = clock::now_ns();
        self.ledger.recorder.turn(now_ns);
        let book = &mut *self.book();
        if book.window.contains(&intended_ns) {
            book.figures.history_lateness.record_ns(now_ns.saturating_sub(intended_ns));
        }
    }

    /// Checks the newest page of the history; `known` was the newest message received when the page was requested.
    pub fn read_page(&self, items: &[Item], limit: u32, known: Option<u32>, intended_ns: u64) {
        let now_ns = clock::now_ns();
        let state = &*self.state.borrow();
        let judged = page_check::judge(
            items,
            page_check::Room {
                run: self.ledger.plan.run,
                plan: self.plan(),
                actions: &self.actions,
                checker: &state.checker,
            },
            limit,
            known,
        );
        let measured = self.book().window.contains(&intended_ns);
        let lives = &mut self.book().figures;
        lives.history_reads += 1;
        if measured {
            lives.history.record_ns(now_ns.saturating_sub(intended_ns));
        }
        if let Err(what) = judged {
            lives.history_faults += 1;
            self.gauges().faults.bump();
            lives.samples.put(|| format!("a page of history: {what}"));
        }
    }

    pub fn read_failed(&self, what: &str) {
        let figures = &mut self.book().figures;
        figures.history_failures += 1;
        // A server that drains answers no reads.
        if self.ledger.plan.drain_secs().is_some() {
            return;
        }
        figures.samples.put(|| format!("a page of history could not be read: {what}"));
    }

    /// Counts a read that was due while too many were under way.
    pub fn read_left_out(&self) {
        self.book().figures.history_left_out += 1;
    }

    /// Records that a user's connection ended although the user had not ended it. Returns why.
    pub fn lost(&self, member_slot: usize, lost: &Lost) -> Parting {
        let state = &mut *self.state.borrow_mut();
        let heard_ns = clock::now_ns();
        self.ledger.recorder.closed(lost.code(), heard_ns);
        let MemberSlot { user, reading_mode, .. } = state.member_slots[member_slot];
        let expects_drain = self.ledger.plan.drain_secs().is_some();
        if expects_drain && lost.code() == RESTART {
            self.drained(state, member_slot, heard_ns);
            return Parting::Drained;
        }
        if self.ledger.plan.conduct.is_some() {
            let with_notice = matches!(lost, Lost::Closed { code: TRY_LATER, .. });
            // A reader that reads almost nothing never gets to read the notice.
            let may_be_closed = match reading_mode {
                ReadingMode::Prompt => false,
                ReadingMode::Slow { skips } => !skips || expects_drain,
            };
            let cut_off = may_be_closed && !matches!(lost, Lost::Closed { .. });
            if with_notice || cut_off {
                self.book().figures.lives.cut_off += u64::from(cut_off);
                self.end_stay(state, member_slot, End::Closed { heard_ns });
                return Parting::TooSlow;
            }
            self.end_stay(state, member_slot, End::Lost { heard_ns });
        }
        self.book().figures.disconnected += 1;
        self.gauges().disconnected.bump();
        self.book().figures.samples.put(|| format!("user {user} was disconnected: {lost}"));
        Parting::Lost
    }

    fn drained(&self, state: &mut State, member_slot: usize, heard_ns: u64) {
        self.end_stay(state, member_slot, End::Drained { heard_ns });
        let publisher = self.plan().publisher(state.member_slots[member_slot].user);
        let publisher = publisher.and_then(|publisher| state.publishers.get_mut(&publisher));
        let cut_off = publisher.map_or(0, Publisher::cut_off);
        let lives = &mut self.book().figures.lives;
        lives.drained += 1;
        lives.cut_off_publishes += cut_off;
    }

    /// Records that a user wants to be let in again after a drain.
    pub fn seeks(&self) {
        self.book().figures.lives.sought += 1;
    }

    /// Records that it was let in.
    pub fn returned(&self) {
        self.gauges().joined.bump();
        self.book().figures.lives.returned += 1;
    }

    /// Records that a message is not sent, because its publisher, named by its user number, is away.
    pub fn withhold(&self, user: u32, due: Due) {
        let publisher = self.plan().publisher(user);
        let state = &mut *self.state.borrow_mut();
        if let Some(publisher) = publisher.and_then(|publisher| state.publishers.get_mut(&publisher)) {
            publisher.withhold(due.number);
            self.book().figures.lives.withheld += 1;
        }
    }

    /// Records that a user could not connect or join again.
    pub fn failed(&self, member_slot: usize, error: &ClientError) {
        let state = &mut *self.state.borrow_mut();
        let heard_ns = clock::now_ns();
        self.end_stay(state, member_slot, End::Lost { heard_ns });
        self.book().figures.lives.failed += 1;
        self.gauges().faults.bump();
        let user = state.member_slots[member_slot].user;
        self.book().figures.samples.put(|| format!("user {user}: {error}"));
    }

    fn corrupt(&self, state: &mut State, member_slot: usize, what: &str, text: &str) {
        self.book().figures.corrupt += 1;
        self.fault(state, member_slot, what, text);
    }

    fn fault(&self, state: &mut State, member_slot: usize, what: &str, text: &str) {
        self.gauges().faults.bump();
        let user = state.member_slots[member_slot].user;
        self.book()
            .figures
            .samples
            .put(|| format!("user {user} heard {what}: {}", text.chars().take(200).collect::<String>()));
    }

    /// The outcome of every publish of this crowd.
    pub fn answers(&self) -> PublishAnswers {
        let mut found = PublishAnswers::default();
        let times = self.ledger.plan.conduct.is_some();
        for (number, publisher) in &self.state.borrow().publishers {
            publisher.account(*number, &self.plan().schedule, &self.actions, times, &mut found);
        }
        found
    }

    /// Adds the results of all users of this crowd, now that all publishers' answers are known.
    pub fn settle(&self, answers: &Answers, clock_margin_ns: u64, figures: &mut Figures) {
        let state = self.state.borrow();
        figures.members += state.member_slots.len() as u64;
        let come_and_go = self.ledger.plan.conduct.is_some();
        let start_ns = self.book().start_ns;
        let schedule = &self.plan().schedule;
        let outcomes =
            come_and_go.then(|| MessageOutcomes::new(start_ns, clock_margin_ns, schedule, &answers.acceptances));
        for member_slot in &state.member_slots {
            for stay in &member_slot.stays {
                let tally = match &outcomes {
                    Some(outcomes) => {
                        figures.foreign += stay.foreign_removals(outcomes);
                        stay.tally(&state.checker, answers, outcomes)
                    }
                    None => state.checker.tally(&stay.member, answers),
                };
                figures.tally.add(tally);
            }
            let should_know_all = !self.entrance().hidden && !come_and_go;
            let incomplete = should_know_all && member_slot.presences < u64::from(self.plan().members());
            figures.presence.incomplete_members += u64::from(incomplete);
        }
        figures.reach.entry(self.room as u32).or_default().add(&state.reach);
        figures.sightings.push((self.room as u32, state.checker.sightings(state.member_slots.len() as u32)));
    }

    /// The crowd's room number in the plan.
    pub fn room(&self) -> u32 {
        self.room as u32
    }
}

#[cfg(test)]
mod tests;
