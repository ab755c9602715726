//! The sequence of a run: the coordinator's side.
//!
//! First all users sign in, then all users join, then the publishers follow their schedule, then the coordinator waits
//! for the last deliveries. Only then is anything counted. The stages do not overlap, so memory and CPU time can be
//! assigned to a stage.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::base::clock::{self, SECOND_NS};
use crate::checks::check::{self, Disagreement, Sightings};
use crate::checks::figures::Figures;
use crate::checks::whole_history::{Expectation, HistoryFigures};
use crate::clients::pages::{self, Direction, PagesError, Reader};
use crate::clients::sign_in::FrontDoor;
use crate::costs::meter::{Costs, CostsError, Meter};
use crate::costs::progress::Progress;
use crate::costs::series::ServerWatch;
use crate::options::RunOptions;
use crate::orders::{Order, PublishAnswers, Publishes, Word};
use crate::plan::run_plan::{Plan, RoomPlan};
use crate::report::{Course, Mark};
use crate::scenarios::find_listener::{NoServer, find_listener};
use crate::scenarios::room_results::RoomOutcome;
use crate::team::process::{self, LOOK_EVERY, Sites, Team, TeamError};
use crate::watch::{self, Stage, Watch};
use crate::wire::history_page::Item;

/// Workers receive the start this long before it, so that none is late for the first message.
const START_DELAY_NS: u64 = SECOND_NS / 2;
/// Joins cause presence events in a visible room. Publishing begins when there were none for `QUIET`, or after
/// `QUIET_MAX`.
const QUIET: Duration = Duration::from_millis(600);
const QUIET_MAX: Duration = Duration::from_secs(60);
/// When everything has arrived, wait this long for messages that should not come.
const LINGER: Duration = Duration::from_millis(300);
/// How many bursts are numbered in the charts. Further bursts are visible there, but not numbered.
const BURSTS_MARKED_MAX: usize = 12;
/// A run ends after this time, however many messages still come.
const SETTLE_MAX: Duration = Duration::from_secs(300);

/// A room that was used before may have an older history; a longer one is not read.
const HISTORY_BEFORE_MAX: usize = 1_000_000;

#[derive(Debug, Error)]
pub enum RunError {
    #[error(transparent)]
    NoServer(#[from] NoServer),
    #[error(transparent)]
    Team(#[from] TeamError),
    #[error(transparent)]
    Costs(#[from] CostsError),
}

/// Runs the scenario to its end. What the clients found is in the outcome, whether good or bad.
pub async fn run(options: &RunOptions) -> Result<RoomOutcome, RunError> {
    find_listener(options.plan.target.server).await?;
    let meter = Meter::find(options.pid, options.plan.target.server, options.metrics.clone())?;
    let plan = &options.plan;
    let sites = Sites::find(&options.workforce, plan.users(), u64::from(plan.run)).await?;
    let assignments = process::assignments(plan, &sites);
    let server_watch = meter.process().map(ServerWatch::start);
    let team = Team::start(sites, assignments).await?;
    let mut run = Run { options, meter, server_watch, team, marks: Vec::new() };
    let mut outcome = run.stages().await?;
    outcome.machines = run.team.dismiss().await?;
    Ok(outcome)
}

struct Run<'a> {
    options: &'a RunOptions,
    meter: Meter,
    server_watch: Option<ServerWatch>,
    team: Team,
    /// The times at which the run went on to something else.
    marks: Vec<Mark>,
}

impl Run<'_> {
    async fn stages(&mut self) -> Result<RoomOutcome, RunError> {
        self.team.complete(&mut Watch::new(Stage::signing_in(self.options.plan.users()))).await?;
        let mut costs = Costs { signed_in: self.meter.first().await?, ..Costs::default() };

        self.marks.push(Mark::new(clock::now_ns(), "joining"));
        self.team.order_all(&Order::Join).await?;
        let mut watch = Watch::new(Stage::joining(self.options.plan.early_users()));
        self.team.complete(&mut watch).await?;
        self.let_presences_die_down().await?;
        drop(watch);
        costs.joined = self.meter.read().await;

        let window = self.publish(&mut costs).await?;
        let clock_margin_ns = self.team.clock_margin_ns().await?;
        let (answers, figures) = self.count(clock_margin_ns).await?;
        costs.settled = self.meter.read().await;
        let history = self.whole_history(&answers, &figures).await;
        Ok(RoomOutcome {
            history,
            processes: self.team.len(),
            machines: Vec::new(),
            clock_margin_ns,
            disagreement: disagreement(&figures, &answers),
            costs,
            last_delivery_late_ns: figures.last_delivery_ns.saturating_sub(window.end),
            course: self.course(window),
            progress: self.team.progress(),
            figures,
            answers: answers.answers(),
        })
    }

    fn course(&mut self, window: Range<u64>) -> Course {
        let series = self.team.series_with(self.server_watch.take());
        Course { series, marks: std::mem::take(&mut self.marks), window, drain_secs: self.options.plan.drain_secs() }
    }

    async fn let_presences_die_down(&mut self) -> Result<(), RunError> {
        // A server may not confirm that a user is in the room. Then the same time without events is waited for.
        if !self.options.plan.shows_presences() && self.options.plan.target.dialect.confirms_joins() {
            return Ok(());
        }
        let mut quiet = Quiet::new(QUIET, QUIET_MAX);
        while !quiet.reached(&self.team.progress().presence_frames) {
            self.team.next_word(Instant::now() + LOOK_EVERY).await?;
        }
        Ok(())
    }

    /// Publishes, measures the server between the warm-up and the end, and waits for the rest. Returns the measured
    /// time.
    async fn publish(&mut self, costs: &mut Costs) -> Result<Range<u64>, RunError> {
        // A whole second, so that the seconds of the series are those of the schedule.
        let start_ns = (clock::now_ns() + START_DELAY_NS).next_multiple_of(SECOND_NS);
        let measured = self.options.plan.measured_ns();
        let window = start_ns + measured.start..start_ns + measured.end;
        self.marks.extend(moments(&self.options.plan, start_ns));
        self.team.order_all(&Order::Begin { start_ns }).await?;
        let mut watch = Watch::new(Stage::publishing(self.options.plan.messages()));
        self.watch_until(&mut watch, window.start).await?;
        costs.begin = self.meter.read().await;
        self.watch_until(&mut watch, window.end).await?;
        costs.end = self.meter.read().await;
        self.settle(&mut watch).await?;
        Ok(window)
    }

    /// Shows the progress until that time, or until all users are disconnected.
    async fn watch_until(&mut self, watch: &mut Watch, point_ns: u64) -> Result<(), RunError> {
        let users = u64::from(self.options.plan.users());
        Ok(self.team.watch_until(watch, point_ns, |progress| progress.disconnected < users).await?)
    }

    /// Waits until all accepted messages are delivered, or nothing more comes.
    async fn settle(&mut self, watch: &mut Watch) -> Result<(), RunError> {
        let mut quiet = Quiet::new(Duration::from_secs_f64(self.options.settle_secs), SETTLE_MAX);
        loop {
            let progress = self.team.progress();
            if self.all_has_come(&progress) {
                return self.watch_until(watch, clock::now_ns() + LINGER.as_nanos() as u64).await;
            }
            if quiet.reached(&progress) || !self.users_are_connected() {
                return Ok(());
            }
            self.team.next_word(Instant::now() + LOOK_EVERY).await?;
            watch.show(&progress, self.team.series());
        }
    }

    fn users_are_connected(&self) -> bool {
        self.team.progress().disconnected < u64::from(self.options.plan.users())
    }

    fn all_has_come(&self, progress: &Progress) -> bool {
        progress.sent == self.options.plan.messages()
            && progress.accepted + progress.refused == progress.sent
            && self.due(progress).is_some_and(|due| progress.delivered >= due)
    }

    /// How many deliveries the accepted messages make. `None` where the totals do not show it: when a message was
    /// refused in one of many rooms, or when members come and go.
    fn due(&self, progress: &Progress) -> Option<u64> {
        if self.options.plan.conduct.is_some() {
            return None;
        }
        match self.options.plan.rooms.as_slice() {
            [room] => Some(progress.accepted * u64::from(room.members())),
            rooms if progress.refused == 0 => {
                Some(rooms.iter().map(|room| u64::from(room.schedule.messages()) * u64::from(room.members())).sum())
            }
            _ => None,
        }
    }

    async fn count(&mut self, clock_margin_ns: u64) -> Result<(Publishes, Figures), RunError> {
        self.team.order_all(&Order::Stop).await?;
        let mut answers = Publishes::default();
        let parts =
            self.team.gather(None, |word| if let Word::Answers(part) = word { Some(part) } else { None }).await?;
        parts.into_iter().for_each(|part| answers.add(part));

        self.team.order_all(&Order::Tally { answers: answers.answers(), clock_margin_ns }).await?;
        let mut figures = Figures::default();
        let parts =
            self.team.gather(None, |word| if let Word::Figures(part) = word { Some(part) } else { None }).await?;
        parts.into_iter().for_each(|part| figures.add(*part));
        Ok((answers, figures))
    }

    /// Reads the histories of all rooms in both directions, if the plan asks for it, and compares them with what was
    /// accepted. A history that cannot be read is a fault of the run.
    async fn whole_history(&self, publishes: &Publishes, figures: &Figures) -> Option<HistoryFigures> {
        let plan = &self.options.plan;
        if !plan.reads_whole_history() {
            return None;
        }
        let door = FrontDoor::new(plan.target.server, plan.target.sign_in, &plan.target.server_key);
        let mut reader = match Reader::new(&door, plan.account(0)).await {
            Ok(reader) => reader,
            Err(error) => {
                watch::note(&format!("no user can sign in to read the history: {error}"));
                if plan.drain_secs().is_some() {
                    // The server has drained, and no other one is there.
                    return None;
                }
                return Some(HistoryFigures { unread: publishes.0.len() as u64, ..HistoryFigures::default() });
            }
        };
        let mut sum = HistoryFigures::default();
        for (number, room) in (0..).zip(&plan.rooms) {
            let Some(PublishAnswers { answers, .. }) = publishes.0.get(&number) else { continue };
            let views: Vec<&Sightings> =
                figures.sightings.iter().filter(|(of, _)| *of == number).map(|(_, view)| view).collect();
            let expectation = Expectation::new(plan.run, room, &answers.acceptances.0, &answers.unanswered, &views);
            match read_both_ways(&mut reader, room).await {
                Ok([forward, backward]) => sum.add(&expectation.judge(&forward, &backward)),
                Err(error) => {
                    watch::note(&format!("the history of {} cannot be read: {error}", room.entrance.room));
                    sum.unread += 1;
                }
            }
        }
        Some(sum)
    }
}

/// A room's whole history, from the oldest message on and from the newest.
async fn read_both_ways(reader: &mut Reader<'_>, room: &RoomPlan) -> Result<[Vec<Item>; 2], PagesError> {
    let channel_id = pages::channel_of_room(&room.entrance.room);
    let items_max = room.schedule.messages() as usize + HISTORY_BEFORE_MAX;
    let forward = reader.read_all(&channel_id, Direction::OldestFirst, items_max).await?;
    let backward = reader.read_all(&channel_id, Direction::NewestFirst, items_max).await?;
    Ok([forward, backward])
}

/// The events of a run, in the order of time.
fn moments(plan: &Plan, start_ns: u64) -> Vec<Mark> {
    let measured = plan.measured_ns();
    let mut moments = vec![(measured.start, "measured"), (measured.end, "last deliveries")];
    let beginning = if plan.conduct.is_some() { "ramp" } else { "warm-up" };
    moments.extend((measured.start > 0).then_some((0, beginning)));
    if let [room] = plan.rooms.as_slice() {
        moments.extend(room.schedule.rises_ns().take(BURSTS_MARKED_MAX).map(|at| (at, "burst")));
    }
    let reconnect = plan.conduct.as_ref().filter(|conduct| conduct.reconnect_share > 0.0);
    moments.extend(reconnect.map(|conduct| (conduct.reconnect_ns, "reconnect")));
    moments.sort_unstable();
    moments.into_iter().map(|(offset_ns, what)| Mark::new(start_ns + offset_ns, what)).collect()
}

/// Compares what the threads saw in each room.
fn disagreement(figures: &Figures, answers: &Publishes) -> Disagreement {
    let mut views: HashMap<u32, Vec<&Sightings>> = HashMap::new();
    figures.sightings.iter().for_each(|(room, view)| views.entry(*room).or_default().push(view));
    let mut sum = Disagreement::default();
    for (room, views) in &views {
        let acknowledged = answers.0.get(room).map_or(&[][..], |publishes| &publishes.acknowledged.0);
        sum.add(check::reconcile(views, acknowledged));
    }
    sum
}

/// Notices when a value has not changed for a while.
struct Quiet<T> {
    long_enough: Duration,
    deadline: Instant,
    last: Option<(Instant, T)>,
}

impl<T: PartialEq + Clone> Quiet<T> {
    fn new(long_enough: Duration, longest: Duration) -> Self {
        Self { long_enough, deadline: Instant::now() + longest, last: None }
    }

    fn reached(&mut self, state: &T) -> bool {
        let now = Instant::now();
        match &self.last {
            Some((since, last)) if last == state => *since + self.long_enough <= now,
            _ => {
                self.last = Some((now, state.clone()));
                now >= self.deadline
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::options::{Arguments, Command};

    fn plan(line: &str) -> Plan {
        let Ok(Arguments { command }) = Arguments::try_parse_from(line.split(' ')) else { panic!("{line} is refused") };
        let options = match command {
            Command::Room(room) => RunOptions::try_from(room),
            Command::Event(event) => RunOptions::try_from(event),
            _ => panic!("{line} is no run of rooms"),
        };
        options.unwrap_or_else(|error| panic!("{line}: {error}")).plan
    }

    fn marks(line: &str) -> Vec<(u64, String)> {
        moments(&plan(line), 0).into_iter().map(|mark| (mark.at_ns / 1_000_000, mark.what)).collect()
    }

    #[test]
    fn the_moments_of_a_run_come_in_the_order_of_time() {
        let said = |moments: &[(u64, &str)]| -> Vec<(u64, String)> {
            moments.iter().map(|(at, what)| (*at, (*what).to_owned())).collect()
        };
        let room = "loadgen room --addr 127.0.0.1:1 --secs 2";
        assert_eq!(marks(room), said(&[(0, "measured"), (2_000, "last deliveries")]));
        let expected = said(&[(0, "warm-up"), (1_000, "measured"), (3_000, "last deliveries")]);
        assert_eq!(marks(&format!("{room} --warmup 1")), expected);
        let event = "loadgen event --addr 127.0.0.1:1 --ramp 2 --secs 6 --burst 1 --burst-every 3";
        let expected = said(&[
            (0, "ramp"),
            (2_000, "measured"),
            (4_000, "burst"),
            (6_000, "reconnect"),
            (7_000, "burst"),
            (8_000, "last deliveries"),
        ]);
        assert_eq!(marks(event), expected);
        let many = marks("loadgen event --addr 127.0.0.1:1 --secs 100 --burst 1 --burst-every 2 --reconnect 0");
        assert_eq!(many.iter().filter(|(_, what)| what == "burst").count(), BURSTS_MARKED_MAX);
        assert!(many.is_sorted() && !many.iter().any(|(_, what)| what == "reconnect"));
    }

    #[test]
    fn quiet_is_a_value_that_has_not_changed_for_long_enough() {
        let never = Duration::from_secs(3_600);
        let mut quiet = Quiet::new(Duration::ZERO, never);
        assert!(!quiet.reached(&1), "nothing is known of the time before");
        assert!(quiet.reached(&1), "it has not changed, and no time is long enough");
        assert!(!quiet.reached(&2), "it has changed");
        let mut patient = Quiet::new(never, never);
        assert!((0..100).all(|_| !patient.reached(&1)), "an hour has not passed");
        let mut hurried = Quiet::new(never, Duration::ZERO);
        assert!((0..3).all(|value| hurried.reached(&value)), "a value that goes on changing is waited for no longer");
    }
}
