//! Reads of history in flight, which concurrent callers share.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use engine::id::{ChannelId, MessageId};
use engine::message::Message;
use parking_lot::Mutex;
use storage::{Failure, PageStart, Part};
use tokio::sync::OnceCell;

use crate::READERS;

/// Most different reads of one channel at a time: some readers are left for other channels, however slow this one's
/// partition is.
const READS_PER_CHANNEL_MAX: usize = READERS * 3 / 4;

/// A part of history.
pub type Page = Result<Part<Message, MessageId>, Failure>;
/// The channel, the place, the limit, and the channel's version when the read began.
type Question = (ChannelId, PageStart, usize, u64);

/// Reads in flight. A caller with the same query waits for the same answer, unless something was written since the read
/// began.
#[derive(Default)]
pub struct Sharing {
    under_way: Mutex<HashMap<Question, Weak<OnceCell<Page>>>>,
}

impl Sharing {
    /// Joins the read of this query, or begins one. Fails for the moment if the channel has as many readers as it may. The
    /// caller keeps the first result until it has its answer.
    pub fn join(&self, question: Question) -> Result<(Forget<'_>, Arc<OnceCell<Page>>), Failure> {
        let mut under_way = self.under_way.lock();
        if let Some(answer) = under_way.get(&question).and_then(Weak::upgrade) {
            return Ok((Forget(self, question), answer));
        }
        let of_channel = under_way.iter().filter(|((of, ..), open)| *of == question.0 && open.strong_count() > 0);
        if of_channel.count() >= READS_PER_CHANNEL_MAX {
            return Err(Failure::Passing("too many pages of this channel are being read".into()));
        }
        let answer = Arc::new(OnceCell::new());
        under_way.insert(question.clone(), Arc::downgrade(&answer));
        Ok((Forget(self, question), answer))
    }
}

/// Removes a shared read when its last caller is done.
pub struct Forget<'k>(&'k Sharing, Question);

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let mut under_way = self.0.under_way.lock();
        // True for the last caller: its reference to the cell is dropped before this.
        if under_way.get(&self.1).is_some_and(|answer| answer.strong_count() == 0) {
            under_way.remove(&self.1);
        }
    }
}
