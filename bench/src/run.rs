//! One measurement on a full room: messages at a rate, or one message at a time.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::checker::Faults;
use crate::client::Room;
use crate::cpu::Usage;
use crate::failure::{Failure, world};
use crate::publisher::Schedule;
use crate::received::empty_histogram;

/// A rate counts as carried if the 99th percentile of the latency stays below this.
pub const LATENCY_P99_MAX: Duration = Duration::from_secs(1);
/// If a delivery is this late, the rate is not carried. To offer more would only fill the machine's memory.
const LATENCY_GIVE_UP: Duration = Duration::from_secs(2);
/// If no delivery arrives for so long, the missing ones count as lost.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The time between two messages in a quiet room. It is not a multiple of the batching loop's tick, so that every
/// length of the loop's wait occurs.
const QUIET: Duration = Duration::from_millis(53);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Patience {
    /// Stops when it is clear that the rate is not carried.
    Limited,
    /// Continues for the whole time, to see what the server does beyond its maximum.
    Endless,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    pub offered_messages_per_second: f64,
    pub messages: u64,
    pub deliveries: u64,
    pub missing: u64,
    pub faults: Faults,
    pub unacknowledged: u64,
    /// Whether the run stopped early, because the rate was clearly not carried.
    pub given_up: bool,
    pub deliveries_per_second: f64,
    pub wire_bytes_per_delivery: f64,
    pub cpu_us_per_delivery: f64,
    /// The CPU time of the server, as a share of one core.
    pub core_share: f64,
    /// The share of the time in which the client had something to read. Near one, the client is the limit.
    pub client_share: f64,
    pub latency_p50_ms: f64,
    pub latency_p99_ms: f64,
    pub latency_max_ms: f64,
    /// The share of the time in which the server or the client was ready and its core ran something else. If it is more
    /// than a hundredth or two, the figures of the run say little.
    pub disturbed_share: f64,
    /// The publisher's longest delay, caused by itself or by a server that held it back.
    pub publisher_late_max_ms: f64,
}

impl Run {
    pub fn nothing_lost(&self) -> bool {
        self.missing == 0 && self.unacknowledged == 0 && self.faults.none()
    }

    pub fn carried(&self) -> bool {
        self.nothing_lost() && !self.given_up && self.latency_p99_ms < LATENCY_P99_MAX.as_secs_f64() * 1e3
    }
}

/// Publishes `rate` messages a second, and waits until every member has all of them, or until no more arrive.
pub fn at_rate(room: &mut Room, pid: u32, rate: f64, duration: Duration, patience: Patience) -> Result<Run, Failure> {
    room.received.forget();
    let usage = || Usage::of(pid, &[std::process::id()]).map_err(world("read the server's CPU time"));
    let before = usage()?;
    let idle_before = room.idle();
    let start_ns = room.now_ns();
    let end_ns = start_ns + duration.as_nanos() as u64;
    let count = (rate * duration.as_secs_f64()).ceil().max(1.0) as u64;
    let mut schedule = Schedule::new(start_ns, rate, count);
    room.received.last_delivery_ns = start_ns;
    let published_before = room.published();
    let given_up = offer(room, &mut schedule, end_ns, patience)?;
    assert_eq!(u64::from(room.published() - published_before), schedule.sent, "the room publishes what is scheduled");
    let spent = usage()?.since(before);
    let idle = (room.idle() - idle_before).as_secs_f64() * 1e9 / (room.now_ns() - start_ns) as f64;
    let mut run = evaluate(room, &schedule, start_ns, end_ns, spent);
    run.client_share = 1.0 - idle;
    (run.offered_messages_per_second, run.given_up) = (rate, given_up);
    Ok(run)
}

/// Publishes and reads until all messages are delivered or the rest is lost. Returns whether it stopped early.
fn offer(room: &mut Room, schedule: &mut Schedule, end_ns: u64, patience: Patience) -> Result<bool, Failure> {
    let mut given_up = false;
    loop {
        room.turn(Some(schedule))?;
        let now_ns = room.now_ns();
        let late = u128::from(room.received.latency_max_us) > LATENCY_GIVE_UP.as_micros();
        match patience {
            Patience::Limited if late && !schedule.finished() => {
                schedule.stop();
                given_up = true;
            }
            Patience::Endless if now_ns > end_ns => schedule.stop(),
            _ => {}
        }
        let silent_ns = now_ns.saturating_sub(room.received.last_delivery_ns.max(end_ns));
        let lost = u128::from(silent_ns) > SILENCE_MAX.as_nanos();
        if lost || (schedule.finished() && is_quiet(room, schedule.sent, now_ns)) {
            return Ok(given_up);
        }
    }
}

/// Whether every message has arrived at every member and is acknowledged.
fn is_quiet(room: &Room, sent: u64, now_ns: u64) -> bool {
    let expected = sent * room.members() as u64;
    let acknowledged = !room.acknowledges() || room.received.acks >= sent;
    // A repeated message may still follow the last delivery. A short wait is enough to catch one that is already on its
    // way.
    let rested = now_ns.saturating_sub(room.received.last_delivery_ns) > 2_000_000;
    room.received.checker.delivered >= expected && acknowledged && rested
}

fn evaluate(room: &mut Room, schedule: &Schedule, start_ns: u64, end_ns: u64, spent: Usage) -> Run {
    let faults = room.received.checker.take_faults();
    let received = &room.received;
    let deliveries = received.checker.delivered;
    let seconds = (received.last_delivery_ns.max(end_ns) - start_ns) as f64 / 1e9;
    let quantile_ms = |quantile| received.latency_us.value_at_quantile(quantile) as f64 / 1e3;
    let per_delivery = |amount: f64| amount / deliveries.max(1) as f64;
    let expected = schedule.sent * room.members() as u64;
    let missing = expected.saturating_sub(deliveries);
    assert!(seconds > 0.0, "a run takes time");
    if faults.none() {
        assert_eq!(deliveries + missing, expected, "each message is delivered to each member once, or is missing");
    }
    let heard = deliveries + faults.repeated_or_late + faults.foreign;
    assert!(received.latency_us.len() <= heard, "{} of {heard} deliveries were timed", received.latency_us.len());
    Run {
        offered_messages_per_second: 0.0,
        messages: schedule.sent,
        deliveries,
        missing,
        faults,
        unacknowledged: if room.acknowledges() { schedule.sent.saturating_sub(received.acks) } else { 0 },
        given_up: false,
        deliveries_per_second: deliveries as f64 / seconds,
        wire_bytes_per_delivery: per_delivery(received.checker.wire_bytes as f64),
        cpu_us_per_delivery: per_delivery(spent.cpu.as_secs_f64() * 1e6),
        core_share: spent.cpu.as_secs_f64() / seconds,
        client_share: 0.0,
        disturbed_share: spent.waiting.as_secs_f64() / seconds,
        latency_p50_ms: quantile_ms(0.5),
        latency_p99_ms: quantile_ms(0.99),
        latency_max_ms: received.latency_max_us as f64 / 1e3,
        publisher_late_max_ms: schedule.late_max_ns as f64 / 1e6,
    }
}

/// Sends single messages into a quiet room, and records for each when the last member received it.
pub fn one_by_one(room: &mut Room, messages: u32) -> Result<Histogram<u64>, Failure> {
    let mut last_us = empty_histogram();
    for _ in 0..messages {
        rest(room, QUIET)?;
        room.received.forget();
        let start_ns = room.now_ns();
        let mut schedule = Schedule::new(start_ns, 1.0, 1);
        while room.received.checker.delivered < room.members() as u64 {
            room.turn(Some(&mut schedule))?;
            if u128::from(room.now_ns() - start_ns) > SILENCE_MAX.as_nanos() {
                return Err(Failure::Refused(format!(
                    "only {} of {} members got a message",
                    room.received.checker.delivered,
                    room.members()
                )));
            }
        }
        last_us.saturating_record((room.received.last_delivery_ns - start_ns) / 1_000);
    }
    assert_eq!(last_us.len(), u64::from(messages), "each message has one last delivery");
    Ok(last_us)
}

/// Waits for `duration` and reads what arrives meanwhile.
pub fn rest(room: &mut Room, duration: Duration) -> Result<(), Failure> {
    let end_ns = room.now_ns() + duration.as_nanos() as u64;
    while room.now_ns() < end_ns {
        room.turn(None)?;
    }
    Ok(())
}
