//! Members that fall behind, in a room that continues: what do the others notice, what does the server keep for them,
//! and what is left afterwards?
//!
//! Some members of a room stop reading for a while, or read a few hundred bytes a second, while messages continue. In a
//! quiet room beside it, members vanish: they read nothing and say nothing. The other members are timed
//! before, during and after that, and once before the stragglers join. The server is observed from outside all the
//! time.

pub mod crowd;
mod member;
mod report;

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use crate::checker;
use crate::client::{Room, Shape};
use crate::companion::Companion;
use crate::cpu;
use crate::dialect::{Dialect, Persistence, ROOM};
use crate::failure::Failure;
use crate::launch::Launch;
use crate::run::{self, Patience, Run};
use crate::server::{Kind, Server};
use crate::setting::Setting;
use crate::sockets::PORTS_PER_ADDRESS;
use crate::watch::{Look, Watch};
use crowd::{Answer, Order, Outcome, Outcomes};
use member::Behavior;

const QUIET_ROOM: &str = "quiet";
/// How the stopped members behave, a third each.
const BEHAVIORS: [Behavior; 3] = [Behavior::Silent, Behavior::Skipping, Behavior::Slow];
/// Windows before the stragglers join, before they stop, and after they continue.
const WINDOWS: usize = 4;
const WINDOW_SECS_MAX: f64 = 5.0;
/// The least number of windows within the requested time.
const WINDOWS_MIN: f64 = 10.0;
/// Descriptors besides the members'.
const OTHER_DESCRIPTORS: u64 = 64;
/// A session is closed after 25 s of silence. The server checks that once a second, and the bench looks four times a
/// second.
const DEADLINE: Duration = Duration::from_secs(25);
const VANISHING_TIME_MAX: Duration = Duration::from_secs(40);
/// How long the server may take to notice that every client has gone.
const LEAVING_TIME_MAX: Duration = Duration::from_secs(20);
/// How long nothing happens before a look is taken.
const REST: Duration = Duration::from_millis(600);

#[derive(Args, Debug)]
pub struct Options {
    /// Members of the room.
    #[arg(long, default_value_t = 5000)]
    members: usize,
    /// How many of them stop, in percent: a third reads nothing, a third reads nothing and has chosen to skip
    /// messages (`on_lag=skip`), a third reads slowly.
    #[arg(long, default_value_t = 30.0)]
    stopped: f64,
    /// Members of a quiet room that vanish without closing.
    #[arg(long, default_value_t = 500)]
    vanished: usize,
    /// Seconds for which they stop.
    #[arg(long, default_value_t = 60.0)]
    secs: f64,
    /// Messages per second in the room.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Bytes of a message's content.
    #[arg(long, default_value_t = 100)]
    payload: usize,
    #[command(flatten)]
    setting: Setting,
}

/// Everything that was measured.
#[derive(Default, Serialize)]
struct Measurements {
    /// The core that stragglers share with the client that times the others, if they share one.
    shared_core: Option<usize>,
    phases: Vec<Phase>,
    vanishing: Option<Vanishing>,
    outcomes: Outcomes,
    /// Before any client connects, with every member connected and no messages, and after every client has gone.
    empty: Option<Standing>,
    full: Option<Standing>,
    left: Option<Standing>,
    looks: Vec<Look>,
}

/// Windows of one kind, as the other members saw them.
#[derive(Serialize)]
struct Phase {
    name: &'static str,
    windows: Vec<Run>,
}

#[derive(Clone, Serialize)]
struct Standing {
    look: Look,
    /// Sockets and other descriptors that the server has open.
    descriptors: usize,
}

/// How the server closed the members of the quiet room.
#[derive(Clone, Copy, Default, Debug, Serialize)]
struct Vanishing {
    vanished: u64,
    closed: u64,
    first_after_secs: f64,
    last_after_secs: f64,
    /// What these members found after their process continued.
    woken: Outcome,
}

pub fn run(options: &Options) -> Result<(), Failure> {
    let stopped = check(options)?;
    let mut scene = Scene::open(options, stopped)?;
    if options.vanished > 0 {
        scene.measured.vanishing = Some(scene.vanish()?);
    }
    scene.measure("before", WINDOWS)?;
    scene.ask_stragglers(&Order::Stop)?;
    scene.measure("during", scene.windows())?;
    scene.watch.enter("catch up");
    scene.go_on()?;
    scene.measure("after", WINDOWS)?;
    scene.measured.outcomes = scene.go_on()?;
    let counted: u64 = scene.measured.outcomes.values().map(|outcome| outcome.members).sum();
    assert_eq!(counted, stopped as u64, "each member that stopped is in the outcomes");
    report::report(options, stopped, &scene.leave()?)
}

/// Refuses options that cannot be measured. Returns how many members stop.
fn check(options: &Options) -> Result<usize, Failure> {
    let refuse = |text: &str| Err(Failure::Options(text.into()));
    let stopped = (options.members as f64 * options.stopped / 100.0).round() as usize;
    if stopped < BEHAVIORS.len() || stopped >= options.members {
        return refuse("--stopped must leave one member at least, and stop three at least");
    }
    if !(options.secs > 0.0 && options.rate > 0.0) {
        return refuse("--secs and --rate must be above zero");
    }
    checker::check_content_bytes(options.payload)?;
    let limit = cpu::raise_descriptor_limit();
    if (options.members + options.vanished) as u64 + OTHER_DESCRIPTORS > limit {
        return refuse(&format!("the server may open {limit} descriptors here (`ulimit -Hn`), and so many do not fit"));
    }
    Ok(stopped)
}

/// A server with a room: the other members in this process, the stragglers in separate processes.
struct Scene<'a> {
    options: &'a Options,
    launch: Launch,
    /// The first of the local addresses that no client uses yet.
    next_address: usize,
    stragglers: Vec<Companion>,
    quiet: Vec<Companion>,
    room: Room,
    watch: Watch,
    server: Server,
    measured: Measurements,
}

impl Scene<'_> {
    /// Lets every member join, the others first.
    fn open(options: &Options, stopped: usize) -> Result<Scene<'_>, Failure> {
        let launch = options.setting.launch(1)?;
        let server = Server::start(Kind::Stentor, &launch)?;
        let shape = Shape { members: options.members - stopped, content_bytes: options.payload };
        let tokens = server.tokens(shape.members)?;
        let dialect = Dialect::Stentor { tokens, persistence: Persistence::Passing, room: ROOM.to_owned() };
        let shared_core = (launch.client_cpus.len() == 1).then_some(launch.client_cpu());
        let mut scene = Scene {
            options,
            next_address: shape.members.div_ceil(PORTS_PER_ADDRESS),
            stragglers: Vec::new(),
            quiet: Vec::new(),
            room: Room::new(server.address, dialect, shape)?,
            watch: Watch::start(server.admin()?, server.pid()),
            launch,
            server,
            measured: Measurements { shared_core, ..Measurements::default() },
        };
        scene.measured.empty = Some(scene.standing()?);
        scene.watch.enter("filling");
        scene.room.fill()?;
        // A server's first messages are slower, because it has never sent any.
        scene.watch.enter("warm up");
        scene.run_window()?;
        scene.measure("alone", WINDOWS)?;
        scene.watch.enter("filling");
        scene.stragglers = scene.start(ROOM, stopped, &BEHAVIORS)?;
        scene.quiet = scene.start(QUIET_ROOM, options.vanished, &[Behavior::Vanished])?;
        scene.measured.full = Some(scene.standing()?);
        Ok(scene)
    }

    /// Starts client processes, and returns when their members have joined.
    fn start(&mut self, room: &str, members: usize, behaviors: &[Behavior]) -> Result<Vec<Companion>, Failure> {
        let (mut companions, mut started) = (Vec::new(), 0);
        for first in (0..members).step_by(PORTS_PER_ADDRESS) {
            let members = PORTS_PER_ADDRESS.min(members - first);
            started += members;
            let crowd = crowd::Options {
                address: self.server.address,
                room: room.to_owned(),
                members,
                behaviors: behaviors.to_vec(),
                from_address: self.next_address,
                next: self.room.published(),
                payload: self.options.payload,
            };
            self.next_address += 1;
            // The companions get their own cores, if there are any beside the core of the timed members.
            let cpus = &self.launch.client_cpus;
            let cpus = if cpus.len() > 1 { &cpus[1..] } else { &cpus[..] };
            companions.push(Companion::start("crowd-of-stragglers", &crowd, &self.launch, cpus)?);
        }
        assert_eq!(started, members, "each member is in one process");
        answers(&companions, &mut self.room)?;
        Ok(companions)
    }

    fn ask_stragglers(&mut self, order: &Order) -> Result<Outcomes, Failure> {
        self.stragglers.iter_mut().try_for_each(|companion| companion.tell(order))?;
        answers(&self.stragglers, &mut self.room)
    }

    /// Lets the stragglers read everything that is still there for them, and collects their outcomes.
    fn go_on(&mut self) -> Result<Outcomes, Failure> {
        let sent = self.room.published();
        self.ask_stragglers(&Order::Read { sent })
    }

    /// The state of the server after a rest.
    fn standing(&mut self) -> Result<Standing, Failure> {
        run::rest(&mut self.room, REST)?;
        let look = self.look()?;
        Ok(Standing { look, descriptors: cpu::descriptors(self.server.pid())? })
    }

    /// A look that begins now or later.
    fn look(&mut self) -> Result<Look, Failure> {
        // The look that is under way may have begun before this call.
        let since = self.watch.looks()?.len() + 1;
        loop {
            if let Some(look) = self.watch.newest(since)? {
                return Ok(look);
            }
            self.room.turn(None)?;
        }
    }

    fn window(&self) -> Duration {
        Duration::from_secs_f64((self.options.secs / WINDOWS_MIN).min(WINDOW_SECS_MAX))
    }

    fn windows(&self) -> usize {
        (self.options.secs / self.window().as_secs_f64()).round() as usize
    }

    fn measure(&mut self, name: &'static str, windows: usize) -> Result<(), Failure> {
        self.watch.enter(name);
        let windows = (0..windows).map(|_| self.run_window()).collect::<Result<Vec<_>, _>>()?;
        self.measured.phases.push(Phase { name, windows });
        Ok(())
    }

    fn run_window(&mut self) -> Result<Run, Failure> {
        let (rate, pid, window) = (self.options.rate, self.server.pid(), self.window());
        let run = run::at_rate(&mut self.room, pid, rate, window, Patience::Endless)?;
        if run.nothing_lost() { Ok(run) } else { Err(Failure::Faulty(format!("the others lost something: {run:?}"))) }
    }

    /// Lets the members of the quiet room vanish, and watches how the server closes them.
    fn vanish(&mut self) -> Result<Vanishing, Failure> {
        let start = self.look()?;
        self.watch.enter("vanishing");
        let vanished = self.options.vanished as u64;
        self.quiet.iter_mut().try_for_each(|companion| companion.tell(&Order::Stop))?;
        answers(&self.quiet, &mut self.room)?;
        let (stopped, mut first_after, mut last_after, mut closed) = (Instant::now(), None, Duration::ZERO, 0);
        while closed < vanished && stopped.elapsed() < VANISHING_TIME_MAX {
            let look = self.look()?;
            let gone = start.levels.sessions.saturating_sub(look.levels.sessions);
            if gone > closed {
                (closed, last_after) = (gone, stopped.elapsed());
                first_after = first_after.or(Some(last_after));
            }
        }
        self.quiet.iter_mut().try_for_each(|companion| companion.tell(&Order::Read { sent: 0 }))?;
        let woken = answers(&self.quiet, &mut self.room)?.remove(&Behavior::Vanished).unwrap_or_default();
        self.quiet.clear();
        let first_after_secs = first_after.unwrap_or_default().as_secs_f64();
        Ok(Vanishing { vanished, closed, first_after_secs, last_after_secs: last_after.as_secs_f64(), woken })
    }

    /// Ends all clients, and looks at the server until it has noticed.
    fn leave(self) -> Result<Measurements, Failure> {
        let Scene { stragglers, quiet, room, watch, server, mut measured, .. } = self;
        watch.enter("leaving");
        drop((stragglers, quiet, room));
        let begun = Instant::now();
        let look = loop {
            std::thread::sleep(REST);
            let newest = watch.newest(0)?.ok_or_else(|| Failure::faulty("the server was never looked at"))?;
            if newest.levels.nobody() || begun.elapsed() > LEAVING_TIME_MAX {
                break newest;
            }
        };
        measured.left = Some(Standing { look, descriptors: cpu::descriptors(server.pid())? });
        measured.looks = watch.looks()?;
        Ok(measured)
    }
}

/// Waits for an answer of each companion, while the other members keep reading. Returns the sums.
fn answers(companions: &[Companion], room: &mut Room) -> Result<Outcomes, Failure> {
    let mut sums = Outcomes::default();
    for companion in companions {
        let answer: Answer = loop {
            match companion.heard()? {
                Some(answer) => break answer,
                None => room.turn(None)?,
            }
        };
        for (behavior, outcome) in answer.map_err(|text| Failure::Faulty(format!("the stragglers: {text}")))? {
            let sum = sums.entry(behavior).or_default();
            *sum = sum.and(&outcome);
        }
    }
    Ok(sums)
}
