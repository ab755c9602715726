//! What all crowds of a thread write into: running totals, figures, and buffers that are reused from message to
//! message.
//!
//! A thread has one single-threaded runtime. So nothing here is locked or shared with another thread, except the
//! running totals, which other threads only read.

use std::cell::{RefCell, RefMut};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::checks::figures::Figures;
use crate::checks::record::Entry;
use crate::costs::gauges::Gauges;
use crate::costs::recorder::Recorder;
use crate::plan::run_plan::Plan;
use crate::wire::{Frame, Scratch};

/// What all crowds of a thread write into: its figures, and buffers that are reused from message to message.
pub struct Ledger {
    pub plan: Arc<Plan>,
    pub recorder: Rc<Recorder>,
    /// The buffers that reading a frame borrows while the state changes.
    pub scratch: RefCell<Scratch>,
    book: RefCell<Book>,
}

pub struct Book {
    pub figures: Figures,
    /// The time of offset 0 of all schedules. Nothing is measured before it is known.
    pub start_ns: u64,
    pub window: Range<u64>,
    pub content: String,
}

impl Ledger {
    pub fn new(plan: Arc<Plan>, recorder: Rc<Recorder>) -> Self {
        let book =
            Book { figures: Figures::default(), start_ns: 0, window: u64::MAX..u64::MAX, content: String::new() };
        Self { plan, recorder, scratch: RefCell::default(), book: RefCell::new(book) }
    }

    pub fn gauges(&self) -> &Gauges {
        self.recorder.gauges()
    }

    /// Starts the measuring: a message with offset 0 is due at `start_ns`.
    pub fn begin(&self, start_ns: u64) {
        let measured = self.plan.measured_ns();
        let mut book = self.book();
        book.start_ns = start_ns;
        book.window = start_ns + measured.start..start_ns + measured.end;
        self.recorder.begin(book.window.clone());
    }

    /// The thread's figures, before its crowds have added theirs.
    pub fn figures(&self) -> Figures {
        let mut figures = self.book().figures.clone();
        self.recorder.account(&mut figures);
        figures
    }

    pub fn book(&self) -> RefMut<'_, Book> {
        self.book.borrow_mut()
    }

    /// Counts deliveries of messages with these intended times. A slow reader delays its messages itself, which says
    /// nothing about the server, so its latencies are not recorded.
    pub fn delivered(&self, arrived_ns: u64, intended_ns: impl ExactSizeIterator<Item = u64> + Clone, prompt: bool) {
        let count = intended_ns.len() as u64;
        self.gauges().delivered.add(count);
        let book = &mut *self.book();
        let figures = &mut book.figures;
        figures.last_delivery_ns = figures.last_delivery_ns.max(arrived_ns);
        if book.window.contains(&arrived_ns) {
            figures.delivered_in_window += count;
        }
        if !prompt {
            return;
        }
        self.recorder.delivered(intended_ns.clone().map(|intended_ns| arrived_ns.saturating_sub(intended_ns)));
        for intended_ns in intended_ns.filter(|intended_ns| *intended_ns >= book.window.start) {
            figures.delivery.record_ns(arrived_ns.saturating_sub(intended_ns));
        }
    }
}

impl Book {
    pub fn weigh(&mut self, frame: &Frame, messages: u64, arrived_ns: u64) {
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

    /// The same for bytes that were not parsed.
    pub fn weigh_unread(&mut self, bytes: u64, arrived_ns: u64) {
        if self.window.contains(&arrived_ns) {
            self.figures.heard.bytes += bytes;
        }
    }

    /// The same for recognised frames: each holds one message, and together they have `bytes` bytes.
    pub fn weigh_recognised(&mut self, entries: &[Entry], bytes: u64, arrived_ns: u64) {
        if !self.window.contains(&arrived_ns) {
            return;
        }
        let heard = &mut self.figures.heard;
        heard.frames += entries.len() as u64;
        heard.bytes += bytes;
        heard.messages += entries.len() as u64;
        heard.message_bytes += entries.iter().map(|entry| u64::from(entry.payload_bytes)).sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SECOND_NS;
    use crate::plan::actions::ActionShares;
    use crate::plan::run_plan::{OrderDemand, RoomPlan};
    use crate::plan::schedule::Schedule;
    use crate::plan::target::{SignInKind, Target};
    use crate::wire::{Dialect, Entrance};
    use std::time::Duration;

    /// A ledger of a run that is measured from its second 1 to its second 3, begun at this time.
    fn ledger(start_ns: u64) -> Ledger {
        let second = Duration::from_secs(1);
        let schedule = Schedule::steady(1.0, 1, second, 2 * second).expect("valid");
        let entrance = Entrance { room: "r".to_owned(), hidden: true, persistence: false };
        let target = Target {
            server: ([127, 0, 0, 1], 1).into(),
            dialect: Dialect::Json,
            server_key: String::new(),
            sign_in: SignInKind::Custom,
            account_prefix: String::new(),
            read_buffer_bytes: 1024,
        };
        let plan = Plan {
            run: 1,
            seed: 1,
            target,
            rooms: vec![RoomPlan {
                users: 0..2,
                entrance,
                schedule,
                payload_bytes: 100,
                actions: ActionShares::default(),
            }],
            order: OrderDemand::Room,
            threads: None,
            conduct: None,
            in_flight: 1,
            reads_only: false,
        };
        let ledger = Ledger::new(Arc::new(plan), Rc::new(Recorder::new(Arc::default())));
        ledger.begin(start_ns);
        ledger
    }

    #[test]
    fn a_delivery_counts_where_it_arrived_and_its_latency_where_it_was_intended() {
        let ledger = ledger(10 * SECOND_NS);
        let window = 11 * SECOND_NS..13 * SECOND_NS;
        for (intended_ns, arrived_ns, prompt) in [
            (window.start - 5, window.start - 1, true),
            (window.start - 5, window.start, true),
            (window.start, window.start + 7_000, true),
            (window.end - 1, window.end - 1, true),
            (window.end - 1, window.end, true),
            // A slow reader says nothing about the server.
            (window.start, window.start + 9_000_000, false),
        ] {
            ledger.delivered(arrived_ns, std::iter::once(intended_ns), prompt);
        }
        let figures = ledger.figures();
        assert_eq!(figures.delivered_in_window, 4, "they arrived in the measured time");
        assert_eq!(figures.delivery.percentiles().count, 3, "they were intended in it, for prompt readers");
        assert_eq!(figures.last_delivery_ns, window.end);
        assert_eq!(ledger.gauges().progress().delivered, 6);
    }

    #[test]
    fn frames_are_weighed_in_the_measured_time_only() {
        let ledger = ledger(10 * SECOND_NS);
        let frame = Frame::Text("x".repeat(200).into());
        for at_ns in [11 * SECOND_NS - 1, 11 * SECOND_NS, 13 * SECOND_NS - 1, 13 * SECOND_NS] {
            ledger.book().weigh(&frame, 1, at_ns);
            ledger.book().weigh(&frame, 0, at_ns);
            ledger.book().weigh_unread(1_000, at_ns);
        }
        let heard = ledger.figures().heard;
        assert_eq!((heard.frames, heard.messages), (4, 2));
        assert_eq!((heard.bytes, heard.message_bytes), (4 * 204 + 2 * 1_000, 2 * 200));
    }
}
