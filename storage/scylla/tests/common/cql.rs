//! The cluster store under test, on the node that `STENTOR_TEST_CQL` names (`host:port`). If the variable is not set,
//! its tests print a note and do nothing: `check` always starts a node.

use std::fs::File;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use engine::id::Timestamp;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use storage::Store;
use storage_scylla::options::{BucketBounds, ScyllaOptions};
use storage_scylla::{Scylla, apply_schema, schema};

use super::shared::StoreUnderTest;

/// How long a node may take to answer a new session.
const PATIENCE: Duration = Duration::from_secs(30);

/// Keyspaces that tests share, one after another: creating one takes seconds, emptying one does not, and every table
/// costs a node memory.
const KEYSPACES_MAX: usize = 64;

pub fn wall() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(i64::try_from(since_epoch.as_nanos()).unwrap())
}

pub fn node() -> Option<String> {
    std::env::var("STENTOR_TEST_CQL").ok().filter(|node| !node.is_empty())
}

/// Runs a test that needs a node.
pub fn with_node(test: impl FnOnce()) {
    match node() {
        Some(_) => test(),
        None => println!("skipped: STENTOR_TEST_CQL names no CQL node"),
    }
}

pub struct OnCql {
    store: Option<Scylla>,
    pub options: ScyllaOptions,
    /// Locked while this test uses the keyspace.
    _lock: File,
}

impl OnCql {
    pub fn begin_with(buckets: BucketBounds) -> Self {
        let (keyspace, lock) = keyspace();
        let mut options = options(&keyspace);
        options.buckets = buckets;
        apply_schema(&options, wall()).unwrap();
        empty(&options);
        Self { store: Some(open(&options)), options, _lock: lock }
    }

    pub fn scylla(&self) -> &Scylla {
        self.store.as_ref().unwrap()
    }

    /// Ends the store as a crash would: without leaving the keyspace.
    pub fn crash(&mut self) {
        drop(self.store.take());
        self.store = Some(open(&self.options));
    }

    /// Runs a statement directly on the database.
    pub fn say(&self, cql: &str) {
        in_session(&self.options, async |session| {
            session.query_unpaged(cql, ()).await.unwrap();
        });
    }

    /// Runs these statements directly on the database.
    pub fn say_all(&self, statements: &[String]) {
        in_session(&self.options, async |session| {
            for cql in statements {
                session.query_unpaged(cql.as_str(), ()).await.unwrap();
            }
        });
    }

    /// How many marks of removed rows Cassandra passes when it answers this query, as it says itself.
    pub fn marks(&self, cql: &str) -> usize {
        let mut marks = None;
        in_session(&self.options, async |session| {
            let mut traced = scylla::statement::unprepared::Statement::new(cql);
            traced.set_tracing(true);
            let trace = session.query_unpaged(traced, ()).await.unwrap().tracing_id().unwrap();
            let said = |activity: String| {
                let (_, rest) = activity.strip_prefix("Read ")?.split_once(" live rows and ")?;
                rest.split(' ').next()?.parse().ok()
            };
            // The node writes the events of a trace behind its answer.
            let since = Instant::now();
            while marks.is_none() && since.elapsed() < PATIENCE {
                let events = session.get_tracing_info(&trace).await.map(|found| found.events).unwrap_or_default();
                marks = events.into_iter().filter_map(|event| event.activity).find_map(said);
            }
        });
        marks.expect("the trace says what was read")
    }

    /// How many rows this query finds.
    pub fn count(&self, cql: &str) -> usize {
        let mut found = 0;
        in_session(&self.options, async |session| {
            found = session.query_unpaged(cql, ()).await.unwrap().into_rows_result().unwrap().rows_num();
        });
        found
    }
}

impl OnCql {
    /// The bytes of the first column of this query's rows.
    pub fn blobs(&self, cql: &str) -> Vec<Vec<u8>> {
        let mut blobs = Vec::new();
        in_session(&self.options, async |session| {
            let found = session.query_unpaged(cql, ()).await.unwrap().into_rows_result().unwrap();
            blobs.extend(found.rows::<(Vec<u8>,)>().unwrap().map(|row| row.unwrap().0));
        });
        blobs
    }

    /// The numbers of the first column of this query's rows.
    pub fn numbers(&self, cql: &str) -> Vec<i64> {
        let mut numbers = Vec::new();
        in_session(&self.options, async |session| {
            let found = session.query_unpaged(cql, ()).await.unwrap().into_rows_result().unwrap();
            numbers.extend(found.rows::<scylla::value::Row>().unwrap().filter_map(|row| {
                match row.unwrap().columns.into_iter().next().flatten()? {
                    scylla::value::CqlValue::BigInt(number) => Some(number),
                    scylla::value::CqlValue::Int(number) => Some(i64::from(number)),
                    other => panic!("{other:?} is no number"),
                }
            }));
        });
        numbers
    }
}

impl OnCql {
    /// All rows of this query, in an order of its own.
    pub fn rows(&self, cql: &str) -> Vec<String> {
        let mut rows = Vec::new();
        in_session(&self.options, async |session| {
            let found = session.query_unpaged(cql, ()).await.unwrap().into_rows_result().unwrap();
            let found = found.rows::<scylla::value::Row>().unwrap();
            rows.extend(found.map(|row| format!("{:?}", row.unwrap().columns)));
        });
        rows.sort_unstable();
        rows
    }
}

impl StoreUnderTest for OnCql {
    fn begin() -> Self {
        Self::begin_with(BucketBounds::default())
    }

    fn store(&self) -> &dyn Store {
        self.scylla()
    }

    fn reopen(&mut self) {
        let store = self.store.take().unwrap();
        store.close().unwrap();
        drop(store);
        self.store = Some(open(&self.options));
    }
}

fn empty(options: &ScyllaOptions) {
    in_session(options, async |session| {
        for table in schema::tables() {
            let found = session.query_unpaged(format!("SELECT * FROM {table} LIMIT 1"), ()).await.unwrap();
            if found.into_rows_result().unwrap().rows_num() > 0 {
                session.query_unpaged(format!("TRUNCATE {table}"), ()).await.unwrap();
            }
        }
    });
}

fn options(keyspace: &str) -> ScyllaOptions {
    let mut options = ScyllaOptions::at(vec![node().unwrap()]);
    options.keyspace = keyspace.parse().unwrap();
    options.replication = 1;
    // Chance must not change what a test counts.
    options.removals_per_rewrite = u32::MAX;
    options
}

/// A keyspace that no other test is using, in this process or another.
fn keyspace() -> (String, File) {
    for number in 0..KEYSPACES_MAX {
        let name = format!("stentor_test_{number}");
        let lock = File::create(std::env::temp_dir().join(&name)).unwrap();
        if lock.try_lock().is_ok() {
            return (name, lock);
        }
    }
    panic!("{KEYSPACES_MAX} tests at a time");
}

/// Opens a store and waits until it answers.
pub fn open(options: &ScyllaOptions) -> Scylla {
    let store = Scylla::open(options.clone(), wall).unwrap();
    let since = Instant::now();
    loop {
        match store.revocations() {
            Ok(_) => return store,
            Err(failure) => assert!(since.elapsed() < PATIENCE, "{failure}"),
        }
        std::thread::yield_now();
    }
}

fn in_session(options: &ScyllaOptions, work: impl AsyncFnOnce(&Session)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let session = SessionBuilder::new().known_nodes(&options.nodes).build().await.unwrap();
        session.use_keyspace(options.keyspace.as_str(), true).await.unwrap();
        work(&session).await;
    });
}
