//! Publishes by a schedule that is fixed in advance (open loop). Message `i` is to be sent at `start + i / rate`,
//! independently of the messages before it, and its latency counts from that time.
//!
//! When the server stops reading, messages wait in the publisher. They are sent late but are not lost, and the number
//! of waiting bytes is bounded.

use std::io;
use std::net::TcpStream;

use crate::dialect::Publication;
use crate::frames;
use crate::sockets::Outgoing;

/// Bytes that may wait in user space until the kernel takes them: enough that one call carries many messages.
const PENDING_BYTES_MAX: usize = 32 << 10;

pub struct Schedule {
    start_ns: u64,
    interval_ns: f64,
    count: u64,
    pub sent: u64,
    /// The longest delay between the intended time of a message and its hand-over to the socket.
    pub late_max_ns: u64,
}

impl Schedule {
    pub fn new(start_ns: u64, rate: f64, count: u64) -> Schedule {
        assert!(rate > 0.0 && rate.is_finite(), "{rate} messages a second have no interval");
        Schedule { start_ns, interval_ns: 1e9 / rate, count, sent: 0, late_max_ns: 0 }
    }

    /// The intended time of the next message, if it has come.
    pub fn due(&self, now_ns: u64) -> Option<u64> {
        self.next().filter(|&intended_ns| intended_ns <= now_ns)
    }

    /// The intended time of the next message, if there is one.
    pub fn next(&self) -> Option<u64> {
        (self.sent < self.count).then(|| self.start_ns + (self.sent as f64 * self.interval_ns) as u64)
    }

    pub fn sent(&mut self, intended_ns: u64, now_ns: u64) {
        assert!(self.sent < self.count, "more messages are sent than the {} that are planned", self.count);
        assert!(now_ns >= intended_ns, "a message is sent {} ns before its time", intended_ns.saturating_sub(now_ns));
        self.sent += 1;
        self.late_max_ns = self.late_max_ns.max(now_ns - intended_ns);
    }

    pub fn finished(&self) -> bool {
        self.sent == self.count
    }

    /// Stops the schedule: no more messages are sent.
    pub fn stop(&mut self) {
        self.count = self.sent;
    }
}

/// The sending half of one connection.
pub struct Publisher {
    pub connection: usize,
    publication: Publication,
    pending: Outgoing,
}

impl Publisher {
    pub fn new(connection: usize, publication: Publication) -> Publisher {
        Publisher { connection, publication, pending: Outgoing::default() }
    }

    pub fn has_room(&self) -> bool {
        self.pending.len() < PENDING_BYTES_MAX
    }

    pub fn put_message(&mut self, counter: u32, stamp_ns: u64) {
        self.publication.put(counter, stamp_ns, self.pending.bytes());
    }

    /// Queues the answer to a ping, in order with the messages.
    pub fn put_pong(&mut self, payload: &[u8]) {
        frames::put_client_frame(frames::PONG, payload, self.pending.bytes());
    }

    pub fn flush(&mut self, socket: &TcpStream) -> io::Result<()> {
        self.pending.flush(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_due_at_their_times_and_no_more_than_their_count() {
        let mut schedule = Schedule::new(1_000, 1e9 / 100.0, 3);
        let mut taken = Vec::new();
        for now_ns in [999, 1_000, 1_050, 1_250, 9_999] {
            while let Some(intended_ns) = schedule.due(now_ns) {
                schedule.sent(intended_ns, now_ns);
                taken.push((intended_ns, now_ns));
            }
        }
        assert_eq!(taken, [(1_000, 1_000), (1_100, 1_250), (1_200, 1_250)]);
        assert_eq!((schedule.finished(), schedule.late_max_ns), (true, 150));
    }

    #[test]
    fn a_stopped_schedule_is_finished() {
        let mut schedule = Schedule::new(0, 1.0, 10);
        schedule.sent(0, 0);
        schedule.stop();
        assert!(schedule.finished());
        assert_eq!(schedule.due(u64::MAX), None);
    }
}
