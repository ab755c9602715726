//! The database's node, started by the same program that starts one for the tests, and queries that go to it directly.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use serde::Serialize;

use crate::failure::Failure;
use crate::launch::Launch;
use crate::server;

/// The environment variable with the address of a running node, `host:port`.
const NODE: &str = "STENTOR_TEST_CQL";
const HOT_CHANNEL: &str = "2...durable-0000";

/// One node, and the keyspaces that the bench makes on it.
pub struct Database {
    pub node: String,
    keyspaces: AtomicU32,
}

/// One partition of messages.
#[derive(Clone, Debug, Serialize)]
pub struct Partition {
    pub bucket: i64,
    pub rows: u64,
    /// Bytes of names and contents.
    pub bytes: u64,
}

impl Database {
    /// The node that the environment names, if there is one.
    pub fn of_environment() -> Result<Option<Self>, Failure> {
        let node = std::env::var(NODE).ok().filter(|node| !node.is_empty());
        Ok(node.map(|node| Self { node, keyspaces: AtomicU32::new(0) }))
    }

    /// A new keyspace with the server's tables.
    pub fn new_keyspace(&self, launch: &Launch) -> Result<String, Failure> {
        let number = self.keyspaces.fetch_add(1, Ordering::Relaxed);
        let keyspace = format!("bench_{}_{number}", std::process::id());
        let mut command = Command::new(&launch.stentor);
        command.args(["schema", "--apply", "--replication", "1"]).args(self.flags(&keyspace)).stdout(Stdio::null());
        let made = command.status()?;
        if !made.success() {
            return Err(Failure::Faulty(format!("the tables could not be made: {made}")));
        }
        Ok(keyspace)
    }

    /// The launch of a server on a new keyspace.
    pub fn launch(&self, launch: &Launch) -> Result<Launch, Failure> {
        Ok(self.launch_on(launch, &self.new_keyspace(launch)?))
    }

    pub fn launch_on(&self, launch: &Launch, keyspace: &str) -> Launch {
        Launch { store: "scylla".into(), more: self.flags(keyspace).into(), ..launch.clone() }
    }

    fn flags(&self, keyspace: &str) -> [String; 4] {
        ["--scylla", &self.node, "--keyspace", keyspace].map(str::to_owned)
    }

    /// The partitions of the hot room, counted row by row.
    pub fn partitions(&self, keyspace: &str) -> Result<Vec<Partition>, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let session = SessionBuilder::new().known_node(&self.node).build().await.map_err(Failure::faulty)?;
            partitions(&session, keyspace).await
        })
    }
}

async fn partitions(session: &Session, keyspace: &str) -> Result<Vec<Partition>, Failure> {
    let rows_of = async |cql: String| {
        session.query_unpaged(cql, ()).await.map_err(Failure::faulty)?.into_rows_result().map_err(Failure::faulty)
    };
    let of = format!("channel_id = '{HOT_CHANNEL}'");
    let epochs = rows_of(format!("SELECT epoch FROM {keyspace}.channel_epochs WHERE {of}")).await?;
    let mut partitions = Vec::new();
    for epoch in epochs.rows::<(i32,)>().map_err(Failure::faulty)? {
        let (epoch,) = epoch.map_err(Failure::faulty)?;
        let buckets = format!("SELECT bucket FROM {keyspace}.channel_buckets WHERE {of} AND epoch = {epoch}");
        let buckets = rows_of(buckets).await?;
        for bucket in buckets.rows::<(i64,)>().map_err(Failure::faulty)? {
            let (bucket,) = bucket.map_err(Failure::faulty)?;
            let texts = format!("SELECT username, content FROM {keyspace}.messages WHERE {of} AND bucket = {bucket}");
            let found = rows_of(texts).await?;
            let mut partition = Partition { bucket, rows: 0, bytes: 0 };
            for row in found.rows::<(Option<&str>, Option<&str>)>().map_err(Failure::faulty)? {
                let (username, content) = row.map_err(Failure::faulty)?;
                partition.rows += u64::from(content.is_some());
                partition.bytes += (username.map_or(0, str::len) + content.map_or(0, str::len)) as u64;
            }
            partitions.push(partition);
        }
    }
    partitions.sort_by_key(|partition| partition.bucket);
    Ok(partitions)
}

/// Runs this program again with the same arguments, beside a node on these cores. The node ends with that program.
pub fn again_beside_a_node(with_cassandra: Option<&Path>, cpus: &[usize]) -> Result<(), Failure> {
    let program = match with_cassandra {
        Some(path) => path.to_owned(),
        None => server::build("tests", "with-cassandra")?,
    };
    let mut command = Command::new(program);
    let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
    command
        .args(["--durable", "--cpus", &cpus.join(",")])
        .arg(std::env::current_exe()?)
        .args(std::env::args_os().skip(1));
    match command.status()? {
        status if status.success() => Ok(()),
        status => Err(Failure::Faulty(format!("the run beside it failed: {status}"))),
    }
}
