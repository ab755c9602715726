//! Attacks beside a bystander: what does one peer that asks for too much cost the others?
//!
//! For each attack a server starts with its default budgets, on one shard and one core. The bystander, a room of members
//! who send and ping at a fixed pace, is timed first in quiet and then beside the attack. Attackers are a process of
//! their own. Attacks as tests, which assert work and no times, are in `tests/tests/hostile`.

mod attack;
pub mod attacker;
mod call_flood;
mod halves;
mod hang_up;
mod list;
mod openings;
mod report;
mod request_flood;
mod session_flood;

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::bystander::{Bystander, Noticed, Pace, SignIns};
use crate::companion::Companion;
use crate::cpu::Usage;
use crate::dialect::ROOM;
use crate::failure::Failure;
use crate::grpc_client::free_address;
use crate::launch::Launch;
use crate::server::{Kind, Server};
use crate::setting::{Disk, Setting};
use crate::watch::{Look, Watch};
use attack::Tally;
use attacker::{Answer, Order};
use list::{ATTACKS, Listed, find};

const QUIET: &str = "quiet";
const BESIDE: &str = "beside";
/// Neither quiet nor beside an attack.
const BETWEEN: &str = "between";
/// A server's first messages are slower, because it has never sent any.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long attackers may take to prepare.
const PREPARING_TIME_MAX: Duration = Duration::from_secs(150);
const SECS_MAX: f64 = 600.0;

#[derive(Args, Debug)]
pub struct Options {
    /// Seconds in quiet, and as many beside each attack.
    #[arg(long, default_value_t = 10.0)]
    secs: f64,
    /// Only these attacks, by name.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Names all attacks, and ends.
    #[arg(long)]
    list: bool,
    /// Members of the bystander's room.
    #[arg(long, default_value_t = 20)]
    members: usize,
    /// Messages a second in that room, and as many pings.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
    #[command(flatten)]
    disk: Disk,
    #[command(flatten)]
    setting: Setting,
}

/// What one attack came to.
#[derive(Serialize)]
struct Measured {
    attack: &'static str,
    about: &'static str,
    quiet: Phase,
    beside: Phase,
    asked: Tally,
}

/// One phase, as the bystander noticed it and as the server counted.
#[derive(Serialize)]
struct Phase {
    secs: f64,
    noticed: Noticed,
    longest_turn_ms: f64,
    /// The share of the time in which the server was ready and its core ran something else.
    disturbed_share: f64,
    resident_bytes: u64,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let listed = chosen(options)?;
    if options.list {
        listed.iter().for_each(|listed| println!("{:<18} {}", listed.name, listed.about));
        return Ok(());
    }
    let launch =
        Launch { store: "embedded".into(), data_in: Some(options.disk.directory()?), ..options.setting.launch(1)? };
    let mut all = Vec::new();
    for listed in listed {
        eprintln!("{}: {}", listed.name, listed.about);
        all.push(measure(listed, options, &launch)?);
    }
    report::report(options, &launch, &all)
}

/// Refuses options that cannot be measured. Returns the attacks to be run.
fn chosen(options: &Options) -> Result<Vec<&'static Listed>, Failure> {
    let within = |figure: f64, most: f64| figure > 0.0 && figure <= most;
    if !within(options.secs, SECS_MAX) || !within(options.rate, 1e6) || options.members == 0 {
        return Err(Failure::Options("--secs, --rate and --members must be above zero, and --secs at most 600".into()));
    }
    match &options.only[..] {
        [] => Ok(ATTACKS.iter().collect()),
        names => names.iter().map(|name| find(name)).collect(),
    }
}

/// Runs one attack on a server of its own.
fn measure(listed: &Listed, options: &Options, launch: &Launch) -> Result<Measured, Failure> {
    let grpc = free_address()?;
    let launch = &Launch { more: vec!["--grpc".into(), grpc.to_string()], ..launch.clone() };
    let server = Server::start(Kind::Stentor, launch)?;
    let pace = Pace { members: options.members, messages_per_second: options.rate, pings_per_second: options.rate };
    let mut bystander = Bystander::join(server.address, &server.token()?, ROOM, pace)?;
    if listed.times_sign_ins {
        bystander.sign_in_too(SignIns::new(server.address)?)?;
    }
    let length = Duration::from_secs_f64(options.secs);
    let watch = Watch::start(server.admin()?, server.pid());
    bystander.notice(WARM_UP)?;
    let quiet = phase(QUIET, length, &mut bystander, &watch, server.pid())?;
    let (room, attack) = (ROOM.to_owned(), listed.name.to_owned());
    let order = attacker::Options { server: server.address, grpc, room, attack, length };
    let mut attackers = Companion::start("attackers", &order, launch, attackers_cpus(launch))?;
    answer_of(&attackers, &mut bystander)?;
    await_look(&mut bystander, &watch)?;
    attackers.tell(&Order::Begin)?;
    let beside = phase(BESIDE, length, &mut bystander, &watch, server.pid())?;
    attackers.tell(&Order::Stop)?;
    let asked = answer_of(&attackers, &mut bystander)?;
    Ok(Measured { attack: listed.name, about: listed.about, quiet, beside, asked })
}

/// The attackers have the cores that the bystander leaves, if there are any.
fn attackers_cpus(launch: &Launch) -> &[usize] {
    if launch.client_cpus.len() > 1 { &launch.client_cpus[1..] } else { &launch.client_cpus }
}

fn phase(
    name: &'static str,
    length: Duration,
    bystander: &mut Bystander,
    watch: &Watch,
    pid: u32,
) -> Result<Phase, Failure> {
    let usage = Usage::of(pid, &[])?;
    let (before, begun) = (watch.looks()?.len(), Instant::now());
    watch.enter(name);
    let noticed = bystander.notice(length)?;
    let secs = begun.elapsed().as_secs_f64();
    let waited = Usage::of(pid, &[])?.since(usage).waiting;
    // The last look of the phase tells of the turns before it.
    await_look(bystander, watch)?;
    watch.enter(BETWEEN);
    let looks = watch.looks()?;
    let of_phase = || looks[before..].iter().filter(|look| look.phase == name);
    let most = |figure: fn(&Look) -> f64| of_phase().map(figure).fold(0.0, f64::max);
    Ok(Phase {
        secs,
        noticed,
        longest_turn_ms: most(|look| look.longest_turn_secs) * 1e3,
        disturbed_share: waited.as_secs_f64() / secs,
        resident_bytes: of_phase().map(|look| look.resident_bytes).max().unwrap_or_default(),
    })
}

/// Waits for a look that begins now or later.
fn await_look(bystander: &mut Bystander, watch: &Watch) -> Result<(), Failure> {
    // The look that is under way may have begun before this call.
    let since = watch.looks()?.len() + 1;
    while watch.newest(since)?.is_none() {
        bystander.rest()?;
    }
    Ok(())
}

/// Waits for the attackers' answer, while the bystander keeps reading.
fn answer_of(attackers: &Companion, bystander: &mut Bystander) -> Result<Tally, Failure> {
    let begun = Instant::now();
    loop {
        if let Some(answer) = attackers.heard::<Answer>()? {
            return answer.map_err(|text| Failure::Faulty(format!("the attackers: {text}")));
        }
        if begun.elapsed() > PREPARING_TIME_MAX {
            return Err(Failure::faulty("the attackers said nothing"));
        }
        bystander.rest()?;
    }
}
