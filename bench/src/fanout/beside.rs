//! A room of two beside the full room on the same core: how long does a message in the small room take while the full
//! room runs at half of its maximum?

use std::time::Duration;

use serde::Serialize;

use super::filled_server::FilledServer;
use crate::client::{EVENTS_MAX, Room, Shape};
use crate::dialect::{Dialect, Persistence};
use crate::failure::Failure;
use crate::publisher::Schedule;
use crate::run;

const SMALL_ROOM: &str = "two";
/// Messages per second in the room of two.
const RATE: f64 = 100.0;
/// Events handled between two looks at the other room, so that the client itself adds little to what it measures.
const EVENTS_AT_ONCE: usize = 8;
/// How long to wait for the last deliveries of both rooms.
const REST: Duration = Duration::from_secs(3);

/// How long messages of the room of two took, to either of its members.
#[derive(Debug, Serialize)]
pub struct RoundTrips {
    pub messages: u64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// Measures round trips of a room of two while the full room has `large_rate` messages/s. Messages of both have
/// contents of `content_bytes`.
pub fn round_trips(
    filled: &mut FilledServer,
    large_rate: f64,
    duration: Duration,
    content_bytes: usize,
) -> Result<RoundTrips, Failure> {
    let dialect = Dialect::Stentor {
        tokens: filled.server.tokens(2)?,
        persistence: Persistence::Passing,
        room: SMALL_ROOM.to_owned(),
    };
    let mut small = Room::new(filled.server.address, dialect, Shape { members: 2, content_bytes })?;
    small.fill()?;
    let large = &mut filled.room;
    run::rest(large, Duration::from_millis(500))?;
    large.take_in_at_once(EVENTS_AT_ONCE);
    let measured = side_by_side(large, large_rate, &mut small, duration);
    large.take_in_at_once(EVENTS_MAX);
    measured
}

/// Measures both rooms at once. One client reads them in turns.
fn side_by_side(
    large: &mut Room,
    large_rate: f64,
    small: &mut Room,
    duration: Duration,
) -> Result<RoundTrips, Failure> {
    large.received.forget();
    small.received.forget();
    let schedule =
        |room: &Room, rate: f64| Schedule::new(room.now_ns(), rate, (rate * duration.as_secs_f64()).ceil() as u64);
    let (mut of_large, mut of_small) = (schedule(large, large_rate), schedule(small, RATE));
    let give_up_ns = large.now_ns() + (duration + REST).as_nanos() as u64;
    let whole = |room: &Room, schedule: &Schedule| {
        schedule.finished() && room.received.checker.delivered >= schedule.sent * room.members() as u64
    };
    while !(whole(large, &of_large) && whole(small, &of_small)) {
        large.turn(Some(&mut of_large))?;
        small.turn(Some(&mut of_small))?;
        if large.now_ns() > give_up_ns {
            return Err(Failure::Faulty(format!("{REST:?} after the end not everything had arrived")));
        }
    }
    let faults = [&mut *large, &mut *small].map(|room| room.received.checker.take_faults());
    if !faults.iter().all(|faults| faults.none()) {
        return Err(Failure::Faulty(format!("messages were lost, repeated or reordered: {faults:?}")));
    }
    for (room, schedule) in [(&*large, &of_large), (&*small, &of_small)] {
        let expected = schedule.sent * room.members() as u64;
        assert_eq!(room.received.checker.delivered, expected, "each message is delivered to each member once");
    }
    let quantile_ms = |quantile| small.received.latency_us.value_at_quantile(quantile) as f64 / 1e3;
    Ok(RoundTrips {
        messages: of_small.sent,
        p50_ms: quantile_ms(0.5),
        p99_ms: quantile_ms(0.99),
        max_ms: small.received.latency_max_us as f64 / 1e3,
    })
}
