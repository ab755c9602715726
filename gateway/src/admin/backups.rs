//! The backups that operators have the server make, one at a time, each on a thread of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use hyper::StatusCode;
use parking_lot::Mutex;
use serde::Serialize;
use storage::backup::BackedUp;
use storage::bridge::Client;

use super::answers::Refusal;
use crate::options::{Options, StoreKind};
use crate::{backup, database};

/// How the server's store is backed up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BackupPlan {
    /// By the server, which copies the store in this data directory.
    Copy { data: PathBuf },
    /// By the database, for this keyspace.
    Database { keyspace: String },
    /// Not at all: nothing is kept, or the server was started only to read.
    Never(&'static str),
}

impl BackupPlan {
    /// The plan for a server with these options.
    pub fn of(options: &Options) -> Self {
        match options.store {
            StoreKind::Memory => Self::Never("the memory store keeps nothing"),
            StoreKind::Scylla => Self::Database { keyspace: database::keyspace(&options.database) },
            StoreKind::Embedded if options.read_only => Self::Never("the server only reads: copy its data directory"),
            StoreKind::Embedded => Self::Copy { data: options.data.clone() },
        }
    }
}

/// Makes backups, and knows how the newest one is.
pub struct Backups {
    plan: BackupPlan,
    store: Client,
    newest: Arc<Mutex<Newest>>,
}

#[derive(Default)]
struct Newest {
    status: BackupStatus,
    begun: Option<Instant>,
}

/// How the newest backup is.
#[derive(Clone, Serialize, Default)]
pub struct BackupStatus {
    state: BackupState,
    directory: Option<String>,
    files: u64,
    bytes: u64,
    /// How many of these bytes the backup shares with the store, by hard links.
    linked_bytes: u64,
    /// The files of signing keys in it.
    keys: Vec<String>,
    elapsed_seconds: u64,
    /// Why there is none.
    error: Option<String>,
}

/// The state of the newest backup.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Default)]
#[serde(rename_all = "snake_case")]
enum BackupState {
    #[default]
    None,
    Running,
    Done,
    Failed,
}

impl Backups {
    /// No backup has been made.
    pub fn new(plan: BackupPlan, store: Client) -> Self {
        Self { plan, store, newest: Arc::default() }
    }

    /// How the newest backup is.
    pub fn status(&self) -> BackupStatus {
        let newest = self.newest.lock();
        let running = newest.begun.filter(|_| newest.status.state == BackupState::Running);
        let elapsed_seconds = running.map_or(newest.status.elapsed_seconds, |begun| begun.elapsed().as_secs());
        BackupStatus { elapsed_seconds, ..newest.status.clone() }
    }

    /// Begins a backup in this directory, which must not be there. Refuses if the store has no backup by the server, if a
    /// backup is being made, or if the directory cannot be one.
    pub fn begin(&self, directory: &str, with_keys: bool) -> Result<(), Refusal> {
        let data = match &self.plan {
            BackupPlan::Copy { data } => data.clone(),
            BackupPlan::Database { keyspace } => return Err(by_database(keyspace)),
            BackupPlan::Never(reason) => {
                let next = "back up a server with --store embedded";
                return Err(Refusal::new(StatusCode::CONFLICT, "no_backup", *reason, next));
            }
        };
        // Without a slash at the end.
        let path: PathBuf = Path::new(directory).components().collect();
        let mut newest = self.newest.lock();
        if newest.status.state == BackupState::Running {
            let next = "GET /v1/backup tells how it is";
            return Err(Refusal::new(StatusCode::CONFLICT, "backup_running", "a backup is being made", next));
        }
        check(&path, &data)?;
        let (store, shared) = (self.store.clone(), self.newest.clone());
        let make = move || {
            let begun = Instant::now();
            let made = backup::make(&store, &data, &path, with_keys);
            tell(&path, &made);
            shared.lock().end(made, begun);
        };
        if let Err(error) = thread::Builder::new().name("backup".into()).spawn(make) {
            let next = "see what else runs on this machine";
            return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no_thread", error.to_string(), next));
        }
        let (state, directory) = (BackupState::Running, Some(directory.to_owned()));
        *newest = Newest {
            status: BackupStatus { state, directory, ..BackupStatus::default() },
            begun: Some(Instant::now()),
        };
        Ok(())
    }
}

impl Newest {
    fn end(&mut self, made: Result<(BackedUp, Vec<String>), String>, begun: Instant) {
        let status = &mut self.status;
        status.elapsed_seconds = begun.elapsed().as_secs();
        match made {
            Ok((BackedUp { files, bytes, linked_bytes }, keys)) => {
                (status.files, status.bytes, status.linked_bytes, status.keys) = (files, bytes, linked_bytes, keys);
                status.state = BackupState::Done;
            }
            Err(error) => {
                status.error = Some(error);
                status.state = BackupState::Failed;
            }
        }
    }
}

fn tell(path: &Path, made: &Result<(BackedUp, Vec<String>), String>) {
    let directory = path.display();
    match made {
        Ok((done, keys)) => {
            let keys = keys.join(",");
            tracing::info!(%directory, files = done.files, bytes = done.bytes, keys, "made a backup");
        }
        Err(error) => tracing::error!(%directory, error, "a backup was not made"),
    }
}

/// Whether a backup may be made there.
fn check(path: &Path, data: &Path) -> Result<(), Refusal> {
    let refuse = |status, code, message: String, next| Err(Refusal::new(status, code, message, next));
    let next = "name the whole path of a directory that is not there yet, in one that is";
    let (Some(parent), true) = (path.parent(), path.is_absolute()) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "parameter_wrong",
            format!("{} is no whole path", path.display()),
            next,
        );
    };
    if path.exists() {
        let message = format!("{} is there already", path.display());
        return refuse(StatusCode::CONFLICT, "directory_taken", message, next);
    }
    // This server makes no other backup now.
    let unfinished = backup::unfinished(path);
    if unfinished.exists() {
        let message = format!("{} is left of a backup that was not finished", unfinished.display());
        return refuse(StatusCode::CONFLICT, "directory_taken", message, "remove it, and begin the backup again");
    }
    let Ok(parent) = parent.canonicalize() else {
        let message = format!("{} is not there, or this server may not see it", parent.display());
        return refuse(StatusCode::CONFLICT, "directory_missing", message, next);
    };
    // The store's own directory may hold nothing else.
    if data.join("store").canonicalize().is_ok_and(|store| parent.starts_with(store)) {
        let message = format!("{} is in the directory of the store", path.display());
        return refuse(StatusCode::BAD_REQUEST, "parameter_wrong", message, next);
    }
    Ok(())
}

fn by_database(keyspace: &str) -> Refusal {
    let message = "the data is in a database, which makes its own backups";
    let next = format!(
        "on each of its nodes run: nodetool snapshot -t stentor {keyspace}; copy the directories snapshots/stentor of its \
         tables, then run: nodetool clearsnapshot -t stentor {keyspace}; to restore, see docs/scylla.md; stentor export \
         writes everything into one file while no server runs"
    );
    Refusal::new(StatusCode::CONFLICT, "by_database", message, next)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use storage::bridge::Bridge;
    use storage::memory::Memory;

    use super::*;

    fn begin(plan: BackupPlan) -> serde_json::Value {
        let (bridge, _) = Bridge::start(Arc::new(Memory::new()), 0).expect("threads");
        let refused = Backups::new(plan, bridge.client()).begin("/nowhere/backup", true).expect_err("no backup here");
        assert_eq!(refused.answer().status(), StatusCode::CONFLICT);
        serde_json::to_value(&refused).expect("JSON")
    }

    #[test]
    #[cfg(feature = "scylla")]
    fn a_database_answers_with_its_own_commands() {
        let arguments = ["stentor", "--store", "scylla", "--scylla", "127.0.0.1:1", "--keyspace", "chats"];
        let options = Options::from_arguments(arguments.map(OsString::from)).expect("good options");
        let plan = BackupPlan::of(&options);
        assert_eq!(plan, BackupPlan::Database { keyspace: "chats".into() });
        let refused = begin(plan);
        assert_eq!(refused["code"], "by_database");
        let next = refused["next"].as_str().expect("what to do");
        for command in
            ["nodetool snapshot -t stentor chats;", "nodetool clearsnapshot -t stentor chats;", "docs/scylla.md"]
        {
            assert!(next.contains(command), "{command} is not in {next}");
        }
    }

    #[test]
    fn a_store_that_keeps_nothing_has_no_backup() {
        let arguments = ["stentor", "--store", "memory"].map(OsString::from);
        let options = Options::from_arguments(arguments).expect("good options");
        assert_eq!(begin(BackupPlan::of(&options))["code"], "no_backup");
    }
}
