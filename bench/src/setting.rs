//! The settings of every question: which server, on which cores, and where the results are written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::checker;
use crate::cpu;
use crate::dialect::Persistence;
use crate::failure::Failure;
use crate::launch::{Budgets, Launch};
use crate::report::Conditions;
use crate::server;

#[derive(Args, Clone, Default, Debug)]
pub struct Setting {
    /// The stentor binary; without it, it is built first.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Writes everything measured to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The cores of the measured server; by default the first ones, one for each shard.
    #[arg(long, visible_alias = "server-cpu", value_delimiter = ',')]
    server_cpus: Vec<usize>,
    /// The cores of the clients; a single client runs on the first of them. By default all that the server leaves, or
    /// the last.
    #[arg(long, visible_alias = "client-cpu", value_delimiter = ',')]
    client_cpus: Vec<usize>,
}

/// The runs of a question: how long, how often, and with what messages.
#[derive(Args, Clone, Copy, Debug)]
pub struct Runs {
    /// Seconds of each run.
    #[arg(long, default_value_t = 5.0)]
    pub secs: f64,
    /// Rounds; figures are medians.
    #[arg(long, default_value_t = 3)]
    pub repeat: usize,
    /// Bytes of a message's content, before JSON escapes its quotes.
    #[arg(long, default_value_t = 100)]
    pub payload: usize,
}

impl Runs {
    /// Refuses runs that cannot be measured.
    pub fn check(&self) -> Result<(), Failure> {
        if Duration::try_from_secs_f64(self.secs).is_err() || self.secs == 0.0 || self.repeat == 0 {
            return Err(Failure::Options("--secs and --repeat must be above zero".into()));
        }
        checker::check_content_bytes(self.payload)
    }

    /// The length of a run that `check` lets pass.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.secs)
    }
}

/// The disk on which a server has its data.
#[derive(Args, Debug)]
pub struct Disk {
    /// On which disk: data directories are made here and removed. Default: beside this program.
    #[arg(long)]
    data_in: Option<PathBuf>,
}

impl Disk {
    /// The directory in which data directories are made.
    pub fn directory(&self) -> io::Result<PathBuf> {
        match &self.data_in {
            Some(directory) => Ok(directory.clone()),
            None => Ok(std::env::current_exe()?.parent().unwrap_or(Path::new(".")).to_owned()),
        }
    }
}

impl Setting {
    /// How a server with so many shards is started for this question: with the memory store, and messages that are not
    /// stored. Builds the server if none is named, and raises this process's limit of descriptors. Call it before
    /// anything is started, because starting a child pins this thread.
    pub fn launch(&self, shards: usize) -> io::Result<Launch> {
        let (server_cpus, client_cpus) = self.cores(shards)?;
        cpu::raise_descriptor_limit();
        Ok(Launch {
            stentor: self.server.clone().map_or_else(server::build_stentor, Ok)?,
            store: "memory".into(),
            persistence: Persistence::Passing,
            shards,
            server_cpus,
            client_cpus,
            budgets: Budgets::Default,
            more: Vec::new(),
            data_in: None,
        })
    }

    /// The same, but refuses cores that server and client would share.
    pub fn launch_apart(&self) -> io::Result<Launch> {
        let (server_cpus, client_cpus) = self.cores(1)?;
        if server_cpus.contains(&client_cpus[0]) {
            return Err(io::Error::other(format!(
                "server and client need a core each, and both would be on core {}; name others with --server-cpus and \
                 --client-cpus",
                client_cpus[0]
            )));
        }
        self.launch(1)
    }

    /// The cores of a server with so many shards, and the cores of its clients; at least one of each.
    pub fn cores(&self, shards: usize) -> io::Result<(Vec<usize>, Vec<usize>)> {
        Ok(self.cores_of(shards, &cpu::allowed_cpus()?))
    }

    fn cores_of(&self, shards: usize, allowed: &[usize]) -> (Vec<usize>, Vec<usize>) {
        let or_else =
            |named: &[usize], by_default: Vec<usize>| if named.is_empty() { by_default } else { named.into() };
        let server = or_else(&self.server_cpus, allowed[..shards.clamp(1, allowed.len())].to_vec());
        let left: Vec<usize> = allowed.iter().copied().filter(|cpu| !server.contains(cpu)).collect();
        let last = allowed[allowed.len() - 1..].to_vec();
        let clients = or_else(&self.client_cpus, if left.is_empty() { last } else { left });
        (server, clients)
    }

    /// Writes the results and the conditions of the run to a file, if the options ask for it.
    pub fn keep(&self, results: &impl Serialize) -> io::Result<()> {
        #[derive(Serialize)]
        struct Kept<'a, R> {
            #[serde(flatten)]
            conditions: Conditions,
            #[serde(flatten)]
            results: &'a R,
        }
        match &self.json {
            Some(path) => {
                fs::write(path, serde_json::to_vec_pretty(&Kept { conditions: Conditions::here(), results })?)
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn server_and_clients_are_apart_as_far_as_there_are_cores() {
        let check = |shards, allowed: &[usize], server: &[usize], clients: &[usize]| {
            let found = Setting::default().cores_of(shards, allowed);
            assert_eq!(found, (server.to_vec(), clients.to_vec()), "{shards} shards on {allowed:?}");
        };
        check(1, &[0, 1], &[0], &[1]);
        check(1, &[0, 1, 2, 3], &[0], &[1, 2, 3]);
        check(2, &[0, 1, 2, 3], &[0, 1], &[2, 3]);
        check(2, &[0, 1], &[0, 1], &[1]);
        check(3, &[4, 6], &[4, 6], &[6]);
        check(1, &[5], &[5], &[5]);
    }

    #[test]
    fn cores_that_are_named_are_taken() {
        let setting = Setting { server_cpus: vec![3], client_cpus: vec![0], ..Setting::default() };
        assert_eq!(setting.cores_of(2, &[0, 1, 2, 3]), (vec![3], vec![0]));
        let setting = Setting { server_cpus: vec![1], ..Setting::default() };
        assert_eq!(setting.cores_of(1, &[0, 1, 2]), (vec![1], vec![0, 2]));
    }
}
