//! What the users of one thread in one room share, and where every frame that they hear is judged.
//!
//! A thread has one single-threaded runtime, so nothing here is locked or shared with another thread except the running
//! totals, which others only read. Per delivery: one JSON pass over the frame, one over the content, one checksum, one
//! clock reading, two table look-ups and a histogram; no allocation.

use std::cell::{RefCell, RefMut};
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio_tungstenite::tungstenite::Message;

use crate::check::{Answers, Checker, Finding, Member};
use crate::client::{Due, Lost};
use crate::clock;
use crate::content::{self, Content, ContentFault};
use crate::figures::Figures;
use crate::orders::{Identities, Progress, PublishAnswers};
use crate::plan::{Plan, RoomPlan};
use crate::recorder::{Closed, Recorder};
use crate::schedule::Slot;
use crate::wire::{Dialect, Entrance, Frame, Heard, Kind, Request, Scratch};

/// Running totals of one thread: only that thread writes them, whoever reports progress reads them.
#[derive(Default)]
pub struct Gauges {
    pub signed_in: Gauge,
    pub joined: Gauge,
    sent: Gauge,
    accepted: Gauge,
    refused: Gauge,
    delivered: Gauge,
    faults: Gauge,
    disconnected: Gauge,
    presence_frames: Gauge,
    /// The seconds this thread has closed.
    pub closed: Closed,
}

/// A counter with one writer: a load and a store, not a locked addition.
#[derive(Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    pub fn bump(&self) {
        self.0.store(self.read() + 1, Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Gauges {
    pub fn progress(&self) -> Progress {
        Progress {
            signed_in: self.signed_in.read(),
            joined: self.joined.read(),
            sent: self.sent.read(),
            accepted: self.accepted.read(),
            refused: self.refused.read(),
            delivered: self.delivered.read(),
            faults: self.faults.read(),
            disconnected: self.disconnected.read(),
            presence_frames: self.presence_frames.read(),
        }
    }
}

/// What became of one publish.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Unsent,
    Awaited,
    Accepted { fingerprint: u64 },
    Refused,
}

/// One user's place in the crowd.
struct Seat {
    user: u32,
    member: Member,
    /// Presences heard of: those listed on joining, and those announced since.
    presences: u64,
}

/// What all crowds of a thread write into: its figures, and buffers that are kept from message to message.
pub struct Ledger {
    plan: Arc<Plan>,
    recorder: Recorder,
    /// What reading borrows while the state changes.
    scratch: RefCell<Scratch>,
    book: RefCell<Book>,
}

struct Book {
    figures: Figures,
    /// When offset 0 of all schedules is; nothing is measured before that is known.
    start_ns: u64,
    window: Range<u64>,
    content: String,
}

impl Ledger {
    pub fn new(plan: Arc<Plan>, gauges: Arc<Gauges>) -> Self {
        let book =
            Book { figures: Figures::default(), start_ns: 0, window: u64::MAX..u64::MAX, content: String::new() };
        Self { plan, recorder: Recorder::new(gauges), scratch: RefCell::default(), book: RefCell::new(book) }
    }

    pub fn gauges(&self) -> &Gauges {
        self.recorder.gauges()
    }

    /// What is noted of every second.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// From here on time is measured: what is due at offset 0 is due at this moment.
    pub fn begin(&self, start_ns: u64) {
        let measured = self.plan.measured_ns();
        let mut book = self.book();
        book.start_ns = start_ns;
        book.window = start_ns + measured.start..start_ns + measured.end;
        self.recorder.begin(book.window.clone());
    }

    /// The thread's account, before its crowds have added theirs.
    pub fn figures(&self) -> Figures {
        let mut figures = self.book().figures.clone();
        self.recorder.account(&mut figures);
        figures
    }

    fn book(&self) -> RefMut<'_, Book> {
        self.book.borrow_mut()
    }
}

impl Book {
    fn weigh(&mut self, frame: &Frame, messages: u64, arrived_ns: u64) {
        if !self.window.contains(&arrived_ns) {
            return;
        }
        let heard = &mut self.figures.heard;
        heard.frames += 1;
        heard.bytes += frame.wire_bytes();
        if messages > 0 {
            heard.messages += messages;
            heard.message_bytes += frame.bytes().len() as u64;
        }
    }
}

/// How a join was answered.
pub enum JoinAnswer {
    /// Under an id of its own, where the room has one.
    Joined {
        channel_id: Option<String>,
    },
    Refused {
        code: i32,
        reason: String,
    },
}

pub struct Crowd {
    /// The number of its room in the plan.
    room: usize,
    ledger: Rc<Ledger>,
    state: RefCell<State>,
}

struct State {
    seats: Vec<Seat>,
    checker: Checker,
    /// Answers by publisher and by message number, for the publishers of this crowd.
    publishes: HashMap<u32, Vec<Answer>>,
}

impl Crowd {
    pub fn new(ledger: Rc<Ledger>, room: usize, users: &[u32]) -> Self {
        let plan = &ledger.plan.rooms[room];
        let seat = |user: &u32| Seat { user: *user, member: Member::new(&plan.schedule), presences: 0 };
        let publishers = users.iter().filter_map(|user| plan.publisher(*user));
        let unsent = |publisher| (publisher, vec![Answer::Unsent; plan.schedule.planned(publisher) as usize]);
        let state = State {
            seats: users.iter().map(seat).collect(),
            checker: Checker::new(plan.schedule.clone(), ledger.plan.order),
            publishes: publishers.map(unsent).collect(),
        };
        Self { room, ledger, state: RefCell::new(state) }
    }

    fn plan(&self) -> &RoomPlan {
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

    /// Judges one frame that a user heard; what answers its join is the caller's to act upon.
    pub fn hear(&self, seat: usize, frame: &Frame) -> Option<JoinAnswer> {
        let arrived_ns = clock::now_ns();
        self.ledger.recorder.turn(arrived_ns);
        let state = &mut *self.state.borrow_mut();
        let mut answer = None;
        let mut messages = 0;
        let read = self.dialect().read(frame, &mut self.ledger.scratch.borrow_mut(), |heard| {
            messages += u64::from(matches!(heard, Heard::Message { .. }));
            answer = self.judge(state, seat, heard, arrived_ns).or(answer.take());
        });
        self.book().weigh(frame, messages, arrived_ns);
        if read.is_err() {
            self.corrupt(state, seat, "an unreadable frame", &frame.shown());
        }
        answer
    }

    fn judge(&self, state: &mut State, seat: usize, heard: Heard<'_>, arrived_ns: u64) -> Option<JoinAnswer> {
        match heard {
            Heard::Message { id, kind: Kind::New, content } => self.hear_message(state, seat, id, content, arrived_ns),
            Heard::Message { .. } => self.book().figures.foreign += 1,
            Heard::Presences { joins, leaves, .. } => self.hear_presences(state, seat, joins, leaves),
            Heard::Accepted { request, id } => {
                self.hear_answer(state, seat, request, Answer::Accepted { fingerprint: fingerprint(id) }, arrived_ns);
            }
            Heard::Joined { request: Some(Request::Join), channel_id, presences, .. } => {
                state.seats[seat].presences += presences;
                return Some(JoinAnswer::Joined { channel_id: channel_id.map(str::to_owned) });
            }
            Heard::Refused { request: Some(Request::Join), code, reason } => {
                return Some(JoinAnswer::Refused { code, reason: reason.to_owned() });
            }
            Heard::Refused { request, code, reason } => {
                let user = state.seats[seat].user;
                self.book().figures.sample(|| format!("user {user} was refused: code {code}, {reason}"));
                self.hear_answer(state, seat, request, Answer::Refused, arrived_ns);
            }
            Heard::Joined { .. } | Heard::Done { .. } | Heard::Gap { .. } | Heard::Other => {}
        }
        None
    }

    fn hear_message(&self, state: &mut State, seat: usize, id: &str, text: &str, arrived_ns: u64) {
        let content = match content::read(text, self.ledger.plan.run) {
            Ok(content) => content,
            Err(ContentFault::Foreign) => {
                self.book().figures.foreign += 1;
                return;
            }
            Err(ContentFault::Corrupt) => return self.corrupt(state, seat, "a corrupt content", text),
        };
        let Some(slot) = self.slot(content.slot) else {
            return self.corrupt(state, seat, "a message of another room", text);
        };
        let member = &mut state.seats[seat].member;
        let finding = state.checker.observe(member, slot, fingerprint(id));
        match finding {
            Finding::InOrder => self.delivered(content, arrived_ns),
            Finding::OutOfOrder => {
                self.book().figures.out_of_order += 1;
                self.fault(state, seat, "a message out of order", text);
                self.delivered(content, arrived_ns);
            }
            Finding::OtherId => {
                self.corrupt(state, seat, "a message under another id than others saw", text);
                self.delivered(content, arrived_ns);
            }
            Finding::Duplicate => {
                self.book().figures.duplicates += 1;
                self.fault(state, seat, "a message twice", text);
            }
            Finding::Unscheduled => self.corrupt(state, seat, "a message nobody scheduled", text),
        }
    }

    /// A content's slot as the room's schedule has it: contents name publishers by their user's number.
    fn slot(&self, named: Slot) -> Option<Slot> {
        let publisher = named.publisher.checked_sub(self.plan().users.start)?;
        (publisher < self.plan().members()).then_some(Slot { publisher, ..named })
    }

    fn delivered(&self, content: Content, arrived_ns: u64) {
        self.gauges().delivered.bump();
        let book = &mut *self.book();
        let figures = &mut book.figures;
        figures.last_delivery_ns = figures.last_delivery_ns.max(arrived_ns);
        let latency_ns = arrived_ns.saturating_sub(content.intended_ns);
        self.ledger.recorder.delivered(latency_ns);
        if content.intended_ns >= book.window.start {
            figures.delivery.record_ns(latency_ns);
        }
        if book.window.contains(&arrived_ns) {
            figures.delivered_in_window += 1;
        }
    }

    fn hear_presences(&self, state: &mut State, seat: usize, joins: u64, leaves: u64) {
        self.gauges().presence_frames.bump();
        state.seats[seat].presences += joins;
        let presence = &mut self.book().figures.presence;
        presence.frames += 1;
        presence.joins += joins;
        presence.leaves += leaves;
    }

    fn hear_answer(&self, state: &mut State, seat: usize, request: Option<Request>, answer: Answer, arrived_ns: u64) {
        let publisher = self.plan().publisher(state.seats[seat].user);
        let number = if let Some(Request::Publish(number)) = request { Some(number) } else { None };
        let answers = publisher.and_then(|publisher| state.publishes.get_mut(&publisher));
        let awaited = answers.zip(number).and_then(|(answers, number)| answers.get_mut(number as usize));
        let (Some(awaited @ Answer::Awaited), Some(number), Some(publisher)) = (awaited, number, publisher) else {
            self.book().figures.stray_answers += 1;
            return self.fault(state, seat, "an answer to nothing", &format!("{request:?}"));
        };
        *awaited = answer;
        if answer == Answer::Refused {
            self.gauges().refused.bump();
            return;
        }
        self.gauges().accepted.bump();
        if let Some(intended_ns) = self.measured_ns(Slot { publisher, number }) {
            self.book().figures.ack.record_ns(arrived_ns.saturating_sub(intended_ns));
        }
    }

    /// The intended time of a message whose latency counts.
    fn measured_ns(&self, slot: Slot) -> Option<u64> {
        let schedule = &self.plan().schedule;
        let index = schedule.index(slot)?;
        schedule.is_measured(index).then(|| self.book().start_ns + schedule.due_ns(index))
    }

    /// The send of a publisher, which is named by its user's number.
    pub fn write_send(&self, user: u32, channel_id: &str, due: Due) -> Message {
        let text = &mut self.book().content;
        self.write_content(text, user, due);
        self.dialect().send(user, due.number, channel_id, text)
    }

    fn write_content(&self, text: &mut String, user: u32, due: Due) {
        let content = Content { slot: Slot { publisher: user, number: due.number }, intended_ns: due.intended_ns };
        text.clear();
        content::write(text, self.ledger.plan.run, content, self.plan().payload_bytes);
    }

    /// Notes that a message is about to be handed to the socket: what passed since its time was our own lateness.
    pub fn sending(&self, user: u32, due: Due) {
        let Some(publisher) = self.plan().publisher(user) else { return };
        let now_ns = clock::now_ns();
        let lateness_ns = now_ns.saturating_sub(due.intended_ns);
        self.ledger.recorder.turn(now_ns);
        self.ledger.recorder.sent_late_by(lateness_ns);
        let state = &mut *self.state.borrow_mut();
        if self.measured_ns(Slot { publisher, number: due.number }).is_some() {
            self.book().figures.lateness.record_ns(lateness_ns);
        }
        let answers = state.publishes.get_mut(&publisher);
        if let Some(answer) = answers.and_then(|answers| answers.get_mut(due.number as usize)) {
            *answer = Answer::Awaited;
        }
        self.gauges().sent.bump();
    }

    /// Notes that a message was handed over whole. Where nobody will answer, it is as good as accepted, and as its id
    /// others will have its content.
    pub fn sent(&self, user: u32, due: Due) {
        if self.dialect().has_answers() {
            return;
        }
        let Some(publisher) = self.plan().publisher(user) else { return };
        let answer = {
            let text = &mut self.book().content;
            self.write_content(text, user, due);
            Answer::Accepted { fingerprint: fingerprint(text) }
        };
        let answers = self.state.borrow_mut();
        let mut answers = RefMut::filter_map(answers, |state| state.publishes.get_mut(&publisher)).ok();
        let awaited = answers.as_mut().and_then(|answers| answers.get_mut(due.number as usize));
        if let Some(awaited @ Answer::Awaited) = awaited {
            *awaited = answer;
            self.gauges().accepted.bump();
        }
    }

    /// A user's connection came to an end while it was still needed.
    pub fn lost(&self, seat: usize, lost: &Lost) {
        let state = &mut *self.state.borrow_mut();
        self.book().figures.disconnected += 1;
        self.gauges().disconnected.bump();
        let user = state.seats[seat].user;
        self.book().figures.sample(|| format!("user {user} was disconnected: {lost}"));
    }

    fn corrupt(&self, state: &mut State, seat: usize, what: &str, text: &str) {
        self.book().figures.corrupt += 1;
        self.fault(state, seat, what, text);
    }

    fn fault(&self, state: &mut State, seat: usize, what: &str, text: &str) {
        self.gauges().faults.bump();
        let user = state.seats[seat].user;
        self.book()
            .figures
            .sample(|| format!("user {user} heard {what}: {}", text.chars().take(200).collect::<String>()));
    }

    /// What became of every publish of this crowd.
    pub fn answers(&self) -> PublishAnswers {
        let mut found = PublishAnswers::default();
        for (publisher, answers) in &self.state.borrow().publishes {
            let numbers_of = |wanted: fn(&Answer) -> bool| -> Vec<u32> {
                (0..).zip(answers).filter(|(_, answer)| wanted(answer)).map(|(number, _)| number).collect()
            };
            let Answers { refused, unanswered } = &mut found.answers;
            refused.insert(*publisher, numbers_of(|answer| *answer == Answer::Refused));
            unanswered.insert(*publisher, numbers_of(|answer| matches!(answer, Answer::Unsent | Answer::Awaited)));
            found.acknowledged.0.extend(self.identities(*publisher, answers).0);
        }
        found
    }

    fn identities(&self, publisher: u32, answers: &[Answer]) -> Identities {
        let identity = |(number, answer): (u32, &Answer)| match answer {
            Answer::Accepted { fingerprint } => {
                self.plan().schedule.index(Slot { publisher, number }).map(|index| (index, *fingerprint))
            }
            _ => None,
        };
        Identities((0..).zip(answers).filter_map(identity).collect())
    }

    /// Adds the account of all users of this crowd, now that all publishers' answers are known.
    pub fn settle(&self, answers: &Answers, figures: &mut Figures) {
        let state = self.state.borrow();
        figures.members += state.seats.len() as u64;
        for seat in &state.seats {
            figures.tally.add(state.checker.tally(&seat.member, answers));
            let incomplete = !self.entrance().hidden && seat.presences < u64::from(self.plan().members());
            figures.presence.incomplete_members += u64::from(incomplete);
        }
        figures.sightings.push((self.room as u32, state.checker.sightings(state.seats.len() as u32)));
    }

    /// The number of the crowd's room in the plan.
    pub fn room(&self) -> u32 {
        self.room as u32
    }
}

/// Ids are compared, never read: the same hash in every process of the run, as the standard hasher has fixed keys.
fn fingerprint(message_id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(message_id.as_bytes());
    hasher.finish()
}
