//! `loadgen history`: the coordinator's side, and the results.
//!
//! One publisher fills the room. The whole history is read once in both directions and must be what the publisher sent.
//! Then pages of it are read at a rate, and each page must be what it was the first time. So the figures are those of
//! correct answers.

mod fill;
mod walk;

use std::time::{Duration, Instant};

use thiserror::Error;

use crate::base::clock::{self, SECOND_NS};
use crate::base::words::{grouped, number, ratio};
use crate::checks::known_pages::{KnownPage, PageKind};
use crate::clients::pages::{self, Reader};
use crate::clients::sign_in::{FrontDoor, SignInError};
use crate::costs::listening;
use crate::costs::series::ServerWatch;
use crate::costs::server::{CpuTime, ServerProbe};
use crate::options::HistoryOptions;
use crate::orders::history_reads::{Fetched, Reading};
use crate::orders::{Order, Word};
use crate::report::{Course, Generator, KEY_SHOWN, Mark, Route, RunResults, Section, Value};
use crate::scenarios::find_listener::{NoServer, find_listener};
use crate::team::machine::MachineFigures;
use crate::team::process::{Sites, Team, TeamError};
use crate::watch::{self, Stage, Watch};

use fill::{FillError, Filler, Filling, PUBLISHER, Said};
use walk::{Walk, WalkError, WalkFigures};

/// Workers receive the start this long before it, so that none is late for the first read.
const START_DELAY_NS: u64 = SECOND_NS / 2;
/// A reader gives up a read after half a minute without an answer. The coordinator waits this long for the last reads.
const LAST_ANSWERS: Duration = Duration::from_secs(35);

#[derive(Debug, Error)]
pub enum HistoryError {
    #[error(transparent)]
    NoServer(#[from] NoServer),
    #[error(transparent)]
    Team(#[from] TeamError),
    #[error(transparent)]
    Fill(#[from] FillError),
    #[error(transparent)]
    Walk(#[from] WalkError),
    #[error("the publisher cannot sign in: {0}")]
    SignIn(#[from] SignInError),
    #[error("the server's process cannot be watched: {0}")]
    Probe(#[from] std::io::Error),
}

/// A finished run, before it is judged.
pub struct HistoryOutcome {
    processes: usize,
    machines: Vec<MachineFigures>,
    filling: Option<Duration>,
    walked: WalkFigures,
    pages: usize,
    fetched: Fetched,
    /// During the measured time.
    server_cpu: Option<CpuTime>,
    course: Course,
}

/// Runs the scenario to its end.
pub async fn run(options: &HistoryOptions) -> Result<HistoryOutcome, HistoryError> {
    find_listener(options.target.server).await?;
    let pid = options.pid.or_else(|| listening::process_at(options.target.server));
    let probe = pid.map(ServerProbe::new).transpose()?;
    let target = &options.target;
    let door = FrontDoor::new(target.server, target.sign_in, &target.server_key);
    let account = format!("{}{PUBLISHER:08}", target.account_prefix);
    let token = door.sign_in(&account).await?;

    let mut said = Vec::new();
    let (mut filling, mut member) = (None, None);
    let mut channel_id = pages::channel_of_room(&options.entrance.room);
    if options.messages > 0 || !options.absent {
        let mut filler = Filler::enter(target, &token, &options.entrance).await?;
        filler.channel_id().clone_into(&mut channel_id);
        let begun = Instant::now();
        said = fill(&mut filler, options).await?;
        filling = (options.messages > 0).then(|| begun.elapsed());
        member = (!options.absent).then(|| filler.stay());
    }
    let mut reader = Reader::new(&door, account).await?;
    let walk = Walk::take(&mut reader, &channel_id, options.page_items).await?;
    let walked = walk::judge(&walk, options.run, &said);
    let Walk { pages, .. } = walk;

    let mut reading = Run::start(options, channel_id, &pages, probe).await?;
    let (server_cpu, fetched) = reading.read().await?;
    drop(member);
    let (processes, course) = (reading.team.len(), reading.course());
    let machines = reading.team.dismiss().await?;
    Ok(HistoryOutcome { processes, machines, filling, walked, pages: pages.len(), fetched, server_cpu, course })
}

async fn fill(filler: &mut Filler, options: &HistoryOptions) -> Result<Vec<Said>, FillError> {
    let filling = Filling { run: options.run, messages: options.messages, payload_bytes: options.payload_bytes };
    let mut told = Instant::now();
    let tell = |answered| {
        if told.elapsed() >= watch::LINE_EVERY {
            watch::note(&format!("filling: {answered}/{}", options.messages));
            told = Instant::now();
        }
    };
    filler.fill(&options.target, &filling, tell).await
}

struct Run<'a> {
    options: &'a HistoryOptions,
    probe: Option<ServerProbe>,
    server_watch: Option<ServerWatch>,
    team: Team,
    window: std::ops::Range<u64>,
}

impl<'a> Run<'a> {
    async fn start(
        options: &'a HistoryOptions,
        channel_id: String,
        pages: &[KnownPage],
        probe: Option<ServerProbe>,
    ) -> Result<Self, HistoryError> {
        let sites = Sites::find(&options.workforce, options.readers, u64::from(options.run)).await?;
        let in_flight = options.in_flight.div_ceil(sites.processes());
        let order = |readers: std::ops::Range<u32>| {
            Order::Read(Reading {
                target: options.target.clone(),
                run: options.run,
                seed: options.seed,
                channel_id: channel_id.clone(),
                limit: options.page_items,
                pages: pages.to_vec(),
                newest: options.newest,
                timetable: options.timetable,
                // The publisher has the first number, so the readers' numbers follow it.
                readers: readers.start + 1..readers.end + 1,
                readers_total: options.readers,
                threads: options.threads,
                in_flight,
            })
        };
        let orders = sites.parts().map(order).collect();
        let team = Team::start(sites, orders).await?;
        Ok(Self { options, server_watch: probe.map(ServerWatch::start), probe, team, window: 0..0 })
    }

    /// All readers sign in and read. Returns the server's CPU time in the measured time, and the results of the reads.
    async fn read(&mut self) -> Result<(Option<CpuTime>, Fetched), HistoryError> {
        self.team.complete(&mut Watch::new(Stage::signing_in(self.options.readers))).await?;
        let timetable = self.options.timetable;
        let start_ns = clock::now_ns() + START_DELAY_NS;
        self.window = start_ns + timetable.warmup_ns..start_ns + timetable.end_ns;
        self.team.order_all(&Order::Begin { start_ns }).await?;
        let mut watch = Watch::new(Stage::reading(timetable.reads()));
        self.team.watch_until(&mut watch, self.window.start, |_| true).await?;
        let before = self.probe.map(|probe| probe.cpu()).transpose()?;
        self.team.watch_until(&mut watch, self.window.end, |_| true).await?;
        let after = self.probe.map(|probe| probe.cpu()).transpose()?;
        self.settle(&mut watch).await?;
        self.team.order_all(&Order::Stop).await?;
        let wanted = |word| if let Word::Fetched(part) = word { Some(part) } else { None };
        let parts = self.team.gather(Some(&mut watch), wanted).await?;
        let mut fetched = Fetched::default();
        parts.into_iter().for_each(|part| fetched.add(*part));
        Ok((before.zip(after).map(|(before, after)| after.minus(before)), fetched))
    }

    async fn settle(&mut self, watch: &mut Watch) -> Result<(), TeamError> {
        let reads = self.options.timetable.reads();
        let deadline_ns = clock::now_ns() + LAST_ANSWERS.as_nanos() as u64;
        self.team.watch_until(watch, deadline_ns, |progress| progress.accepted + progress.refused < reads).await
    }

    fn course(&mut self) -> Course {
        let series = self.team.series_with(self.server_watch.take());
        let marks = vec![Mark::new(self.window.start, "measuring"), Mark::new(self.window.end, "no more reads")];
        Course { series, marks, window: self.window.clone(), drain_secs: None }
    }
}

pub fn results(options: &HistoryOptions, outcome: HistoryOutcome) -> RunResults {
    let sections = [whole(&outcome), reads(options, &outcome)];
    let server = outcome.server_cpu.map(|cpu| server(options, &outcome.fetched, cpu));
    let heading = format!(
        "{} reads/s of room {:?} with {} items on {} for {} s (after {} s of warm-up), {} readers, pages of {}, {}",
        number(options.rate),
        options.entrance.room,
        grouped(outcome.walked.items),
        options.target.server,
        options.secs,
        options.warmup_secs,
        options.readers,
        options.page_items,
        if options.absent { "members absent" } else { "a member present" },
    );
    let mut settings = options.clone();
    KEY_SHOWN.clone_into(&mut settings.target.server_key);
    let HistoryOutcome { machines, mut fetched, course, .. } = outcome;
    let latencies = PageKind::ALL
        .into_iter()
        .filter_map(|kind| Some((kind.latency(), Route::Timed, fetched.latencies.remove(&kind)?)));
    let nothing = (fetched.answered == 0).then(|| "no page was read, so nothing was shown".to_owned());
    RunResults {
        scenario: "history",
        heading,
        settings: serde_json::to_value(settings).expect("options are plain structures, which always serialise"),
        sections: sections.into_iter().chain(server).collect(),
        latencies: latencies.collect(),
        faults: nothing.into_iter().collect(),
        promise: "the history was what had been said, and every page of it what it was, whichever way it was read",
        samples: fetched.samples.into_texts(),
        generator: Generator {
            lateness: fetched.lateness,
            lag: fetched.lag,
            threads: fetched.threads,
            machines,
            ..Generator::default()
        },
        course,
    }
}

/// The history, as it was read once from end to end.
fn whole(outcome: &HistoryOutcome) -> Section {
    let found = &outcome.walked;
    let section = Section::new("history")
        .count("items", found.items)
        .count("pages known", outcome.pages as u64)
        .count("expected", found.expected)
        .fault("missing", found.missing, "missing in the history")
        .fault("duplicates", found.duplicates, "twice in the history")
        .fault("out of order", found.out_of_order, "out of order in the history")
        .fault("corrupt", found.corrupt, "corrupt in the history")
        .fault("directions differ", found.directions_differ, "not the same in both directions")
        .count("kept in other bytes", found.reworded)
        .count("of others", found.foreign);
    match outcome.filling {
        None => section,
        Some(filling) => section
            .row("filling", Value::Seconds(filling.as_secs_f64()))
            .row("filled per second", Value::Number(ratio(found.expected as f64, filling.as_secs_f64()))),
    }
}

fn reads(options: &HistoryOptions, outcome: &HistoryOutcome) -> Section {
    let fetched = &outcome.fetched;
    let due = options.timetable.reads();
    Section::new("reads")
        .count("scheduled", due)
        .count("asked", fetched.asked)
        .count("answered", fetched.answered)
        .fault("refused", fetched.refused, "reads were refused")
        .fault("failed", fetched.failed, "reads failed")
        .fault("not asked", due.saturating_sub(fetched.asked), "reads never had their turn")
        .fault("wrong pages", fetched.wrong, "pages were not what they had been")
        .count("corrupt items on them", fetched.corrupt)
        .count("items", fetched.items)
        .row("answered per second", Value::Number(ratio(fetched.answered_in_window as f64, options.secs)))
        .count("processes", outcome.processes as u64)
}

fn server(options: &HistoryOptions, fetched: &Fetched, cpu: CpuTime) -> Section {
    Section::new("server")
        .row("CPU, user", Value::Seconds(cpu.user_secs))
        .row("CPU, system", Value::Seconds(cpu.system_secs))
        .row("cores busy", Value::Number(ratio(cpu.secs(), options.secs)))
        .row("CPU per read", Value::Microseconds(ratio(cpu.secs() * 1e6, fetched.answered_in_window as f64)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::checks::latency::Latency;
    use crate::options::{Arguments, Command};
    use crate::report::Report;

    /// A hundred reads in a second.
    fn options() -> HistoryOptions {
        let line = "loadgen history --rate 100 --secs 1 --server-key hush --addr 127.0.0.1:1";
        let Ok(Arguments { command: Command::History(history) }) = Arguments::try_parse_from(line.split(' ')) else {
            panic!("{line} is no history")
        };
        HistoryOptions::try_from(history).expect("valid")
    }

    fn outcome() -> HistoryOutcome {
        let mut latency = Latency::default();
        (0..100).for_each(|_| latency.record_ns(5_000_000));
        let latencies = [(PageKind::Newest, latency)].into();
        let fetched = Fetched { asked: 100, answered: 100, answered_in_window: 100, latencies, ..Fetched::default() };
        HistoryOutcome {
            processes: 1,
            machines: Vec::new(),
            filling: Some(Duration::from_secs(2)),
            walked: WalkFigures { items: 50, expected: 50, ..WalkFigures::default() },
            pages: 3,
            fetched,
            server_cpu: None,
            course: Course::default(),
        }
    }

    fn report(change: impl FnOnce(&mut HistoryOutcome)) -> Report {
        let mut outcome = outcome();
        change(&mut outcome);
        Report::new(results(&options(), outcome), &[])
    }

    #[test]
    fn every_fault_of_a_history_fails_the_run_by_its_name() {
        assert_eq!(report(|_| {}).faults(), [""; 0]);
        let check = |change: fn(&mut HistoryOutcome), expected: &[&str]| assert_eq!(report(change).faults(), expected);
        check(|outcome| outcome.walked.missing = 1, &["1 missing in the history"]);
        check(|outcome| outcome.walked.duplicates = 1, &["1 twice in the history"]);
        check(|outcome| outcome.walked.out_of_order = 1, &["1 out of order in the history"]);
        check(|outcome| outcome.walked.corrupt = 1, &["1 corrupt in the history"]);
        check(|outcome| outcome.walked.directions_differ = 1, &["1 not the same in both directions"]);
        check(|outcome| outcome.fetched.refused = 2, &["2 reads were refused"]);
        check(|outcome| outcome.fetched.failed = 2, &["2 reads failed"]);
        check(|outcome| outcome.fetched.wrong = 2, &["2 pages were not what they had been"]);
        check(|outcome| outcome.fetched.asked = 98, &["2 reads never had their turn"]);
        let nothing = |outcome: &mut HistoryOutcome| outcome.fetched = Fetched { asked: 100, ..Fetched::default() };
        check(nothing, &["no page was read, so nothing was shown"]);
        check(|outcome| (outcome.walked.reworded, outcome.walked.foreign) = (9, 9), &[]);
    }

    #[test]
    fn the_latency_is_that_of_each_kind_of_page_and_no_key_is_shown() {
        let json = serde_json::to_value(report(|_| {})).expect("JSON");
        assert_eq!(json["latency"]["newest_page"]["count"], 100);
        assert_eq!(json["latency"].get("deep_back"), None, "no such page was read");
        assert_eq!(json["history"]["filled_per_second"], 25.0);
        assert!(!json["settings"].to_string().contains("hush"), "{}", json["settings"]);
        assert_eq!(json["settings"]["target"]["server_key"], KEY_SHOWN);
    }

    #[test]
    fn the_servers_time_is_shared_out_over_the_reads() {
        let json = serde_json::to_value(report(|outcome| {
            outcome.server_cpu = Some(CpuTime { user_secs: 0.25, system_secs: 0.25 });
        }));
        let json = json.expect("JSON");
        assert_eq!(
            (json["server"]["cpu_per_read_us"].as_f64(), json["server"]["cores_busy"].as_f64()),
            (Some(5_000.0), Some(0.5))
        );
        let unread = report(|outcome| {
            outcome.server_cpu = Some(CpuTime { user_secs: 0.25, system_secs: 0.25 });
            outcome.fetched.answered_in_window = 0;
        });
        assert_eq!(serde_json::to_value(unread).expect("JSON")["server"]["cpu_per_read_us"], 0.0);
    }
}
