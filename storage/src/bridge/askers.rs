//! Who asks the committer, with the way back: each asker gets one answer.

use engine::persist::{Lasting, Receipt, StoreFailure, StoreQuestion, StoreReceipt, Ticket};

use super::Line;
use super::client_counts::ClientAnswer;
use crate::{Failure, Written, limited};

/// A shard that asks, with the way to it.
#[derive(Clone)]
pub struct ShardAsker {
    pub receipts: flume::Sender<Receipt>,
    pub ticket: Ticket,
}

impl ShardAsker {
    /// Sends the receipt, and logs a failure: a session is not told the reason. Never blocks.
    pub fn answer(&self, found: Result<StoreReceipt, Failure>) {
        if let Err(failure) = &found {
            log(failure);
        }
        send_receipt(&self.receipts, (self.ticket, found.map_err(as_store_failure)));
    }
}

/// The receiver of a write's result, with the way to it.
pub enum Asker {
    Shard(ShardAsker),
    Client(ClientAnswer),
}

impl Asker {
    /// Answers a write. A failure that ends the store is noted.
    pub fn answer(self, line: &Line, written: Result<Written, Failure>) {
        if let Err(failure) = &written {
            line.note(failure);
        }
        match self {
            Self::Shard(shard) => shard.answer(written.and_then(Written::answer)),
            Self::Client(answer) => answer.give(written),
        }
    }
}

/// The askers of one group: of its writes in their order, and of the questions that are to be answered behind the writes.
#[derive(Default)]
pub struct GroupAskers {
    pub writers: Vec<Asker>,
    pub questions: Vec<(ShardAsker, StoreQuestion)>,
}

/// The queue has room for everything that its shard may have in flight, so this never blocks. A shard that has ended
/// needs no receipt.
fn send_receipt(receipts: &flume::Sender<Receipt>, receipt: Receipt) {
    let sent = receipts.try_send(receipt);
    assert!(
        !matches!(sent, Err(flume::TrySendError::Full(_))),
        "a shard has more requests under way than its queue holds"
    );
}

/// Says why, unless there are many such lines, as the gateway does for HTTP.
fn log(failure: &Failure) {
    match failure {
        Failure::Passing(reason) => limited!(warn, %reason, "the store refused a request for now"),
        // The store has already logged this once.
        Failure::Full(_) | Failure::ReadOnly(_) => {}
        Failure::Unknown(reason) => limited!(warn, %reason, "it is unknown whether the store has done a request"),
        Failure::Broken(reason) => limited!(error, %reason, "the store failed while it did a request"),
        failure => limited!(error, %failure, "the store failed a request"),
    }
}

fn as_store_failure(failure: Failure) -> StoreFailure {
    let lasting = match &failure {
        Failure::ReadOnly(_) => Some(Lasting::ReadOnly),
        Failure::Corrupt(_) => Some(Lasting::Damaged),
        _ => None,
    };
    StoreFailure { message: failure.to_string(), outcome_unknown: failure.outcome_is_unknown(), lasting }
}
