//! The database session: connects in the background, retries until it succeeds, watches the nodes, and runs statements.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::id::Timestamp;
use parking_lot::{Mutex, RwLock};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use scylla::client::PoolSize;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::deserialize::row::DeserializeRow;
use scylla::policies::retry::FallthroughRetryPolicy;
use scylla::statement::batch::{Batch, BatchType};
use scylla::statement::{Consistency, SerialConsistency};
use scylla::value::{CqlValue, Row};
use storage::{ANSWER_DURATION_MAX, Failure, PLACEMENT_KEY_BYTES};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::clock::CellClock;
use crate::options::ScyllaOptions;
use crate::outcome::{FailedAttempt, applied};
use crate::schema;
use crate::statements::{Statements, WRITE_DURATION_MAX};
use crate::tables::{Mutation, Query, Statement, installation};

/// How long a write is tried, counted from the request.
pub const WRITE_PATIENCE: Duration = Duration::from_secs(6);
/// How long the store then tries to find out whether the write was done.
pub const LOOK_PATIENCE: Duration = Duration::from_secs(1);
/// How long the store then tries to undo it, before the caller gets the failure.
pub const UNDO_PATIENCE: Duration = Duration::from_secs(2);
/// How long a server tries to agree with the others on where channels are placed.
const PLACEMENT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a query that takes several reads may take.
pub const READ_PATIENCE: Duration = Duration::from_secs(8);

const _: () = {
    let write = WRITE_PATIENCE.as_secs() + LOOK_PATIENCE.as_secs() + UNDO_PATIENCE.as_secs();
    assert!(write < ANSWER_DURATION_MAX.as_secs() && READ_PATIENCE.as_secs() < ANSWER_DURATION_MAX.as_secs());
};

/// How long making a session may take. The driver itself may wait a minute for a node that accepts the connection and
/// does not answer.
const CONNECT_DURATION_MAX: Duration = Duration::from_secs(15);
/// Pauses between attempts; they double from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Longest pause between attempts to make a session.
const CONNECT_PAUSE_MAX: Duration = Duration::from_secs(5);
/// To the driver a Cassandra node is one shard. A ScyllaDB node gets one connection per shard anyway.
const CONNECTIONS_PER_NODE: usize = 2;
/// Attempts of a read, of at most two seconds each.
const READ_ATTEMPTS_MAX: usize = 2;
/// The database counts as away after so many failures in a row, if nothing has succeeded for `SILENCE`.
const FAILURES_IN_A_ROW: u64 = 8;
const SILENCE: Duration = Duration::from_secs(2);
/// How often a database that is away is probed.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);

/// A session with all statements prepared.
struct Open {
    session: Session,
    statements: Statements,
}

enum State {
    /// There is no session yet; the text says why.
    Trying(String),
    Open(Arc<Open>),
    /// There is a database, but this program cannot use it.
    Refused(Failure),
    Closed,
}

/// The database session; see the file's head.
pub struct DatabaseSession {
    options: ScyllaOptions,
    runtime: Handle,
    state: RwLock<State>,
    pub clock: CellClock,
    health: Health,
    /// Requests sent so far; tests count them.
    requests: AtomicU64,
    /// Rows that came back so far.
    rows: AtomicU64,
}

/// Whether the database answers.
struct Health {
    failures_in_a_row: AtomicU64,
    last_success: Mutex<Instant>,
    away: AtomicBool,
}

impl DatabaseSession {
    /// Begins to connect, in the background.
    pub fn begin(options: ScyllaOptions, wall: fn() -> Timestamp, runtime: Handle) -> Arc<Self> {
        let database = Arc::new(Self {
            options,
            runtime: runtime.clone(),
            state: RwLock::new(State::Trying("no attempt has been made yet".into())),
            clock: CellClock::new(wall),
            health: Health {
                failures_in_a_row: AtomicU64::new(0),
                last_success: Mutex::new(Instant::now()),
                away: AtomicBool::new(false),
            },
            requests: AtomicU64::new(0),
            rows: AtomicU64::new(0),
        });
        runtime.spawn(connect_until_it_holds(database.clone()));
        database
    }

    /// The operator's settings with which this was opened.
    pub fn options(&self) -> &ScyllaOptions {
        &self.options
    }

    /// The tokio runtime on which all requests to the database run.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// How many requests were sent to the database so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// How many rows the database has returned so far.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Whether there is a session now, so that a request would be sent.
    pub fn is_ready(&self) -> bool {
        self.session().is_ok()
    }

    /// Ends the session for good. Fails if it was closed before.
    pub fn close(&self) -> Result<(), Failure> {
        let mut state = self.state.write();
        if matches!(*state, State::Closed) {
            return Err(closed());
        }
        *state = State::Closed;
        Ok(())
    }

    /// Fails after [`Self::close`]. A session that is away for a while is not closed.
    pub fn check_open(&self) -> Result<(), Failure> {
        match *self.state.read() {
            State::Closed => Err(closed()),
            _ => Ok(()),
        }
    }

    /// The session. Fails at once if there is none, or if the database is known to be away, so that no request waits
    /// for it.
    fn session(&self) -> Result<Arc<Open>, Failure> {
        let open = self.session_even_if_away()?;
        if self.health.away.load(Ordering::Acquire) {
            return Err(Failure::Passing("the database does not answer".into()));
        }
        Ok(open)
    }

    fn session_even_if_away(&self) -> Result<Arc<Open>, Failure> {
        match &*self.state.read() {
            State::Trying(reason) => Err(Failure::Passing(format!("the database is not reached yet: {reason}"))),
            State::Open(open) => Ok(open.clone()),
            State::Refused(failure) => Err(failure.clone()),
            State::Closed => Err(closed()),
        }
    }

    fn set(&self, new: State) {
        let mut state = self.state.write();
        if !matches!(*state, State::Closed) {
            *state = new;
        }
    }

    fn is_closed(&self) -> bool {
        self.check_open().is_err()
    }

    /// All rows that a question finds, at quorum.
    pub async fn all<R>(&self, query: Query<R>) -> Result<Vec<R>, Failure>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        self.read(query, false).await
    }

    /// The single row that a question finds.
    pub async fn one<R>(&self, query: Query<R>) -> Result<Option<R>, Failure>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        Ok(self.all(query).await?.into_iter().next())
    }

    /// The key by which channels are placed: this candidate, unless another server has written one before.
    pub async fn placement_key(
        &self,
        candidate: [u8; PLACEMENT_KEY_BYTES],
    ) -> Result<[u8; PLACEMENT_KEY_BYTES], Failure> {
        let kept = async || match self.decided(installation::one()).await? {
            Some((key,)) => key.try_into().map(Some).map_err(|key: Vec<u8>| {
                Failure::Broken(format!(
                    "the keyspace's placement key has {} bytes instead of {PLACEMENT_KEY_BYTES}",
                    key.len()
                ))
            }),
            None => Ok(None),
        };
        if let Some(key) = kept().await? {
            return Ok(key);
        }
        let has_been_applied = || async { Ok(kept().await?.is_some()) };
        let (claim, deadline) = (installation::claim(&candidate), Instant::now() + PLACEMENT_PATIENCE);
        let claimed = self.decide(&claim, deadline, has_been_applied).await;
        claimed.map_err(|failed| Failure::Passing(failed.reason))?;
        kept().await?.ok_or_else(|| Failure::Broken("the placement key that was written is not there".into()))
    }

    /// Like `one`, but a serial read: it sees every lightweight transaction that has been decided, and completes those
    /// that are not.
    pub async fn decided<R>(&self, query: Query<R>) -> Result<Option<R>, Failure>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        Ok(self.read(query, true).await?.into_iter().next())
    }

    async fn read<R>(&self, query: Query<R>, serial: bool) -> Result<Vec<R>, Failure>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let Query { statement, values, .. } = query;
        let mut attempt = 1;
        loop {
            let open = self.session()?;
            let prepared = if serial { open.statements.serial(statement) } else { open.statements.get(statement) };
            self.count();
            let failed = match open.session.execute_unpaged(prepared, &values[..]).await {
                Ok(found) => {
                    self.succeeded();
                    let found = found.into_rows_result().map_err(odd)?;
                    self.rows.fetch_add(found.rows_num() as u64, Ordering::Relaxed);
                    return found.rows::<R>().map_err(odd)?.collect::<Result<_, _>>().map_err(odd);
                }
                Err(error) => self.failed(&error),
            };
            if attempt == READ_ATTEMPTS_MAX || !failed.passing {
                return Err(Failure::Passing(failed.reason));
            }
            attempt += 1;
        }
    }

    /// Every row of a question without values, page by page.
    pub async fn scan<R>(&self, query: Query<R>) -> Result<Vec<R>, Failure>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        debug_assert!(query.values.is_empty(), "a scan reads a whole table");
        let mut all = Vec::new();
        self.scan_with(query.statement, |row| all.push(row)).await?;
        Ok(all)
    }

    /// How many rows a statement finds whose single column is not null, page by page.
    pub async fn count_rows(&self, statement: Statement) -> Result<u64, Failure> {
        let mut count = 0;
        self.scan_with(statement, |(id,): (Option<Uuid>,)| count += u64::from(id.is_some())).await?;
        Ok(count)
    }

    async fn scan_with<R>(&self, statement: Statement, mut take: impl FnMut(R)) -> Result<(), Failure>
    where
        R: for<'f, 'm> DeserializeRow<'f, 'm>,
    {
        let open = self.session()?;
        let prepared = open.statements.get(statement);
        let mut paging = scylla::response::PagingState::start();
        loop {
            self.count();
            let page = open.session.execute_single_page(prepared, (), paging).await;
            let (found, next) = page.map_err(|error| self.failed(&error).failure())?;
            let found = found.into_rows_result().map_err(odd)?;
            self.rows.fetch_add(found.rows_num() as u64, Ordering::Relaxed);
            for row in found.rows::<R>().map_err(odd)? {
                take(row.map_err(odd)?);
            }
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Break(()) => return Ok(()),
                std::ops::ControlFlow::Continue(state) => paging = state,
            }
        }
    }

    /// Writes these mutations with rising timestamps, and retries until the deadline. Mutations of one partition become
    /// one mutation. For several partitions the caller asks for a logged batch, so that all of it is written or
    /// nothing.
    pub async fn write(
        &self,
        mutations: &[Mutation],
        together: BatchType,
        deadline: Instant,
    ) -> Result<(), FailedAttempt> {
        self.write_at(self.clock.reserve(mutations.len()), mutations.to_vec(), together, deadline).await
    }

    /// Like `write`, with timestamps that begin at `first`, which was reserved before.
    pub async fn write_at(
        &self,
        first: i64,
        mutations: Vec<Mutation>,
        together: BatchType,
        deadline: Instant,
    ) -> Result<(), FailedAttempt> {
        let statements: Vec<_> = mutations.iter().map(|mutation| mutation.statement).collect();
        debug_assert!(!statements.iter().any(|statement| statement.is_conditional()), "transactions are decided alone");
        let stamped = |(mutation, timestamp): (Mutation, i64)| mutation.statement.stamped(mutation.values, timestamp);
        let values: Vec<_> = mutations.into_iter().zip(first..).map(stamped).collect();
        self.until(deadline, || self.attempt(&statements, &values, together)).await
    }

    async fn attempt(
        &self,
        statements: &[Statement],
        values: &[Vec<CqlValue>],
        together: BatchType,
    ) -> Result<(), FailedAttempt> {
        let open = self.session().map_err(not_sent)?;
        self.count();
        let done = match (statements, values) {
            ([], _) => return Ok(()),
            ([statement], [values]) => {
                open.session.execute_unpaged(open.statements.get(*statement), &values[..]).await.map(|_| ())
            }
            _ => {
                let mut batch = Batch::new(together);
                batch.set_consistency(Consistency::LocalQuorum);
                batch.set_is_idempotent(true);
                batch.set_request_timeout(Some(WRITE_DURATION_MAX));
                for statement in statements {
                    batch.append_statement(open.statements.get(*statement).clone());
                }
                open.session.batch(&batch, values).await.map(|_| ())
            }
        };
        match done {
            Ok(()) => {
                self.succeeded();
                Ok(())
            }
            Err(error) => Err(self.failed(&error)),
        }
    }

    /// Runs a lightweight transaction. `has_been_applied` tells whether it has been applied: it must read at serial
    /// consistency, and is called after an attempt of unknown outcome. Returns false if the row as it is refuses the
    /// transaction.
    pub async fn decide<F>(
        &self,
        mutation: &Mutation,
        deadline: Instant,
        has_been_applied: impl Fn() -> F + Sync,
    ) -> Result<bool, FailedAttempt>
    where
        F: Future<Output = Result<bool, Failure>> + Send,
    {
        debug_assert!(mutation.statement.is_conditional(), "{:?} is no transaction", mutation.statement);
        let unknown = AtomicBool::new(false);
        self.until(deadline, || async {
            if unknown.load(Ordering::Relaxed) {
                let unread = |failure: Failure| FailedAttempt {
                    nothing_done: false,
                    passing: true,
                    reason: failure.to_string(),
                };
                if has_been_applied().await.map_err(unread)? {
                    return Ok(true);
                }
            }
            let outcome = self.conditional(mutation).await;
            if let Err(failed) = &outcome {
                unknown.fetch_or(!failed.nothing_done, Ordering::Relaxed);
            }
            // The row that refuses it may have been written by an earlier attempt of this same call.
            let by_itself = outcome == Ok(false) && unknown.load(Ordering::Relaxed);
            if by_itself && has_been_applied().await.unwrap_or(false) {
                return Ok(true);
            }
            outcome
        })
        .await
    }

    async fn conditional(&self, mutation: &Mutation) -> Result<bool, FailedAttempt> {
        let open = self.session().map_err(not_sent)?;
        self.count();
        let prepared = open.statements.get(mutation.statement);
        let found = match open.session.execute_unpaged(prepared, &mutation.values[..]).await {
            Ok(found) => found,
            Err(error) => return Err(self.failed(&error)),
        };
        self.succeeded();
        let unreadable = |reason: String| FailedAttempt { nothing_done: false, passing: true, reason };
        let found = found.into_rows_result().map_err(|error| unreadable(error.to_string()))?;
        let row = found.first_row::<Row>().map_err(|error| unreadable(error.to_string()))?;
        let names = found.column_specs();
        applied(names.iter().map(|column| column.name()), &row).map_err(|failure| unreadable(failure.to_string()))
    }

    /// Tries until it succeeds, cannot succeed, or the deadline has passed. If one attempt's outcome is unknown, so is
    /// the call's.
    async fn until<T, F>(&self, deadline: Instant, attempt: impl Fn() -> F + Sync) -> Result<T, FailedAttempt>
    where
        F: Future<Output = Result<T, FailedAttempt>> + Send,
    {
        let (mut pause, mut nothing_done) = (PAUSE_MIN, true);
        loop {
            let failed = match tokio::time::timeout_at(deadline.into(), attempt()).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(failed)) => failed,
                Err(_) => self.note_failure(FailedAttempt::silence()),
            };
            nothing_done &= failed.nothing_done;
            // If the database is known to be away, stop retrying, unless it may have received an earlier attempt.
            let away = self.session().is_err();
            let over = Instant::now() + pause >= deadline;
            if !failed.passing || over || (away && nothing_done) {
                return Err(FailedAttempt { nothing_done, ..failed });
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    /// Retries without a deadline, until the mutations are written or the session is closed: for rows that must not
    /// stay as they are.
    pub async fn settle(&self, mutations: &[Mutation]) {
        let mut pause = PAUSE_MIN;
        loop {
            let deadline = Instant::now() + WRITE_PATIENCE;
            // One batch per mutation: the rows belong to any number of partitions, and each mutation is useful alone.
            let mut failed = None;
            for mutation in mutations {
                let one = std::slice::from_ref(mutation);
                failed = failed.or(self.write(one, BatchType::Unlogged, deadline).await.err());
            }
            match failed {
                None => return,
                Some(failed) if !failed.passing || self.is_closed() => {
                    tracing::warn!(reason = failed.reason, "what the database may hold of a failed write stays there");
                    return;
                }
                Some(_) => tokio::time::sleep(pause).await,
            }
            pause = (2 * pause).min(PAUSE_MAX);
        }
    }

    fn count(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn succeeded(&self) {
        self.health.failures_in_a_row.store(0, Ordering::Release);
        *self.health.last_success.lock() = Instant::now();
    }

    fn failed(&self, error: &scylla::errors::ExecutionError) -> FailedAttempt {
        self.note_failure(FailedAttempt::of(error))
    }

    fn note_failure(&self, failed: FailedAttempt) -> FailedAttempt {
        if !failed.passing {
            return failed;
        }
        let failures = self.health.failures_in_a_row.fetch_add(1, Ordering::AcqRel) + 1;
        let silent = self.health.last_success.lock().elapsed() >= SILENCE;
        if failures >= FAILURES_IN_A_ROW && silent && !self.health.away.swap(true, Ordering::AcqRel) {
            tracing::warn!(reason = failed.reason, "the database does not answer: requests are refused until it does");
        }
        failed
    }

    /// Logs once for each node that has gone, and once for each that has come back.
    fn watch_nodes(&self, away: &mut HashSet<Uuid>) {
        let Ok(open) = self.session_even_if_away() else { return };
        let state = open.session.get_cluster_state();
        let nodes = state.get_nodes_info();
        for node in nodes {
            let address = node.address.to_string();
            if !node.is_connected() && away.insert(node.host_id) {
                tracing::warn!(address, "a node of the database is away");
            } else if node.is_connected() && away.remove(&node.host_id) {
                tracing::info!(address, "a node of the database is back");
            }
        }
        away.retain(|gone| nodes.iter().any(|node| node.host_id == *gone));
    }

    /// Probes a database that is away.
    async fn probe(&self) {
        if !self.health.away.load(Ordering::Acquire) {
            return;
        }
        let Ok(open) = self.session_even_if_away() else { return };
        // A read at quorum of one of our tables: a database that answers it can also write.
        let ping = open.statements.serial(Statement::Server);
        if open.session.execute_unpaged(ping, ()).await.is_ok() {
            self.succeeded();
            self.health.away.store(false, Ordering::Release);
            tracing::info!("the database answers again");
        }
    }
}

async fn connect_until_it_holds(database: Arc<DatabaseSession>) {
    let (mut pause, mut said) = (PAUSE_MIN, String::new());
    while !database.is_closed() {
        let connected = tokio::time::timeout(CONNECT_DURATION_MAX, connect(&database.options)).await;
        let reason = match connected {
            Ok(Ok(open)) => {
                database.succeeded();
                database.set(State::Open(Arc::new(open)));
                return watch(database).await;
            }
            Ok(Err(Failure::Passing(reason))) => reason,
            Ok(Err(failure)) => return database.set(State::Refused(failure)),
            Err(_) => "no node has answered in time".into(),
        };
        if said != reason {
            tracing::warn!(reason, "the database cannot be reached, trying again");
            said.clone_from(&reason);
        }
        database.set(State::Trying(reason));
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(CONNECT_PAUSE_MAX);
    }
}

async fn watch(database: Arc<DatabaseSession>) {
    let mut away = HashSet::new();
    while !database.is_closed() {
        tokio::time::sleep(PROBE_INTERVAL).await;
        database.probe().await;
        database.watch_nodes(&mut away);
    }
}

async fn connect(options: &ScyllaOptions) -> Result<Open, Failure> {
    let session = session(options).await?;
    schema::check(&session, &options.keyspace).await?;
    let statements =
        Statements::prepare(&session, &options.keyspace).await.map_err(|error| Failure::Passing(error.to_string()))?;
    Ok(Open { session, statements })
}

/// A session without a keyspace.
pub async fn session(options: &ScyllaOptions) -> Result<Session, Failure> {
    let profile = ExecutionProfile::builder()
        .consistency(Consistency::LocalQuorum)
        .serial_consistency(Some(SerialConsistency::LocalSerial))
        // This module decides what is retried, and for how long.
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(&options.nodes)
        .default_execution_profile_handle(profile.into_handle())
        .pool_size(PoolSize::PerHost(std::num::NonZeroUsize::MIN.saturating_add(CONNECTIONS_PER_NODE - 1)))
        .connection_timeout(Duration::from_secs(3))
        .keepalive_interval(Duration::from_secs(5))
        .keepalive_timeout(Duration::from_secs(5))
        .schema_agreement_timeout(Duration::from_secs(30));
    if let Some(login) = &options.login {
        builder = builder.user(&login.user, &login.password);
    }
    if options.authority.is_some() {
        builder = builder.tls_context(Some(encryption(options)?));
    }
    builder.build().await.map_err(|error| Failure::Passing(error.to_string()))
}

fn encryption(options: &ScyllaOptions) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let Some(path) = &options.authority else {
        return Err(Failure::Corrupt("no certificates are named".into()));
    };
    let wrong = |error: &dyn std::fmt::Display| {
        Failure::Corrupt(format!("the certificates in {} cannot be used: {error}", path.display()))
    };
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| wrong(&error))? {
        roots.add(certificate.map_err(|error| wrong(&error))?).map_err(|error| wrong(&error))?;
    }
    if roots.is_empty() {
        return Err(wrong(&"there is none in it"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

/// Runs a future until the deadline, then returns `Failure::Passing`. Only for work that may be abandoned in the
/// middle.
pub async fn by<T>(deadline: Instant, asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let asked = tokio::time::timeout_at(deadline.into(), asked).await;
    asked.unwrap_or_else(|_| Err(FailedAttempt::silence().failure()))
}

/// Fails if the deadline has passed.
pub fn in_time(deadline: Instant) -> Result<(), Failure> {
    if Instant::now() < deadline {
        return Ok(());
    }
    Err(Failure::Passing("the database has not answered in time".into()))
}

fn not_sent(failure: Failure) -> FailedAttempt {
    FailedAttempt { nothing_done: true, passing: matches!(failure, Failure::Passing(_)), reason: failure.to_string() }
}

fn closed() -> Failure {
    Failure::Final("the store is closed".into())
}

fn odd(error: impl std::fmt::Display) -> Failure {
    Failure::Corrupt(format!("the database's answer is not what was asked for: {error}"))
}
