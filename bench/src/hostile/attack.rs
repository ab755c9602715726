//! What an attack is, whom it is against, and what came of it. The attacks there are stand in `list`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::accounts;
use crate::failure::Failure;

/// The number of the local address of all attackers. Above it are those of attacks with very many connections.
pub const LOCAL_ADDRESS: u8 = 10;
/// An attack's turn waits so long for the server at most.
pub const PATIENCE: Duration = Duration::from_millis(5);

/// One way to ask for too much. It runs in a process of its own, in one thread.
pub trait Attack {
    /// Does what must be done before: accounts, sessions, rooms. Nothing is timed meanwhile.
    fn prepare(&mut self, target: &Target) -> Result<(), Failure>;

    /// Asks for as much as it can for a moment, and takes in what was answered. Waits for the server for
    /// `PATIENCE` at most. Sessions and connections that the server ends are opened again.
    fn turn(&mut self, target: &Target, tally: &mut Tally) -> Result<(), Failure>;
}

/// Whom an attack is against.
pub struct Target {
    pub server: SocketAddr,
    /// Where the server answers calls over gRPC.
    pub grpc: SocketAddr,
    /// The room of the bystander.
    pub room: String,
    /// For how long `turn` will be called.
    pub length: Duration,
}

impl Target {
    /// Signs in so many attackers, and returns their tokens.
    pub fn sign_in(&self, users: usize) -> Result<Vec<String>, Failure> {
        accounts::sign_in(self.server, LOCAL_ADDRESS, "attacker", users)
    }
}

/// What an attack asked, and what came of it.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub struct Tally {
    pub asked: u64,
    /// Done as asked.
    pub done: u64,
    /// By kind: the reason of a session's error, the status of an answer, or how a connection ended.
    pub refused: BTreeMap<String, u64>,
}

impl Tally {
    pub fn refuse(&mut self, kind: impl Into<String>) {
        *self.refused.entry(kind.into()).or_default() += 1;
    }

    pub fn refusals(&self) -> u64 {
        self.refused.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_kind() {
        let mut tally = Tally::default();
        for kind in ["429", "work_per_user", "429"] {
            tally.refuse(kind);
        }
        assert_eq!((tally.refused["429"], tally.refusals()), (2, 3));
    }
}
