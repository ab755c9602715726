//! The jobs that wait in a channel's lane.

use std::collections::VecDeque;
use std::time::Instant;

use storage::{Answer, Write};

use crate::change_scheduler::Turn;

/// A request, and the callback for its result.
pub struct Job {
    pub write: Write,
    pub answer: Answer,
    pub deadline: Instant,
    /// Its place in the change scheduler, if it is a group change.
    pub turn: Option<Turn>,
}

/// The jobs that wait in a lane.
#[derive(Default)]
pub struct Queue {
    pub jobs: VecDeque<Job>,
    /// Whether a task is driving the lane.
    pub running: bool,
}
