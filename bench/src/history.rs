//! The newest page of a busy room, read by many clients at once: `cargo run --release -p bench -- history`.
//!
//! The bench reads two servers in turn, several times in one run, so that slow changes of the machine affect both. One
//! is Stentor, with one member in the room and a hundred stored messages. The other is a bare server of the same HTTP
//! library with a constant body of exactly the same size. The bench checks from outside that the store was not read:
//! the store's reading threads must not have woken up.

use std::io;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use thiserror::Error;

use crate::client::{Failure, Room, Shape};
use crate::cpu;
use crate::dialect::{Dialect, Persistence, ROOM};
use crate::goals::shown;
use crate::reader::Page;
use crate::report::{commit, median};
use crate::run::{self, Patience};
use crate::server::{Kind, Launch, Server};
use crate::setting::Setting;

const MESSAGES: usize = 100;
const CONTENT_BYTES: usize = 100;
/// Reads within which the page must come from memory. The first read makes the owner fetch it from the store.
const FIRST_READS_MAX: usize = 1000;
/// The first part of the names of the server's threads that read its store.
const STORE_READERS: &str = "store-read-";
/// The room's member answers pings between two visits only, and the server closes it after 25 seconds of silence.
const SECS_MAX: f64 = 10.0;
/// The least share of the bare server's rate that Stentor should reach.
const GOAL: f64 = 0.60;

#[derive(Args, Debug)]
pub struct Options {
    /// Seconds that each server is read for, each time.
    #[arg(long, default_value_t = 5.0)]
    secs: f64,
    /// Connections that read, each one page after another.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Times that each server is read; figures are medians.
    #[arg(long, default_value_t = 3)]
    repeat: usize,
    /// Stentor's store: memory or embedded.
    #[arg(long, default_value = "embedded")]
    store: String,
    #[command(flatten)]
    setting: Setting,
}

#[derive(Debug, Error)]
pub enum Error {
    #[error("{0}")]
    Options(String),
    #[error(transparent)]
    World(#[from] io::Error),
    #[error("the room: {0}")]
    Room(#[from] Failure),
    #[error("{0}")]
    Faulty(String),
}

#[derive(Serialize)]
struct Report {
    machine: String,
    commit: String,
    store: String,
    connections: usize,
    secs: f64,
    page_bytes: usize,
    stentor: Vec<Visit>,
    bare_http: Vec<Visit>,
    stentor_to_bare_http: f64,
    /// Sleeps of the threads that read the store while pages were read. There must be none.
    store_reader_sleeps: u64,
}

/// The result of reading one server once.
#[derive(Clone, Copy, Serialize)]
struct Visit {
    reads_per_second: f64,
    /// The server's share of its core. If it is well below one, the client was the limit.
    core_share: f64,
}

pub fn run(options: &Options) -> Result<(), Error> {
    check(options)?;
    let apart = options.setting.launch_apart()?;
    let stentor = Some(options.setting.stentor()?);
    let launch = Launch { stentor, store: options.store.clone(), persistence: Persistence::Kept, ..apart };
    let stentor = Server::start(Kind::Stentor, &launch)?;
    let mut room = filled_room(&stentor, &launch)?;
    let page_bytes = from_memory(&stentor, &launch)?.body.len();
    let bare = Server::start_bare_http(page_bytes, &launch)?;

    let (mut of_stentor, mut of_bare, mut store_reader_sleeps) = (Vec::new(), Vec::new(), 0);
    for _ in 0..options.repeat {
        // Tokens live for a minute. Signing in reads the store, but pages do not.
        let page = newest(&stentor, &token(&stentor, &launch)?)?;
        let before = settled_sleeps(&stentor)?;
        of_stentor.push(visit(&stentor, &page, options)?);
        store_reader_sleeps += cpu::sleeps_of_threads(stentor.pid(), STORE_READERS)? - before;
        room.turn(None)?;
        of_bare.push(visit(&bare, &Page::read(bare.address, "/", "none")?, options)?);
        room.turn(None)?;
    }

    let report = Report::new(options, page_bytes, of_stentor, of_bare, store_reader_sleeps);
    report.print();
    options.setting.keep(&report)?;
    if store_reader_sleeps > 0 {
        return Err(Error::Faulty(format!("the store's reading threads woke {store_reader_sleeps} times; see above")));
    }
    Ok(())
}

/// Refuses options that cannot be measured, before anything is built or started.
fn check(options: &Options) -> Result<(), Error> {
    let refuse = |text: String| Err(Error::Options(text));
    if !(options.secs > 0.0 && options.secs <= SECS_MAX) || options.repeat == 0 {
        return refuse(format!("--secs must be above 0 and at most {SECS_MAX}, --repeat above 0"));
    }
    if !(1..=1000).contains(&options.connections) {
        return refuse("--connections must be 1 to 1000: beyond, Stentor does not keep them open".into());
    }
    Ok(())
}

/// A room with one member, which has sent all messages and stays.
fn filled_room(server: &Server, launch: &Launch) -> Result<Room, Error> {
    let shape = Shape { members: 1, publishers: 1, content_bytes: CONTENT_BYTES };
    let mut room = Room::new(server.address, server.dialect(Kind::Stentor, launch)?, shape)?;
    room.admit(1)?;
    room.appoint_publishers()?;
    let rate = MESSAGES as f64;
    let sent = run::at_rate(&mut room, server.pid(), rate, Duration::from_secs(1), Patience::Endless)?;
    if !sent.nothing_lost() || sent.messages != MESSAGES as u64 {
        return Err(Error::Faulty(format!("the room could not be filled: {sent:?}")));
    }
    Ok(room)
}

fn token(server: &Server, launch: &Launch) -> Result<String, Error> {
    match server.dialect(Kind::Stentor, launch)? {
        Dialect::Stentor { token, .. } => Ok(token),
        Dialect::Bare => Err(Error::Faulty("Stentor gives tokens".into())),
    }
}

fn newest(server: &Server, token: &str) -> io::Result<Page> {
    let path = format!("/v2/channel/2...{ROOM}?limit={MESSAGES}&forward=false");
    Page::read(server.address, &path, token)
}

/// The page, as soon as the server answers without a read of the store.
fn from_memory(server: &Server, launch: &Launch) -> Result<Page, Error> {
    let token = token(server, launch)?;
    for _ in 0..FIRST_READS_MAX {
        let before = cpu::sleeps_of_threads(server.pid(), STORE_READERS)?;
        let page = newest(server, &token)?;
        let json: serde_json::Value = serde_json::from_slice(&page.body).map_err(io::Error::other)?;
        if json["messages"].as_array().map(Vec::len) != Some(MESSAGES) {
            return Err(Error::Faulty(format!("this is not a page of {MESSAGES} messages: {json}")));
        }
        if cpu::sleeps_of_threads(server.pid(), STORE_READERS)? == before {
            return Ok(page);
        }
    }
    Err(Error::Faulty("every read of the newest page reads the store".into()))
}

/// The number of sleeps of the threads that read the store, once it no longer changes: an answer is sent before its
/// thread goes to sleep.
fn settled_sleeps(server: &Server) -> io::Result<u64> {
    let mut sleeps = cpu::sleeps_of_threads(server.pid(), STORE_READERS)?;
    loop {
        std::thread::sleep(Duration::from_millis(20));
        match cpu::sleeps_of_threads(server.pid(), STORE_READERS)? {
            same if same == sleeps => return Ok(sleeps),
            more => sleeps = more,
        }
    }
}

fn visit(server: &Server, page: &Page, options: &Options) -> Result<Visit, Error> {
    let before = cpu::cpu_time(server.pid())?;
    let reads = page.read_for(Duration::from_secs_f64(options.secs), options.connections)?;
    let spent = cpu::cpu_time(server.pid())? - before;
    Ok(Visit { reads_per_second: reads as f64 / options.secs, core_share: spent.as_secs_f64() / options.secs })
}

impl Report {
    fn new(options: &Options, page_bytes: usize, stentor: Vec<Visit>, bare_http: Vec<Visit>, sleeps: u64) -> Self {
        Self {
            machine: cpu::machine(),
            commit: commit(),
            store: options.store.clone(),
            connections: options.connections,
            secs: options.secs,
            page_bytes,
            stentor_to_bare_http: rate(&stentor) / rate(&bare_http),
            stentor,
            bare_http,
            store_reader_sleeps: sleeps,
        }
    }

    fn print(&self) {
        println!("{}, commit {}", self.machine, self.commit);
        println!(
            "newest page, {MESSAGES} messages of {CONTENT_BYTES} bytes, {} bytes of body, {} keep-alive connections:",
            self.page_bytes, self.connections
        );
        for (name, visits) in [("stentor", &self.stentor), ("bare http", &self.bare_http)] {
            let share = median(visits.iter().map(|visit| visit.core_share * 100.0).collect());
            println!("{name:>10}: {} pages/s, {} % of its core", shown(Some(rate(visits))), shown(share));
        }
        let verdict = if self.stentor_to_bare_http >= GOAL { "reached" } else { "missed" };
        println!("     ratio: {} (goal {GOAL}: {verdict})", shown(Some(self.stentor_to_bare_http)));
        match self.store_reader_sleeps {
            0 => println!("The store was not read: its reading threads (store {}) slept through it.", self.store),
            woken => println!("THE STORE WAS READ: its reading threads (store {}) woke {woken} times.", self.store),
        }
    }
}

fn rate(visits: &[Visit]) -> f64 {
    median(visits.iter().map(|visit| visit.reads_per_second).collect()).unwrap_or(f64::NAN)
}
