//! A room of thousands whose members are cut all at once and come back: does the server answer throughout, how soon are
//! all members back, and what do the members notice that were never cut?
//!
//! The members who are cut are in several processes, and try again with waits of their own. Some members of the same
//! room are never cut; they send and ping at a fixed pace and are timed before, during and after the return.
//!
//! A pass through the room goes in the order in which its members came. Members who have just joined are in the order of
//! their processes, and members who came back are in random order, which costs the machine more. So all of them come back
//! once before anything is timed, and the windows before and after the cut have members in the same kind of order.

mod backoff;
pub mod generator;
mod report;
mod timers;

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::bystander::{Bystander, Noticed, Pace};
use crate::companion::Companion;
use crate::cpu::{self, Usage};
use crate::dialect::ROOM;
use crate::failure::Failure;
use crate::launch::Launch;
use crate::metrics::Metrics;
use crate::server::{Kind, Server};
use crate::setting::{Disk, Setting};
use crate::sockets::PORTS_PER_ADDRESS;
use crate::watch::{Look, Watch};
use generator::{Answer, Order, Outcome};

/// Windows before the cut, and after all are back.
const WINDOWS: usize = 4;
/// How long members may take to come back, beyond the longest plan that their waits allow.
const RETURNING_TIME_MAX: Duration = Duration::from_secs(120);
/// Descriptors of the server that are for its operators and for connections that end: a few hundred sockets that were
/// cut may not have been closed yet when others come.
const SPARE_CONNECTIONS: u64 = 256;
/// Local addresses of the members begin here.
const FIRST_ADDRESS: u8 = 20;
const FILLING_TIME_MAX: Duration = Duration::from_secs(150);
const SECS_MAX: f64 = 600.0;

#[derive(Args, Debug)]
pub struct Options {
    /// Members of the room, the uncut ones included. Fewer if the server or a process can open fewer connections.
    #[arg(long, default_value_t = 18_000)]
    members: usize,
    /// How many of them are never cut, and are timed.
    #[arg(long, default_value_t = 500)]
    uncut: usize,
    /// Openings that are tried until all members are back, if no opening fails but the spoiled ones.
    #[arg(long, default_value_t = 100_000)]
    openings: usize,
    /// Messages a second in the room.
    #[arg(long, default_value_t = 2.0)]
    rate: f64,
    /// Pings a second of the members that are never cut.
    #[arg(long, default_value_t = 100.0)]
    pings: f64,
    /// Seconds of each of the four windows before the cut, and of the four after the return.
    #[arg(long, default_value_t = 5.0)]
    secs: f64,
    /// The members who are cut do not show themselves in the room.
    #[arg(long)]
    hidden: bool,
    #[command(flatten)]
    disk: Disk,
    #[command(flatten)]
    setting: Setting,
}

/// Everything that was measured.
#[derive(Default, Serialize)]
struct Measured {
    members: usize,
    before: Vec<Noticed>,
    during: Noticed,
    after: Vec<Noticed>,
    outcome: Outcome,
    /// The most that was seen before the cut, from the cut until all were back, and after that.
    stood: [Stood; 3],
    looks: Vec<Look>,
}

#[derive(Clone, Copy, Default, Serialize)]
struct Stood {
    resident_bytes: u64,
    kernel_tcp_bytes: u64,
    longest_turn_secs: f64,
    /// The CPU time of the server as a share of one core, and the share of the time in which it was ready and its core
    /// ran something else.
    core_share: f64,
    disturbed_share: f64,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    check(options)?;
    let launch = Launch {
        store: "embedded".into(),
        more: ["--session-ttl", "1h"].map(str::to_owned).into(),
        data_in: Some(options.disk.directory()?),
        ..options.setting.launch(1)?
    };
    let server = Server::start(Kind::Stentor, &launch)?;
    let room_of_server = Metrics::read(server.admin()?)?.one("stentor_connections_max")?;
    let members = fitting(options.members, room_of_server);
    if members < options.members {
        println!(
            "Of {} members, {members} fit: the server takes {room_of_server} connections here.\n",
            options.members
        );
    }
    if members <= options.uncut {
        return Err(Failure::Options("as many members as are never cut do not fit".into()));
    }
    let pace = Pace { members: options.uncut, messages_per_second: options.rate, pings_per_second: options.pings };
    let mut bystander = Bystander::join(server.address, &server.token()?, ROOM, pace)?;
    let watch = Watch::start(server.admin()?, server.pid());
    watch.enter("filling");
    let mut crowds = start(options, members, &launch, &server)?;
    hear_all(&crowds, &mut bystander, FILLING_TIME_MAX)?;
    watch.enter("mixing");
    mix(&mut crowds, &mut bystander)?;
    let measured = measure(options, members, &mut crowds, &mut bystander, &watch, server.pid())?;
    report::report(options, &launch, &measured)
}

fn check(options: &Options) -> Result<(), Failure> {
    let refuse = |text: &str| Err(Failure::Options(text.into()));
    if options.uncut == 0 || options.uncut >= options.members {
        return refuse("--uncut must be at least one, and less than --members");
    }
    if !(options.secs > 0.0 && options.secs <= SECS_MAX && options.rate > 0.0 && options.pings > 0.0) {
        return refuse("--secs, --rate and --pings must be above zero, and --secs at most 600");
    }
    if options.rate * options.secs < 1.0 {
        return refuse("a window of --secs must have a message at least");
    }
    let limit = cpu::raise_descriptor_limit();
    if options.uncut as u64 + SPARE_CONNECTIONS > limit {
        return refuse(&format!("a process may open {limit} descriptors here (`ulimit -Hn`), and so many do not fit"));
    }
    Ok(())
}

/// How many members fit, if the server takes so many connections.
fn fitting(members: usize, connections_max: u64) -> usize {
    members.min(connections_max.saturating_sub(SPARE_CONNECTIONS) as usize)
}

/// A process of members who will be cut.
struct Crowd {
    process: Companion,
    members: usize,
    /// The openings that its members try until they are back.
    openings: usize,
}

/// Starts the processes of the members who will be cut.
fn start(options: &Options, members: usize, launch: &Launch, server: &Server) -> Result<Vec<Crowd>, Failure> {
    let cut = members - options.uncut;
    let cpus = &launch.client_cpus;
    let cpus = if cpus.len() > 1 { &cpus[1..] } else { &cpus[..] };
    let (mut crowds, mut started) = (Vec::new(), 0);
    for (number, first) in (FIRST_ADDRESS..).zip((0..cut).step_by(PORTS_PER_ADDRESS)) {
        let members = PORTS_PER_ADDRESS.min(cut - first);
        started += members;
        let of_process = generator::Options {
            server: server.address,
            room: ROOM.to_owned(),
            number,
            members,
            visible: !options.hidden,
            patience: RETURNING_TIME_MAX,
        };
        let process = Companion::start("crowd-of-reconnects", &of_process, launch, cpus)?;
        crowds.push(Crowd { process, members, openings: share(options.openings, first, members, cut) });
    }
    assert_eq!(started, cut, "each member who is cut is in one process");
    Ok(crowds)
}

/// The part of all openings that so many of all members try, behind the first ones. The parts are all openings together.
fn share(openings: usize, first: usize, members: usize, all: usize) -> usize {
    openings * (first + members) / all - openings * first / all
}

/// Lets all members come back once, each with one opening.
fn mix(crowds: &mut [Crowd], bystander: &mut Bystander) -> Result<(), Failure> {
    for crowd in &mut *crowds {
        crowd.process.tell(&Order::Cut { openings: crowd.members })?;
    }
    hear_all(crowds, bystander, RETURNING_TIME_MAX * 2)
}

fn measure(
    options: &Options,
    members: usize,
    crowds: &mut [Crowd],
    bystander: &mut Bystander,
    watch: &Watch,
    pid: u32,
) -> Result<Measured, Failure> {
    let window = Duration::from_secs_f64(options.secs);
    let windows = |bystander: &mut Bystander| -> Result<Vec<Noticed>, Failure> {
        (0..WINDOWS).map(|_| bystander.notice(window)).collect()
    };
    watch.enter("warm up");
    bystander.notice(window.min(Duration::from_secs(1)))?;
    watch.enter("before");
    let mut meter = Meter::start(pid)?;
    let before = windows(bystander)?;
    let used_before = meter.read()?;
    watch.enter("during");
    for crowd in &mut *crowds {
        crowd.process.tell(&Order::Cut { openings: crowd.openings })?;
    }
    let mut outcomes: Vec<Option<Outcome>> = crowds.iter().map(|_| None).collect();
    let during = bystander.notice_until(RETURNING_TIME_MAX * 2, || {
        for (outcome, crowd) in outcomes.iter_mut().zip(&*crowds).filter(|(outcome, _)| outcome.is_none()) {
            *outcome = crowd.process.heard::<Answer>()?.map(answered).transpose()?;
        }
        Ok(outcomes.iter().all(Option::is_some))
    })?;
    let used_during = meter.read()?;
    watch.enter("after");
    let after = windows(bystander)?;
    let used_after = meter.read()?;
    let looks = watch.looks()?;
    let outcome = outcomes.into_iter().flatten().reduce(Outcome::and).unwrap_or_default();
    assert_eq!(outcome.members, (members - options.uncut) as u64, "each member who was cut is in the outcome");
    assert!(outcome.back <= outcome.members, "{} of {} members are back", outcome.back, outcome.members);
    let stood = [("before", used_before), ("during", used_during), ("after", used_after)].map(
        |(phase, (core_share, disturbed_share))| Stood { core_share, disturbed_share, ..Stood::most(&looks, phase) },
    );
    Ok(Measured { members, before, during, after, outcome, stood, looks })
}

/// Waits for an answer of each process, while the members that are never cut keep reading.
fn hear_all(crowds: &[Crowd], bystander: &mut Bystander, patience: Duration) -> Result<(), Failure> {
    let begun = Instant::now();
    for crowd in crowds {
        while crowd.process.heard::<Answer>()?.map(answered).transpose()?.is_none() {
            bystander.rest()?;
            if begun.elapsed() > patience {
                return Err(Failure::faulty("not all members joined in time"));
            }
        }
    }
    Ok(())
}

fn answered(answer: Answer) -> Result<Outcome, Failure> {
    answer.map_err(|text| Failure::Faulty(format!("a crowd: {text}")))
}

/// What the server uses from one reading to the next.
struct Meter {
    pid: u32,
    read: Instant,
    usage: Usage,
}

impl Meter {
    fn start(pid: u32) -> Result<Meter, Failure> {
        Ok(Meter { pid, read: Instant::now(), usage: Usage::of(pid, &[])? })
    }

    /// The shares of the time since the last reading in which the server had its core, and in which it waited for it.
    fn read(&mut self) -> Result<(f64, f64), Failure> {
        let now = Meter::start(self.pid)?;
        let before = std::mem::replace(self, now);
        let (used, secs) = (self.usage.since(before.usage), (self.read - before.read).as_secs_f64());
        Ok((used.cpu.as_secs_f64() / secs, used.waiting.as_secs_f64() / secs))
    }
}

impl Stood {
    fn most(looks: &[Look], phase: &str) -> Stood {
        let of_phase = || looks.iter().filter(|look| look.phase == phase);
        Stood {
            resident_bytes: of_phase().map(|look| look.resident_bytes).max().unwrap_or_default(),
            kernel_tcp_bytes: of_phase().map(|look| look.kernel_tcp_bytes).max().unwrap_or_default(),
            longest_turn_secs: of_phase().map(|look| look.longest_turn_secs).fold(0.0, f64::max),
            ..Stood::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_members_are_taken_as_fit() {
        assert_eq!(fitting(18_000, 18_900), 18_000);
        assert_eq!(fitting(18_000, 10_256), 10_000);
        assert_eq!(fitting(18_000, 100), 0);
    }

    #[test]
    fn processes_share_the_openings_by_their_members() {
        let shares = [0, 5_000, 10_000].map(|first| share(100_000, first, 5_000, 17_500));
        let last = share(100_000, 15_000, 2_500, 17_500);
        assert_eq!((shares, last), ([28_571, 28_571, 28_572], 14_286));
        assert_eq!(shares.iter().sum::<usize>() + last, 100_000);
        assert_eq!(share(100_000, 0, 17_500, 17_500), 100_000);
    }
}
