//! Ensures that only one server uses a keyspace at a time, as only one process uses a directory. The server writes a
//! heartbeat, a lightweight transaction, every second. Another server takes over only when the heartbeat has been
//! missing for longer than the first server continues to write without it. The clocks of two servers are never
//! compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use engine::id::Epoch;
use parking_lot::Mutex;
use storage::{ANSWER_DURATION_MAX, Failure};
use uuid::Uuid;

use crate::database::{DatabaseSession, in_time};
use crate::tables::servers::{self, Server};

/// How often a server writes its heartbeat.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long a server continues to write after its last successful heartbeat.
const FRESH: Duration = Duration::from_secs(3);
/// How long another server waits for a heartbeat before it takes over: `FRESH`, and the time for which a write that was
/// just taken may be tried, looked up and undone.
const TAKEOVER: Duration = FRESH.saturating_add(ANSWER_DURATION_MAX);
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long one attempt to begin, or one heartbeat, may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// This server's hold on its keyspace.
pub struct Lease {
    database: Arc<DatabaseSession>,
    holder: Uuid,
    beat: AtomicI64,
    state: Mutex<State>,
    /// Whether the log has been told that another server has the keyspace.
    told: AtomicBool,
}

enum State {
    /// The lease was never requested: a tool or a test writes at its own risk.
    None,
    /// The lease is held; the last successful heartbeat began at this time.
    Held(Instant),
    Lost,
}

impl Lease {
    /// A lease that this process does not hold yet, with a new random id for the holder.
    pub fn new(database: Arc<DatabaseSession>) -> Self {
        Self {
            database,
            holder: Uuid::new_v4(),
            beat: AtomicI64::new(0),
            state: Mutex::new(State::None),
            told: AtomicBool::new(false),
        }
    }

    /// Whether this server may write.
    pub fn check(&self) -> Result<(), Failure> {
        match *self.state.lock() {
            State::None => Ok(()),
            State::Held(since) if since.elapsed() < FRESH => Ok(()),
            State::Held(_) => Err(Failure::Passing("the database has not heard of this server for too long".into())),
            State::Lost => Err(lost()),
        }
    }

    fn set(&self, state: State) {
        *self.state.lock() = state;
    }

    fn is_none(&self) -> bool {
        matches!(*self.state.lock(), State::None)
    }
}

fn lost() -> Failure {
    Failure::Final("another server has taken over this keyspace".into())
}

impl Lease {
    /// Takes the keyspace, if no other server has it, and begins to write heartbeats. Returns the next epoch.
    pub async fn take(self: &Arc<Self>) -> Result<Epoch, Failure> {
        let begun = Instant::now();
        if let Some((Some(written),)) = self.database.one(servers::written()).await? {
            self.database.clock.pass(written);
        }
        let epoch = loop {
            if let Some(epoch) = self.take_keyspace().await? {
                break epoch;
            }
            in_time(begun + TAKEOVER + PATIENCE)?;
        };
        self.beat.store(0, Ordering::Release);
        let first = self.is_none();
        // The time spent waiting for the other server's silence does not count against this lease.
        self.set(State::Held(begun.max(Instant::now() - BEAT_INTERVAL)));
        if first {
            let lease = Arc::downgrade(self);
            self.database.runtime().spawn(async move {
                while let Some(lease) = lease.upgrade() {
                    if !lease.beat().await {
                        return;
                    }
                    drop(lease);
                    tokio::time::sleep(BEAT_INTERVAL).await;
                }
            });
        }
        Ok(Epoch(epoch as u64))
    }

    /// The server that has the keyspace, or had it last.
    pub async fn server(&self) -> Result<Option<Server>, Failure> {
        self.database.decided(servers::one()).await
    }

    /// Takes the keyspace and returns the next epoch; `None` if another server changed the row meanwhile.
    async fn take_keyspace(&self) -> Result<Option<i64>, Failure> {
        let holder = self.holder;
        let found = self.server().await?;
        let (epoch, claim) = match found {
            None => (1, servers::claim(1, holder)),
            Some(other) => {
                let is_free = other.holder == holder || other.holder.is_nil();
                if !is_free && !self.is_silent(other).await? {
                    return Ok(None);
                }
                let epoch = other.epoch + 1;
                (epoch, servers::take(epoch, holder, other))
            }
        };
        let is_ours = || async {
            let found = self.server().await?;
            Ok(found.is_some_and(|found| found.epoch == epoch && found.holder == holder))
        };
        match self.database.decide(&claim, Instant::now() + PATIENCE, is_ours).await {
            Ok(true) => Ok(Some(epoch)),
            Ok(false) => Ok(None),
            Err(failed) => Err(Failure::Passing(failed.reason)),
        }
    }

    /// Waits until the keyspace's holder has missed heartbeats for long enough. Returns false if the holder has left
    /// meanwhile, and fails if a heartbeat arrives.
    async fn is_silent(&self, found: Server) -> Result<bool, Failure> {
        // A standby asks again and again.
        if !self.told.swap(true, Ordering::AcqRel) {
            tracing::info!(
                "another server has this keyspace, or had it when it was killed: waiting for a sign of life"
            );
        }
        let until = Instant::now() + TAKEOVER;
        while Instant::now() < until {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = self.server().await?;
            match now {
                Some(now) if now.holder.is_nil() => return Ok(false),
                now if now != Some(found) => return Err(in_use()),
                _ => {}
            }
        }
        Ok(true)
    }

    /// Writes one heartbeat. Returns false if no more are needed.
    async fn beat(&self) -> bool {
        if self.database.check_open().is_err() {
            return false;
        }
        let begun = Instant::now();
        let (beat, holder) = (self.beat.fetch_add(1, Ordering::AcqRel) + 1, self.holder);
        let mutation = servers::beat(beat, holder);
        let has_been_heard = || async {
            let found = self.server().await?;
            Ok(found.is_some_and(|found| found.holder == holder && found.beat == beat))
        };
        match self.database.decide(&mutation, begun + PATIENCE, has_been_heard).await {
            Ok(true) => {
                self.set(State::Held(begun));
                true
            }
            Ok(false) if self.database.check_open().is_err() => false,
            Ok(false) => {
                tracing::error!("another server has taken over this keyspace");
                self.set(State::Lost);
                false
            }
            Err(_) => true,
        }
    }

    /// Gives the keyspace up, so that the next server need not wait.
    pub async fn leave(&self) {
        if self.is_none() {
            return;
        }
        let mutation = servers::leave(self.holder);
        let _ = self.database.decide(&mutation, Instant::now() + PATIENCE, || async { Ok(true) }).await;
    }
}

fn in_use() -> Failure {
    Failure::InUse("another server has this keyspace: stop it first, or give this one a keyspace of its own".into())
}
