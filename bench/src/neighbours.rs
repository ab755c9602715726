//! A room of two beside a room of thousands on the same core: how long does a message in the small room take while the
//! large room runs at half of its maximum?

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::client::{Room, Shape};
use crate::cpu;
use crate::dialect::{Dialect, Persistence, ROOM};
use crate::failure::{Failure, world};
use crate::filled_server::{FilledServer, Offers};
use crate::goals::{self, Bound, Goal, ratio, shown};
use crate::publisher::Schedule;
use crate::report;
use crate::run::{self, Patience, Run};
use crate::search::Search;
use crate::server::{Kind, Launch, Server};
use crate::setting::Setting;

const SMALL_ROOM: &str = "two";
/// Events handled between two looks at the other room, so that the client itself adds little to what it measures.
const EVENTS_AT_ONCE: usize = 8;
/// Single messages with which the pass of the large room is measured.
const SINGLE_MESSAGES: u32 = 20;
/// How long to wait for the last deliveries of both rooms.
const REST: Duration = Duration::from_secs(3);
/// The first rate offered to a large room. The search continues from there.
const START_DELIVERIES_PER_SECOND: f64 = 4e6;

#[derive(Args, Debug)]
pub struct Options {
    /// Members of the large room.
    #[arg(long, default_value_t = 15_000)]
    members: usize,
    /// Messages per second in the room of two.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    /// Seconds of each run.
    #[arg(long, default_value_t = 5.0)]
    secs: f64,
    /// The most deliveries/s of the large room, if known; otherwise the bench searches for it.
    #[arg(long)]
    max: Option<f64>,
    /// Bytes of a message's content.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    #[command(flatten)]
    setting: Setting,
}

/// How long messages of the room of two took, to either of its members.
#[derive(Debug, Serialize)]
struct RoundTrips {
    messages: u64,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Deliveries per second in the large room at the same time.
    large_deliveries_per_second: f64,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let launch = options.setting.launch_stentor(1)?;
    let most = match options.max {
        Some(most) => most,
        None => most_deliveries(options, &launch)?,
    };
    // A search overloads the server at its end. So the comparison uses a new server with new rooms.
    let server = Server::start(Kind::Stentor, &launch)?;
    let mut large = open(&server, ROOM, options.members, options)?;
    let mut small = open(&server, SMALL_ROOM, 2, options)?;
    let pass_ms = run::one_by_one(&mut large, SINGLE_MESSAGES)?.value_at_quantile(0.5) as f64 / 1e3;
    let quiet = side_by_side(&mut large, 0.0, &mut small, options)?;
    let beside = side_by_side(&mut large, most / 2.0 / options.members as f64, &mut small, options)?;
    print(options, most, pass_ms, &quiet, &beside)
}

fn open(server: &Server, room: &str, members: usize, options: &Options) -> Result<Room, Failure> {
    let token = server.token().map_err(world("sign in"))?;
    let dialect = Dialect::Stentor { token, persistence: Persistence::Passing, room: room.to_owned() };
    let shape = Shape { members, content_bytes: options.payload };
    let mut room = Room::new(server.address, dialect, shape)?;
    room.fill()?;
    room.take_in_at_once(EVENTS_AT_ONCE);
    Ok(room)
}

fn most_deliveries(options: &Options, launch: &Launch) -> Result<f64, Failure> {
    let mut offers = Offers::new(|| {
        let server = Server::start(Kind::Stentor, launch).map_err(world("start the server"))?;
        let room = open(&server, ROOM, options.members, options)?;
        Ok(FilledServer { server, room })
    });
    let duration = Duration::from_secs_f64(options.secs);
    let offer = |deliveries: f64| {
        let run = offers.offer(deliveries / options.members as f64, duration, Patience::Limited)?;
        let carried = run.ok().filter(Run::carried);
        let said = if carried.is_some() { "carried" } else { "not carried" };
        eprintln!("{deliveries:.0} deliveries/s offered: {said}");
        Ok::<_, Failure>(carried)
    };
    let most = Search::from(START_DELIVERIES_PER_SECOND).most(offer, |run| run.deliveries_per_second)?;
    let nothing = || Failure::Faulty("the large room carried no rate at all".into());
    Ok(most.ok_or_else(nothing)?.deliveries_per_second)
}

/// Measures both rooms at once. One client reads them in turns.
fn side_by_side(large: &mut Room, large_rate: f64, small: &mut Room, options: &Options) -> Result<RoundTrips, Failure> {
    run::rest(large, Duration::from_millis(500))?;
    large.received.forget();
    small.received.forget();
    let messages = |rate: f64| (rate * options.secs).ceil() as u64;
    let schedule = |room: &Room, rate: f64| Schedule::new(room.now_ns(), rate.max(f64::MIN_POSITIVE), messages(rate));
    let (mut large_schedule, mut small_schedule) = (schedule(large, large_rate), schedule(small, options.rate));
    let (start_ns, length_ns) = (large.now_ns(), Duration::from_secs_f64(options.secs).as_nanos() as u64);
    let give_up_ns = start_ns + length_ns + REST.as_nanos() as u64;
    let whole = |room: &Room, schedule: &Schedule| {
        schedule.finished() && room.received.checker.delivered >= schedule.sent * room.members() as u64
    };
    while !(whole(large, &large_schedule) && whole(small, &small_schedule)) {
        large.turn(Some(&mut large_schedule))?;
        small.turn(Some(&mut small_schedule))?;
        if large.now_ns() > give_up_ns {
            return Err(Failure::Faulty(format!(
                "{REST:?} after the end not everything had arrived: offer less than {large_rate:.0} messages/s with --max"
            )));
        }
    }
    let faults = (large.received.checker.take_faults(), small.received.checker.take_faults());
    if !(faults.0.none() && faults.1.none()) {
        return Err(Failure::Faulty(format!("messages were lost, repeated or reordered: {faults:?}")));
    }
    let seconds = (large.now_ns() - start_ns) as f64 / 1e9;
    let quantile_ms = |quantile| small.received.latency_us.value_at_quantile(quantile) as f64 / 1e3;
    Ok(RoundTrips {
        messages: small_schedule.sent,
        p50_ms: quantile_ms(0.5),
        p99_ms: quantile_ms(0.99),
        max_ms: small.received.latency_max_us as f64 / 1e3,
        large_deliveries_per_second: large.received.checker.delivered as f64 / seconds,
    })
}

fn print(options: &Options, most: f64, pass_ms: f64, quiet: &RoundTrips, beside: &RoundTrips) -> Result<(), Failure> {
    println!("{}\n{}", report::command(), cpu::machine());
    println!(
        "A room of two at {} messages/s beside one of {}, whose maximum is {:.2} M deliveries/s and whose pass takes \
         {} ms (time to its last member when quiet).",
        options.rate,
        options.members,
        most / 1e6,
        shown(Some(pass_ms))
    );
    println!("\n| the large room | M deliveries/s | p50 ms | p99 ms | max ms |\n| --- | --- | --- | --- | --- |");
    for (name, trips) in [("quiet", quiet), ("at half its maximum", beside)] {
        let figures = [trips.large_deliveries_per_second / 1e6, trips.p50_ms, trips.p99_ms, trips.max_ms];
        println!("| {name} | {} |", figures.map(|figure| shown(Some(figure))).join(" | "));
    }
    let goals = [Goal::new(
        "p99 round trip of the room of two ÷ the large room's pass",
        ratio(Some(beside.p99_ms), Some(pass_ms)),
        Bound::AtMost(0.1),
    )];
    goals::print(&goals);
    options.setting.keep(&serde_json::json!({
        "command": report::command(), "machine": cpu::machine(), "members": options.members, "max": most,
        "pass_ms": pass_ms, "quiet": quiet, "beside": beside, "goals": goals,
    }))?;
    Ok(())
}
