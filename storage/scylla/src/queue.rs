//! The jobs that wait in a channel's lane.

use std::collections::VecDeque;
use std::time::Instant;

use engine::id::{MessageId, UserId};
use engine::message::Message;
use engine::persist::{StoreWrite, UpdateMessage};
use storage::{Answer, QuestionAnswer};

use crate::change_scheduler::Turn;

/// A job, with the callback for its result, and its deadline.
pub enum Job {
    /// A new message, which may share a batch with others.
    Insert(Message, Answer, Instant),
    /// What is done alone. Its answer is a receipt, whether it writes or asks.
    Request(LaneRequest, QuestionAnswer, Instant),
    /// A group change, with its place in the change scheduler.
    Change(StoreWrite, Turn, Answer, Instant),
}

/// A request about one channel that is done alone.
pub enum LaneRequest {
    Update(UpdateMessage),
    Remove { id: MessageId, sender: UserId },
    Purge { sender: UserId, ids: Vec<MessageId> },
    Head,
    Newest { limit: usize },
}

/// The jobs that wait in a lane.
#[derive(Default)]
pub struct Queue {
    pub jobs: VecDeque<Job>,
    /// Whether a task is driving the lane.
    pub running: bool,
}
