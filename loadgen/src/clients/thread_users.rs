//! The users of one thread: what a thread gets, and what its users do when the coordinator orders the next stage.
//!
//! Each thread runs its own single-threaded runtime. A user never moves to another thread, so the checks need no lock,
//! and a socket's wake-up is handled on the core that reads the socket.

use std::rc::Rc;

use crate::costs::recorder::Recorder;
use crate::orders::{Order, Word};

/// The answer to an order that is for another kind of users.
pub const OTHER_USERS: &str = "an order for other users";

/// The users of one thread, and the recorder for the thread's figures.
pub struct Share {
    pub users: Vec<u32>,
    pub recorder: Rc<Recorder>,
    /// The number of threads of the worker.
    pub threads: usize,
}

impl Share {
    /// This thread's part of what the worker may do at once.
    pub fn part_of(&self, in_flight: u32) -> usize {
        assert!(self.threads > 0, "a share is a thread's");
        (in_flight as usize).div_ceil(self.threads)
    }
}

/// What the users of one thread do, stage by stage. Each kind of run has its own users.
pub trait ThreadUsers {
    /// Carries out an order. Returns the answer to it, or `None` if this order is not answered. An error ends the run.
    async fn obey(&mut self, order: &Order) -> Result<Option<Word>, String>;

    /// Ends the connections after the last answer. Users that disconnect without a close frame do nothing here.
    async fn leave(&mut self) {}
}
