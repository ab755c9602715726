//! Asks running shards for their counters. A question goes to each shard over a queue with room for one, and the answer
//! comes back over the requester's own queue. The requester does not wait for a shard that does not answer in time.

use std::time::{Duration, Instant};

use engine::counters::Report;
use engine::id::ShardId;

/// The queue into which a shard puts its report.
pub type Question = flume::Sender<Box<Report>>;

/// Asks all shards, for one requester at a time: a second question to a shard replaces one that the shard has not
/// answered.
#[derive(Clone)]
pub struct Observer {
    pub(super) questions: Vec<flume::Sender<Question>>,
}

impl Observer {
    /// Returns one entry for each shard, in order; `None` if the shard did not answer within `patience`.
    pub fn ask(&self, patience: Duration) -> Vec<Option<Box<Report>>> {
        let deadline = Instant::now() + patience;
        let mut reports: Vec<Option<Box<Report>>> = self.questions.iter().map(|_| None).collect();
        let (answer, answers) = flume::bounded(self.questions.len());
        for question in &self.questions {
            // Full: the shard has not even received the last question. Disconnected: the shard has ended. In both cases
            // it is not up.
            let _ = question.try_send(answer.clone());
        }
        drop(answer);
        while let Ok(report) = answers.recv_deadline(deadline) {
            let ShardId { core: shard, .. } = report.shard;
            let before = reports[usize::from(shard)].replace(report);
            assert!(before.is_none(), "shard {shard} answers a question once");
        }
        reports
    }
}
