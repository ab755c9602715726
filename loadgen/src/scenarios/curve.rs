//! `loadgen curve`: rooms of several sizes, one after another, and what they show about larger rooms.
//!
//! Each size first runs at a quiet rate, to measure how long a single message takes to the last member. Then it runs at
//! rising rates, to find the deliveries a second that are sustained. Every run is a run of `loadgen room`, with all its
//! checks.

mod climb;
mod page;
mod projection;

use std::fs;
use std::time::{Duration, Instant};

use comfy_table::Cell;
use procfs::process::LimitValue;
use serde::{Serialize, Serializer};
use thiserror::Error;

use crate::base::{interrupt, words};
use crate::checks::latency::Percentiles;
use crate::checks::latency_name::LatencyName;
use crate::costs::listening;
use crate::costs::server::{self, ServerProbe};
use crate::options::{CurveOptions, OptionsError, RunOptions, Size};
use crate::report::{self, Environment, KEY_SHOWN, Report};
use crate::scenarios::room_results;
use crate::scenarios::scenario::{self, RunError};
use crate::team::process::{self, LOOK_EVERY, TeamError};
use crate::watch::note;
use climb::Climb;
use projection::{Basis, Projection};

/// The deliveries a second at which the search begins: any server can sustain them.
const DELIVERIES_FIRST: f64 = 20_000.0;
const RATE_FIRST_MAX: f64 = 1_000.0;
/// A rate is sustained when this part of the due deliveries arrived within the measured time.
const SUSTAINED_PART: f64 = 0.95;
/// How many connections of the run before may remain when the next run begins, and how long the rest is waited for.
const FILES_LEFT_MAX: usize = 64;
const LEAVING_MAX: Duration = Duration::from_secs(60);
/// Descriptors that a server needs for itself, and for the connections over which users sign in.
const SERVER_DESCRIPTORS_APART: u64 = 1_100;
/// The part of the remaining descriptors that is used. Connections come to a server's cores by chance. A server whose
/// cores each have a fixed share of the connections is full as soon as one core is full.
const FILLED_PART: f64 = 0.97;

#[derive(Debug, Error)]
pub enum CurveError {
    #[error("{users} users at {rate} messages/s: {source}")]
    Run { users: u32, rate: f64, source: RunError },
    #[error(
        "{users} users at {rate} messages/s: the server refused {refused} of {messages} messages because a user sent more \
         than one user may. So this rate is the limit of a user and says nothing about the server: let more users publish \
         (--publishers, in rooms of as many), or start the server with --work-per-session 0 --work-per-user 0 and \
         without --sends-per-second"
    )]
    TooFast { users: u32, rate: f64, refused: u64, messages: u64 },
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error(transparent)]
    Team(#[from] TeamError),
    #[error(
        "--sizes max: how many connections the server has room for is known only of a process on this machine: name a \
         number, or the process with --pid"
    )]
    NoLimit,
}

/// The whole curve.
#[derive(Serialize)]
pub struct Curve {
    scenario: &'static str,
    passed: bool,
    environment: Environment,
    /// The options, without secrets.
    #[serde(serialize_with = "settings_that_are_set")]
    settings: CurveOptions,
    points: Vec<Point>,
    /// Why the curve stopped early, if it did.
    failure: Option<String>,
    /// What the largest room implies for a room of a million; `None` if the server's process was not watched.
    projection: Option<Projection>,
}

fn settings_that_are_set<S: Serializer>(settings: &CurveOptions, serializer: S) -> Result<S::Ok, S::Error> {
    let settings = serde_json::to_value(settings).map_err(serde::ser::Error::custom)?;
    report::set_only(settings).serialize(serializer)
}

/// The results for one size.
#[derive(Serialize)]
struct Point {
    users: u32,
    quiet: Measured,
    /// At the highest rate that was sustained.
    best: Option<Measured>,
    /// The lowest rate that was not sustained.
    beyond: Option<Beyond>,
}

/// A rate that was too high.
#[derive(Serialize)]
struct Beyond {
    rate: f64,
    why: String,
}

/// One run.
#[derive(Clone, Serialize)]
struct Measured {
    rate: f64,
    deliveries_per_second: f64,
    /// The part of the deliveries due in the measured time that also came in the measured time.
    part: f64,
    last_member: Percentiles,
    /// Messages that the server refused: they are not among the due deliveries that came.
    refused: u64,
    messages: u64,
    /// Why the times are the generator's own, if they are.
    generator_bound: Option<String>,
    faults: Vec<String>,
    costs: Option<Costs>,
    generator_bytes_per_user: f64,
}

/// The costs of the server's process.
#[derive(Clone, Copy, Serialize)]
struct Costs {
    cores_busy: f64,
    cpu_us_per_delivery: f64,
    resident_bytes_per_connection: f64,
    kernel_bytes_per_connection: f64,
}

/// Runs all sizes, and prints the progress. If a run fails, the results before it are kept.
pub async fn run(options: &CurveOptions) -> Result<Curve, CurveError> {
    let descriptors = process::raise_descriptor_limit()?;
    let pid = options.pid.or_else(|| listening::process_at(options.target.server));
    let resident_before_bytes =
        pid.and_then(|pid| ServerProbe::new(pid).and_then(|server| server.resident_bytes()).ok()).unwrap_or_default();
    let course = Course { options, pid, files_before: pid.and_then(open_files), resident_before_bytes };
    let (mut points, mut failure) = (Vec::new(), None);
    for size in &options.sizes {
        let users = match *size {
            Size::Members(users) => users,
            Size::AsManyAsFit => as_many_as_fit(pid)?,
        };
        match course.point(users).await {
            Ok(point) => points.push(point),
            Err(error) => {
                failure = Some(error.to_string());
                break;
            }
        }
    }
    let mut settings = options.clone();
    KEY_SHOWN.clone_into(&mut settings.target.server_key);
    Ok(Curve {
        scenario: "curve",
        passed: failure.is_none() && points.iter().all(|point| point.quiet.is_faultless()),
        environment: Environment::here(),
        settings,
        projection: points.last().and_then(|point| point.basis(descriptors)).map(Projection::of),
        points,
        failure,
    })
}

/// The runs of a curve, one after another.
struct Course<'a> {
    options: &'a CurveOptions,
    /// The server's process, if it is on this machine, and how many files it had open before any user came.
    pid: Option<u32>,
    files_before: Option<usize>,
    /// The process's memory at that time. Memory is compared with this value, because a room may reuse memory that an
    /// earlier room has left.
    resident_before_bytes: u64,
}

impl Course<'_> {
    async fn point(&self, users: u32) -> Result<Point, CurveError> {
        let options = self.options;
        let quiet = self.measure(users, options.quiet_rate).await?;
        let (mut best, mut beyond): (Option<Measured>, Option<Beyond>) = (None, None);
        let first = (DELIVERIES_FIRST / f64::from(users)).min(RATE_FIRST_MAX);
        let mut climb = Climb::new(options.quiet_rate, first);
        while let Some(rate) = climb.next() {
            let found = self.measure(users, rate).await?;
            let sustained = found.is_sustained(options);
            climb.tell(rate, sustained);
            if sustained {
                if best.as_ref().is_none_or(|best| rate > best.rate) {
                    best = Some(found);
                }
            } else if beyond.as_ref().is_none_or(|beyond| rate < beyond.rate) {
                beyond = Some(Beyond { rate, why: found.complaint() });
            }
        }
        Ok(Point { users, quiet, best, beyond })
    }

    async fn measure(&self, users: u32, rate: f64) -> Result<Measured, CurveError> {
        let room = self.options.room(users, rate)?;
        self.until_all_have_left().await;
        let outcome = scenario::run(&room).await.map_err(|source| CurveError::Run { users, rate, source })?;
        let (refused, messages) = (outcome.figures.refused_too_fast, room.plan.messages());
        if refused > 0 {
            return Err(CurveError::TooFast { users, rate, refused, messages });
        }
        let measured = Measured::of(&room, rate, outcome, self.resident_before_bytes);
        let last = words::duration(measured.last_member.p99_us as f64);
        let bound = if measured.generator_bound.is_some() { " (generator-bound)" } else { "" };
        note(&format!(
            "{} users, {} messages/s: {} deliveries/s, p99 to the last member {last}{bound}{}",
            words::grouped(users.into()),
            words::number(rate),
            words::number(measured.deliveries_per_second),
            measured.faults.first().map_or(String::new(), |fault| format!("; {fault}")),
        ));
        Ok(measured)
    }

    /// Waits until the users of the run before have left, at the server too. Otherwise a run with as many users as fit
    /// would find too few free descriptors.
    async fn until_all_have_left(&self) {
        let Some((pid, before)) = self.pid.zip(self.files_before) else { return };
        let deadline = Instant::now() + LEAVING_MAX;
        let too_many = || open_files(pid).is_some_and(|files| files > before + FILES_LEFT_MAX);
        while too_many() && Instant::now() < deadline && !interrupt::is_asked() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// How many files a process has open, sockets among them.
fn open_files(pid: u32) -> Option<usize> {
    server::process(pid).ok()?.fd_count().ok()
}

/// How many connections the server's process has descriptors for.
fn as_many_as_fit(pid: Option<u32>) -> Result<u32, CurveError> {
    let limit = pid.and_then(open_files_limit).ok_or(CurveError::NoLimit)?;
    let room = limit.saturating_sub(SERVER_DESCRIPTORS_APART) as f64 * FILLED_PART;
    Ok((room as u32).max(1))
}

/// The soft limit of open files: this is the limit that applies.
fn open_files_limit(pid: u32) -> Option<u64> {
    match server::process(pid).ok()?.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Unlimited => Some(u64::MAX),
        LimitValue::Value(limit) => Some(limit),
    }
}

impl Measured {
    fn of(options: &RunOptions, rate: f64, outcome: room_results::RoomOutcome, resident_before_bytes: u64) -> Self {
        let users = f64::from(options.plan.users());
        let delivered = outcome.figures.delivered_in_window as f64;
        let due = options.plan.messages() as f64 * users;
        let generator_bytes_per_user = outcome.course.generator().1 as f64 / users;
        let last_member = outcome.figures.last_member(&options.plan).percentiles();
        let costs = Costs::of(options, &outcome, resident_before_bytes);
        let refused = outcome.answers.values().flat_map(|room| room.refused.values()).map(|of| of.len() as u64).sum();
        let report = Report::new(room_results::results(options, outcome), &[]);
        Self {
            rate,
            deliveries_per_second: delivered / options.secs,
            part: words::ratio(delivered, due),
            last_member,
            refused,
            messages: options.plan.messages(),
            generator_bound: report.generator_bound_of(LatencyName::LastMember).map(str::to_owned),
            faults: report.faults().to_vec(),
            costs,
            generator_bytes_per_user,
        }
    }

    /// A measured time, marked if it is the generator's own.
    fn time(&self, us: u64) -> String {
        let mark = if self.generator_bound.is_some() { " *" } else { "" };
        words::duration(us as f64) + mark
    }

    /// Why this rate was not sustained.
    fn complaint(&self) -> String {
        if !self.faults.is_empty() {
            return self.faults.join("; ");
        }
        if self.refused > 0 {
            let [refused, messages] = [self.refused, self.messages].map(words::grouped);
            return format!("{refused} of {messages} messages were refused");
        }
        let (part, last) = (words::number(self.part * 100.0), words::duration(self.last_member.p99_us as f64));
        format!("{part} % came while it was measured, and the p99 to the last member was {last}")
    }

    /// Whether everything was accepted, and delivered as promised.
    fn is_faultless(&self) -> bool {
        self.faults.is_empty() && self.refused == 0
    }

    fn is_sustained(&self, options: &CurveOptions) -> bool {
        let in_time = u128::from(self.last_member.p99_us) <= options.limit.as_micros();
        self.is_faultless() && in_time && self.part >= SUSTAINED_PART
    }
}

impl Costs {
    fn of(options: &RunOptions, outcome: &room_results::RoomOutcome, resident_before_bytes: u64) -> Option<Self> {
        let [begin, end] = outcome.costs.process(|costs| &costs.begin, |costs| &costs.end)?;
        let [signed_in, joined] = outcome.costs.process(|costs| &costs.signed_in, |costs| &costs.joined)?;
        let cpu_secs = end.cpu.minus(begin.cpu).secs();
        let per_connection =
            |before: u64, after: u64| ((after as f64 - before as f64) / f64::from(options.plan.users())).max(0.0);
        let kernel = |reading: crate::costs::kernel::KernelReading| reading.slab_bytes + reading.socket_buffer_bytes;
        Some(Self {
            cores_busy: cpu_secs / options.secs,
            cpu_us_per_delivery: words::ratio(cpu_secs * 1e6, outcome.figures.delivered_in_window as f64),
            resident_bytes_per_connection: per_connection(resident_before_bytes, joined.resident_bytes),
            kernel_bytes_per_connection: per_connection(kernel(signed_in.kernel), kernel(joined.kernel)),
        })
    }
}

impl Point {
    fn basis(&self, descriptors: u64) -> Option<Basis> {
        let quiet = self.quiet.costs?;
        let busy = self.best.as_ref().and_then(|best| best.costs).unwrap_or(quiet);
        Some(Basis {
            users: self.users,
            server_bytes_per_connection: quiet.resident_bytes_per_connection,
            kernel_bytes_per_connection: quiet.kernel_bytes_per_connection,
            generator_bytes_per_user: self.quiet.generator_bytes_per_user,
            cpu_us_per_delivery_quiet: quiet.cpu_us_per_delivery,
            cpu_us_per_delivery_busy: busy.cpu_us_per_delivery,
            descriptors,
        })
    }

    fn cells(&self) -> Vec<String> {
        let Self { users, quiet, best, .. } = self;
        let of_best = |cell: &dyn Fn(&Measured) -> String| best.as_ref().map_or("none".to_owned(), cell);
        let cost =
            |measured: &Measured, cell: fn(&Costs) -> String| measured.costs.as_ref().map_or(String::new(), cell);
        vec![
            words::grouped((*users).into()),
            quiet.time(quiet.last_member.p50_us),
            quiet.time(quiet.last_member.p99_us),
            cost(quiet, |costs| format!("{} µs", words::number(costs.cpu_us_per_delivery))),
            of_best(&|best| words::number(best.rate)),
            of_best(&|best| words::number(best.deliveries_per_second)),
            of_best(&|best| best.time(best.last_member.p99_us)),
            of_best(&|best| cost(best, |costs| format!("{} µs", words::number(costs.cpu_us_per_delivery)))),
            of_best(&|best| cost(best, |costs| words::number(costs.cores_busy))),
            cost(quiet, |costs| words::bytes(costs.resident_bytes_per_connection)),
            cost(quiet, |costs| words::bytes(costs.kernel_bytes_per_connection)),
        ]
    }
}

const HEADER: [&str; 11] = [
    "members",
    "quiet: last\nmember p50",
    "p99",
    "CPU per\ndelivery",
    "sustained:\nmessages/s",
    "deliveries/s",
    "last mem-\nber p99",
    "CPU per\ndelivery",
    "cores\nbusy",
    "server mem-\nory each",
    "kernel mem-\nory each",
];

const BOUND_NOTE: &str = "* generator-bound: the generator's own delays are a large part of this time.";
const PROMISE: &str = "in the quiet room of every size, everything was accepted and delivered to every member";

impl Curve {
    fn is_generator_bound(&self) -> bool {
        self.points.iter().any(|point| point.measured().any(|measured| measured.generator_bound.is_some()))
    }

    pub fn passed(&self) -> bool {
        self.passed
    }

    /// The tables and the verdict, for people.
    pub fn text(&self) -> String {
        let mut table = report::table(&HEADER);
        for point in &self.points {
            table.add_row(point.cells().into_iter().map(report::number));
        }
        let mut parts = vec![table.to_string()];
        if self.is_generator_bound() {
            parts.push(BOUND_NOTE.to_owned());
        }
        parts.extend(self.projection.as_ref().map(|projection| {
            let mut table = report::table(&[&projection.title(), "projected"]);
            for (name, value) in projection.rows() {
                table.add_row([Cell::new(name), report::number(value)]);
            }
            format!("{table}\n{}", projection.note())
        }));
        parts.extend(self.points.iter().flat_map(Point::complaints).map(|complaint| format!("  {complaint}")));
        parts.push(self.verdict());
        parts.join("\n")
    }

    fn verdict(&self) -> String {
        match &self.failure {
            Some(failure) => format!("FAILED: {failure}."),
            None if self.passed => format!("PASSED: {PROMISE}."),
            None => "FAILED: in a quiet room not everything was accepted and delivered to every member.".to_owned(),
        }
    }

    pub fn write_json(&self, path: &std::path::Path) -> std::io::Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }
}

impl Point {
    fn measured(&self) -> impl Iterator<Item = &Measured> {
        [&self.quiet].into_iter().chain(&self.best)
    }

    /// The faults at the quiet rate, and why a higher rate was not sustained.
    fn complaints(&self) -> impl Iterator<Item = String> {
        let quiet = (!self.quiet.is_faultless()).then(|| (self.quiet.rate, self.quiet.complaint()));
        let beyond = self.beyond.as_ref().map(|beyond| (beyond.rate, beyond.why.clone()));
        let said = quiet.into_iter().chain(beyond);
        said.map(|(rate, why)| {
            let members = words::grouped(self.users.into());
            format!("{members} members at {} messages/s: {why}", words::number(rate))
        })
    }
}

#[cfg(test)]
mod tests;
