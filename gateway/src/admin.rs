//! The operators' listener, on its own address and its own thread: the numbers, health, and the calls that ask the server or
//! change it (docs/admin.md).
//!
//! One or two programs ask it every few seconds, and it must cost the shards nothing but their reports.

mod answers;
mod backups;
pub mod client;
mod erasures;
pub mod hosts;
mod people;
mod router;
mod status;
pub mod token;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use engine::query::ChannelOrder;
use hyper::StatusCode;
use runtime::Observer;
use serde::Serialize;
use storage::bridge::Client;

pub use self::backups::BackupPlan;
pub use self::status::Facts;

use self::answers::{LINE, Refusal, answer, json};
use self::backups::Backups;
use self::erasures::Erasures;
use self::hosts::Hosts;
use self::people::{People, Place};
use self::router::Desk;
use self::status::Status;
use self::token::AdminToken;
use crate::drain::{Drain, DrainStage, Terms};
use crate::health::Health;
use crate::http::answer::Answer;
use crate::http::{AskedWhom, Erasure, Inspect};
use crate::listeners;
use crate::live::LiveOptions;
use crate::log_levels::LogLevels;
use crate::log_limit;
use crate::logging::Logging;
use crate::metrics::{DrainLevels, Overview, PageFormat, ProcessState, StoreState, TOKEN_REFUSALS};
use crate::threaded_http::ThreadedServer;

/// How long a shard may take to answer before it counts as not up.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a client may take to send its request, and to read its answer.
const CLIENT_DURATION_MAX: Duration = Duration::from_secs(2);

/// The operators' listener, bound but not serving yet.
pub struct Admin {
    listener: TcpListener,
    live: LiveOptions,
}

/// What the calls ask and change.
pub struct Parts {
    pub observer: Observer,
    pub store: Client,
    pub health: Arc<Health>,
    pub drain: Arc<Drain>,
    pub logging: Arc<Logging>,
    pub facts: Facts,
    pub backup_plan: BackupPlan,
    /// To the task that erases users.
    pub erase: flume::Sender<Erasure>,
    /// To the tasks that answer about each shard, in the order of the shards.
    pub questions: Vec<flume::Sender<Inspect>>,
}

impl Admin {
    /// Takes the address, and does not serve yet. `live` has the names by which operators reach it, besides `localhost`.
    /// Fails with a line for the operator if the address cannot be taken.
    pub fn bind(address: SocketAddr, live: LiveOptions) -> Result<Self, String> {
        let listener = TcpListener::bind(address).map_err(|error| {
            let advice = listeners::advice(&error);
            format!(
                "cannot listen on {address} for operators: {error}; {advice}: choose another address with --admin, or say \
                 --admin off"
            )
        })?;
        listener.set_nonblocking(true).map_err(|error| error.to_string())?;
        Ok(Self { listener, live })
    }

    /// The listener once more, for as long as another part of the server answers there.
    pub fn listener(&self) -> io::Result<OwnedFd> {
        self.listener.try_clone().map(OwnedFd::from)
    }

    /// The bound address, with the port that the kernel chose if port 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Starts to serve requests.
    pub fn serve(self, token: AdminToken, parts: Parts) -> io::Result<ThreadedServer> {
        let (live, address) = (self.live, self.listener.local_addr()?);
        let backups = Backups::new(parts.backup_plan.clone(), parts.store.clone());
        let (overview, refused) = (Overview::default(), [0; TOKEN_REFUSALS.len()]);
        let erasures = Erasures::new(parts.erase.clone());
        let people = People::new(parts.questions.clone());
        let mut office = Office { parts, backups, erasures, people, overview, refused };
        ThreadedServer::start("admin", vec![self.listener.into()], CLIENT_DURATION_MAX, move |request| {
            let hosts = Hosts::of(address, &live.admin_hosts.load());
            office.overview.config_sha256.clone_from(&live.sha256.load());
            office.overview.certificate_expires = live.tls.as_ref().map(|tls| tls.expires());
            office.overview.process_rates = **live.process_rates.load();
            router::respond(request, &hosts, &token, &mut office)
        })
    }
}

/// Answers the calls.
struct Office {
    parts: Parts,
    backups: Backups,
    erasures: Erasures,
    people: People,
    overview: Overview,
    /// Calls that were refused for their token, by the reason.
    refused: [u64; TOKEN_REFUSALS.len()],
}

impl Desk for Office {
    fn page(&mut self, format: PageFormat) -> Answer {
        let Parts { observer, store, drain, .. } = &self.parts;
        let overview = &mut self.overview;
        overview.take_in(observer.ask(PATIENCE));
        let ready = store.unready().is_none();
        overview.store = StoreState {
            ready,
            disk: store.disk_room(),
            rows_read: store.rows_read(),
            damaged_blocks: store.damaged_blocks(),
            client_failures: store.failures(),
            client_writes: store.write_latency(),
        };
        overview.log_lines_left_out = log_limit::left_out();
        overview.process = ProcessState::read();
        overview.admin_refused = self.refused;
        let status = drain.status();
        let is_draining = status.state != DrainStage::None;
        overview.drain = DrainLevels { is_draining, sessions_left: if is_draining { status.sessions_left } else { 0 } };
        match overview.text(format) {
            Ok(body) => {
                overview.shown();
                answer(StatusCode::OK, format.content_type(), body)
            }
            Err(error) => {
                let line = format!("the numbers cannot be written: {error}\n");
                answer(StatusCode::INTERNAL_SERVER_ERROR, LINE, line)
            }
        }
    }

    fn unready(&self) -> Option<String> {
        self.parts.health.unready(self.parts.store.unready())
    }

    fn status(&mut self) -> Answer {
        let Parts { observer, store, health, drain, facts, .. } = &self.parts;
        self.overview.take_in(observer.ask(PATIENCE));
        let store_unready = store.unready();
        let unready = health.why_unready(store_unready.clone());
        let disk = store.disk_room();
        json(StatusCode::OK, &Status::new(facts, &self.overview, unready, store_unready, disk, drain.status()))
    }

    fn drain_status(&self, status: StatusCode) -> Answer {
        json(status, &self.parts.drain.status())
    }

    fn begin_drain(&mut self, terms: Terms) -> bool {
        self.parts.drain.begin_by_call(terms)
    }

    fn log_level(&self) -> Answer {
        #[derive(Serialize)]
        struct Level {
            level: String,
        }
        json(StatusCode::OK, &Level { level: self.parts.logging.levels().to_string() })
    }

    fn set_log_level(&mut self, levels: &LogLevels) {
        self.parts.logging.set_levels(levels);
        tracing::warn!("an admin call has set the levels of the log: {levels}");
    }

    fn backup_status(&self, status: StatusCode) -> Answer {
        json(status, &self.backups.status())
    }

    fn begin_backup(&mut self, directory: &str, with_keys: bool) -> Result<(), Refusal> {
        self.backups.begin(directory, with_keys)
    }

    fn erasure_status(&mut self, status: StatusCode) -> Answer {
        json(status, &self.erasures.status())
    }

    fn begin_erasure(&mut self, user: &str) -> Result<(), Refusal> {
        self.erasures.begin(user)
    }

    fn channels(&self, by: ChannelOrder, below: Option<Place>, limit: usize) -> Answer {
        json(StatusCode::OK, &self.people.channels(by, below, limit))
    }

    fn user(&self, user: &str) -> Result<Answer, Refusal> {
        Ok(json(StatusCode::OK, &self.people.user(user)?))
    }

    fn disconnect(&mut self, whom: AskedWhom, reason: Option<&str>) -> Result<Answer, Refusal> {
        let closed = self.people.disconnect(whom.clone(), reason)?;
        tracing::warn!(%whom, reason, "an admin call has closed sessions");
        Ok(json(StatusCode::OK, &closed))
    }

    fn count_refusal(&mut self, kind: usize) {
        self.refused[kind] += 1;
    }
}
