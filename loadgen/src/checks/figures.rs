//! The figures of a run, as the clients saw them: counted by thread, added up over threads and processes.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::checks::check::{MemberTally, Sightings};
use crate::checks::latency::Latency;
use crate::checks::reach::Reach;
use crate::checks::samples::Samples;
use crate::plan::run_plan::Plan;

/// One thread's figures, or the sum of several.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Figures {
    pub members: u64,
    pub tally: MemberTally,
    pub duplicates: u64,
    pub out_of_order: u64,
    /// Unreadable frames, wrong checksums, ids that differ between members, messages that are not in the schedule.
    pub corrupt: u64,
    /// Refusals because a request came faster than the server lets its user ask.
    pub refused_too_fast: u64,
    /// Answers to no request, and second answers to one publish.
    pub stray_answers: u64,
    /// Messages of other runs in the same room, and updates by others: not a fault.
    pub foreign: u64,
    pub disconnected: u64,
    /// What members received while the run was measured.
    pub heard: HeardFigures,
    pub presence: PresenceFigures,
    pub lives: LifeFigures,
    pub delivery: Latency,
    pub ack: Latency,
    /// From a history read's intended time to the arrival of its page.
    pub history: Latency,
    /// From a history read's intended time until the client requested the page.
    pub history_lateness: Latency,
    pub history_reads: u64,
    /// Pages that were wrong.
    pub history_faults: u64,
    /// Reads without an answer, or refused.
    pub history_failures: u64,
    /// Reads that were due while too many others were under way; they were not made.
    pub history_left_out: u64,
    /// From a message's intended time until the client gave it to the socket.
    pub lateness: Latency,
    /// How long a frame may have waited in the client before the client read it.
    pub lag: Latency,
    /// The same, only of the threads that had publishers.
    pub publishers_lag: Latency,
    pub threads: Vec<ThreadFigures>,
    /// Deliveries that arrived between the start of measuring and the last scheduled send.
    pub delivered_in_window: u64,
    /// When the last delivery came, on the run's clock.
    pub last_delivery_ns: u64,
    pub samples: Samples,
    /// By the number of the room.
    pub reach: HashMap<u32, Reach>,
    /// By the number of the room.
    pub sightings: Vec<(u32, Sightings)>,
}

/// WebSocket messages of all kinds, and their size with the frame headers.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeardFigures {
    pub frames: u64,
    pub bytes: u64,
    /// Chat messages, and the size of the frames that carried them.
    pub messages: u64,
    pub message_bytes: u64,
}

/// How busy one thread of the generator was during the measured time.
#[derive(Clone, Copy, Default, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThreadFigures {
    /// The share of the time in which the thread computed.
    pub busy: f64,
    /// The share of the time in which the thread was ready but had no core; `None` where the kernel does not count it.
    pub waiting: Option<f64>,
    /// Whether the thread had publishers among its users.
    pub publishes: bool,
}

impl ThreadFigures {
    pub fn between(elapsed_ns: u64, cpu_ns: u64, waited_ns: Option<u64>) -> Self {
        let share = |part_ns: u64| part_ns as f64 / elapsed_ns.max(1) as f64;
        Self { busy: share(cpu_ns), waiting: waited_ns.map(share), publishes: false }
    }
}

#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PresenceFigures {
    pub frames: u64,
    pub joins: u64,
    pub leaves: u64,
    /// Members that did not learn of every visible member, themselves included.
    pub incomplete_members: u64,
}

/// What members that come and go did, and how it ended.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LifeFigures {
    pub stays: u64,
    pub left: u64,
    /// Connections that the client dropped.
    pub dropped: u64,
    /// Connections that the server closed because their reader was too slow: with notice, or so slow that it never read
    /// the notice.
    pub closed: u64,
    /// Of those, the readers that never read the notice.
    pub cut_off: u64,
    /// Gaps that the server announced.
    pub gaps: u64,
    /// Users that could not connect or join again.
    pub failed: u64,
    /// Messages that came to a user who was not in the room.
    pub outside: u64,
    /// Connections that a drain which was expected has closed.
    pub drained: u64,
    /// How often a user was let in again after a drain, or wanted to be.
    pub returned: u64,
    pub sought: u64,
    /// Messages that were not sent, because their publisher was away when they were due.
    pub withheld: u64,
    /// Messages that had no answer yet when a drain closed their publisher's connection.
    pub cut_off_publishes: u64,
}

impl LifeFigures {
    fn add(&mut self, other: LifeFigures) {
        self.stays += other.stays;
        self.left += other.left;
        self.dropped += other.dropped;
        self.closed += other.closed;
        self.cut_off += other.cut_off;
        self.gaps += other.gaps;
        self.failed += other.failed;
        self.outside += other.outside;
        self.drained += other.drained;
        self.returned += other.returned;
        self.sought += other.sought;
        self.withheld += other.withheld;
        self.cut_off_publishes += other.cut_off_publishes;
    }
}

impl Figures {
    pub fn add(&mut self, other: Figures) {
        self.members += other.members;
        self.tally.add(other.tally);
        self.duplicates += other.duplicates;
        self.out_of_order += other.out_of_order;
        self.corrupt += other.corrupt;
        self.refused_too_fast += other.refused_too_fast;
        self.stray_answers += other.stray_answers;
        self.foreign += other.foreign;
        self.disconnected += other.disconnected;
        self.heard.frames += other.heard.frames;
        self.heard.bytes += other.heard.bytes;
        self.heard.messages += other.heard.messages;
        self.heard.message_bytes += other.heard.message_bytes;
        self.presence.add(other.presence);
        self.lives.add(other.lives);
        self.delivery.add(&other.delivery);
        self.ack.add(&other.ack);
        self.lateness.add(&other.lateness);
        self.history.add(&other.history);
        self.history_lateness.add(&other.history_lateness);
        self.history_reads += other.history_reads;
        self.history_faults += other.history_faults;
        self.history_failures += other.history_failures;
        self.history_left_out += other.history_left_out;
        self.lag.add(&other.lag);
        self.publishers_lag.add(&other.publishers_lag);
        self.threads.extend(other.threads);
        self.delivered_in_window += other.delivered_in_window;
        self.last_delivery_ns = self.last_delivery_ns.max(other.last_delivery_ns);
        self.samples.add(other.samples);
        other.reach.into_iter().for_each(|(room, reach)| self.reach.entry(room).or_default().add(&reach));
        self.sightings.extend(other.sightings);
    }

    /// How long measured messages took to reach the last member of their room.
    pub fn last_member(&self, plan: &Plan) -> Latency {
        let mut latency = Latency::default();
        for (room, reach) in &self.reach {
            plan.rooms.get(*room as usize).iter().for_each(|room| reach.measure(&room.schedule, &mut latency));
        }
        latency
    }
}

impl MemberTally {
    pub fn add(&mut self, other: MemberTally) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.skipped += other.skipped;
        self.announced += other.announced;
        self.missing += other.missing;
        self.out_of_order += other.out_of_order;
        self.refused_but_delivered += other.refused_but_delivered;
        self.unanswered_but_delivered += other.unanswered_but_delivered;
        self.beyond += other.beyond;
    }
}

impl PresenceFigures {
    fn add(&mut self, other: PresenceFigures) {
        self.frames += other.frames;
        self.joins += other.joins;
        self.leaves += other.leaves;
        self.incomplete_members += other.incomplete_members;
    }
}
