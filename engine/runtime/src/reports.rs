//! Asking running shards what they have counted: a question rides to each over a queue with room for one, and its answer
//! comes back over a queue of the requester's. Nobody waits for a shard that does not answer in time.

use std::time::{Duration, Instant};

use engine::counters::Report;
use engine::id::ShardId;

/// Where a shard is to put its report.
pub type Question = flume::Sender<Box<Report>>;

/// A way to ask all shards, for one requester at a time: a second question to a shard replaces one it has not answered.
#[derive(Clone)]
pub struct Observer {
    pub(super) questions: Vec<flume::Sender<Question>>,
}

impl Observer {
    /// One place for each shard, in order; empty where a shard did not answer within `patience`.
    pub fn ask(&self, patience: Duration) -> Vec<Option<Box<Report>>> {
        let deadline = Instant::now() + patience;
        let mut reports: Vec<Option<Box<Report>>> = self.questions.iter().map(|_| None).collect();
        let (answer, answers) = flume::bounded(self.questions.len());
        for question in &self.questions {
            // Full: the shard has not even taken the last one in. Gone: it has ended. Either way it is not up.
            let _ = question.try_send(answer.clone());
        }
        drop(answer);
        while let Ok(report) = answers.recv_deadline(deadline) {
            let ShardId(shard) = report.shard;
            reports[usize::from(shard)] = Some(report);
        }
        reports
    }
}
