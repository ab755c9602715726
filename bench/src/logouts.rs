//! A million logouts in the table of refused tokens that the shards of a server share: the memory that the table takes, and what
//! a logout, a check of a token, a start and forgetting cost.

use std::hint::black_box;
use std::io;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use clap::Args;
use engine::id::{Timestamp, UserId};
use gateway::client_network::SiteKey;
use gateway::revocations::{Issue, Maker, Revocations, Room};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::Serialize;
use storage::account::Revocation;
use uuid::Uuid;

use crate::cpu;
use crate::failure::Failure;
use crate::report::{self, Conditions, median};
use crate::setting::Setting;

/// How long a token is remembered: as long as refresh tokens are good by default.
const LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// Operations of a sample. Each cost is the median of the means of its samples.
const SAMPLE: usize = 500;
const SAMPLES: usize = 20;
/// Logouts after everything has expired, so many that every part of the table has one and forgets what it has.
const LATE_LOGOUTS: usize = 20 * 1024;

#[derive(Args, Debug)]
pub struct Options {
    /// Logouts that the table has at the end, each of another user.
    #[arg(long, default_value_t = 1_000_000)]
    logouts: usize,
    /// Sites from which the users log out, in turns: a site has a part of the table only.
    #[arg(long, default_value_t = 10_000)]
    sites: u64,
    #[command(flatten)]
    setting: Setting,
}

/// What one operation costs, in nanoseconds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Costs {
    logout: f64,
    check_of_good: f64,
    check_of_refused: f64,
}

#[derive(Debug, Serialize)]
struct Figures {
    /// With as many logouts as there are samples, at most.
    few: Costs,
    all: Costs,
    /// Memory of the process that came with the logouts, in bytes.
    memory: u64,
    /// Reading the logouts of a store into a new table, in seconds.
    start_s: f64,
    /// A logout of a part of the table that forgets what it has, in nanoseconds for each logout that is forgotten.
    forgotten: f64,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let Options { logouts, sites, setting } = options;
    if *logouts < 2 * SAMPLE * SAMPLES || *sites == 0 {
        let least = 2 * SAMPLE * SAMPLES;
        return Err(Failure::Options(format!("--logouts must be {least} at least, and --sites above zero")));
    }
    let figures = measure(*logouts, *sites)?;
    println!("{}", Conditions::here());
    println!(
        "Logouts of {logouts} users from {sites} sites, each of one token that is good for {LIFE:?}. Few are {} at most.\n",
        SAMPLE * SAMPLES
    );
    let row = |name, cost: fn(Costs) -> f64| {
        report::row(name, [cost(figures.few), cost(figures.all)].map(|nanoseconds| Some(nanoseconds / 1000.0)))
    };
    let rows = [
        row("a logout", |costs| costs.logout),
        row("a check of a good token", |costs| costs.check_of_good),
        row("a check of a refused token", |costs| costs.check_of_refused),
    ];
    println!("{}", report::table("µs of | with few | with all", rows));
    let bytes = figures.memory as f64 / *logouts as f64;
    println!("\nmemory: {:.1} MiB, {bytes:.0} bytes a logout", figures.memory as f64 / (1 << 20) as f64);
    println!("a start with all of them in the store: {:.0} ms", figures.start_s * 1000.0);
    println!("forgetting, with the next logout of the same part: {:.0} ns each", figures.forgotten);
    Ok(setting.keep(&figures)?)
}

/// One user's logout.
#[derive(Clone, Copy)]
struct Logout {
    token: Uuid,
    maker: Maker,
}

/// Makes logouts of ever new users.
struct Users {
    draws: ChaCha8Rng,
    sites: u64,
    made: u64,
}

impl Users {
    fn new(sites: u64) -> Users {
        Users { draws: ChaCha8Rng::seed_from_u64(0), sites, made: 0 }
    }

    fn id(&mut self) -> Uuid {
        Uuid::from_u64_pair(self.draws.next_u64(), self.draws.next_u64())
    }

    fn next(&mut self) -> Logout {
        let site = SiteKey(NonZeroU64::MIN.saturating_add(self.made % self.sites));
        self.made += 1;
        Logout { token: self.id(), maker: Maker { user: UserId(self.id()), site } }
    }
}

fn measure(logouts: usize, sites: u64) -> Result<Figures, Failure> {
    let begun = Timestamp(1_000_000_000_000_000_000);
    let expires = Timestamp(begun.0 + LIFE.as_nanos() as i64);
    let mut users = Users::new(sites);
    let table = Revocations::new(LIFE, &[], begun);
    // All logouts are made before memory is looked at.
    let all: Vec<Logout> = (0..logouts).map(|_| users.next()).collect();
    let strangers: Vec<Logout> = (0..SAMPLE * SAMPLES).map(|_| users.next()).collect();
    let before = cpu::resident_bytes(std::process::id())?;
    let (first, rest) = all.split_at(SAMPLE * SAMPLES);
    let (between, last) = rest.split_at(rest.len() - SAMPLE * SAMPLES);
    let few_good = cost(&strangers, |stranger| Ok(!refuses(&table, stranger)))?;
    let few_logout = cost(first, |logout| log_out(&table, logout, expires, begun))?;
    let few_refused = cost(first, |logout| Ok(refuses(&table, logout)))?;
    for logout in between {
        require(log_out(&table, logout, expires, begun)?)?;
    }
    let all_logout = cost(last, |logout| log_out(&table, logout, expires, begun))?;
    let memory = cpu::resident_bytes(std::process::id())?.saturating_sub(before);
    let all_good = cost(&strangers, |stranger| Ok(!refuses(&table, stranger)))?;
    let all_refused = cost(last, |logout| Ok(refuses(&table, logout)))?;
    let start_s = start(&all, expires, begun)?;
    let forgotten = forget(&table, &all, &mut users, expires)?;
    Ok(Figures {
        few: Costs { logout: few_logout, check_of_good: few_good, check_of_refused: few_refused },
        all: Costs { logout: all_logout, check_of_good: all_good, check_of_refused: all_refused },
        memory,
        start_s,
        forgotten,
    })
}

/// Logs out as the server does, without the store. Returns whether the token has an entry of its own from now on.
fn log_out(table: &Revocations, logout: &Logout, expires: Timestamp, now: Timestamp) -> io::Result<bool> {
    let room = table.room_for_token(logout.token, logout.maker, now);
    if room == Room::Token {
        table.add_token(logout.token, expires, logout.maker, now);
    }
    Ok(room == Room::Token)
}

fn refuses(table: &Revocations, logout: &Logout) -> bool {
    table.refuses(black_box(logout.token), logout.maker.user, Issue::Sequence(1))
}

/// Nanoseconds of each operation. Fails if one of them does not do what it should.
fn cost(logouts: &[Logout], mut operation: impl FnMut(&Logout) -> io::Result<bool>) -> Result<f64, Failure> {
    let mut means = Vec::new();
    for sample in logouts.chunks(SAMPLE) {
        let (begun, mut right) = (Instant::now(), 0);
        for logout in sample {
            right += usize::from(operation(logout)?);
        }
        means.push(begun.elapsed().as_nanos() as f64 / sample.len() as f64);
        require(right == sample.len())?;
    }
    median(means).ok_or_else(|| Failure::faulty("nothing was measured"))
}

fn require(is_right: bool) -> Result<(), Failure> {
    if is_right {
        return Ok(());
    }
    Err(Failure::faulty("the table has no room for so many logouts of so many sites, or a check of a token was wrong"))
}

/// Seconds that a new table takes to take in the logouts that a store has kept.
fn start(all: &[Logout], expires: Timestamp, now: Timestamp) -> Result<f64, Failure> {
    let kept: Vec<_> = all.iter().map(|logout| Revocation::Token { id: logout.token, expires }).collect();
    let begun = Instant::now();
    let table = Revocations::new(LIFE, &kept, now);
    let spent = begun.elapsed().as_secs_f64();
    require(all.iter().step_by(SAMPLE).all(|logout| refuses(&table, logout)))?;
    Ok(spent)
}

/// Nanoseconds for each logout that is forgotten, when the next ones come after all have expired.
fn forget(table: &Revocations, all: &[Logout], users: &mut Users, expired: Timestamp) -> Result<f64, Failure> {
    let (now, expires) = (Timestamp(expired.0 + 1), Timestamp(expired.0 + LIFE.as_nanos() as i64));
    let late: Vec<Logout> = (0..LATE_LOGOUTS).map(|_| users.next()).collect();
    let begun = Instant::now();
    for logout in &late {
        require(log_out(table, logout, expires, now)?)?;
    }
    let spent = begun.elapsed();
    require(!all.iter().any(|logout| refuses(table, logout)))?;
    Ok(spent.as_nanos() as f64 / all.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logouts_are_made_checked_and_forgotten() {
        let figures = measure(2 * SAMPLE * SAMPLES + 1, 1000).unwrap();
        for costs in [figures.few, figures.all] {
            assert!(costs.logout > 0.0 && costs.check_of_good > 0.0 && costs.check_of_refused > 0.0);
        }
        assert!(figures.forgotten > 0.0 && figures.start_s > 0.0);
    }

    #[test]
    fn one_site_cannot_fill_the_table() {
        assert!(matches!(measure(200_000, 1), Err(Failure::Faulty(_))));
    }
}
