//! The ids, sequence numbers and times of a channel's next messages.

use super::{StepContext, busy};
use crate::command::Rejection;
use crate::id::{Sequence, Timestamp};
use crate::message_id::{MessageIds, latest_time};
use crate::persist::ChannelHead;

/// Gives out ids, sequence numbers and times, each in ascending order.
pub struct Numbering {
    ids: MessageIds,
    /// The last place that was given out, or that the history has.
    last: Option<ChannelHead>,
    next: Sequence,
    /// The newest time that a message was given. If a server whose clock was ahead wrote the history, the channel's
    /// time stands still until the clock has reached it.
    newest: Timestamp,
}

impl Numbering {
    /// Continues after the end of the history, and after the last place that an owner before this one has given out, if it
    /// has left that behind: messages that are not stored have places too.
    pub fn after(head: Option<ChannelHead>, given: Option<ChannelHead>) -> Self {
        let id = head.map(|head| head.id).max(given.map(|given| given.id));
        let sequence = head.map(|head| head.sequence).max(given.map(|given| given.sequence));
        Self {
            ids: MessageIds::after(id),
            last: id.zip(sequence).map(|(id, sequence)| ChannelHead { id, sequence }),
            next: Sequence(sequence.map_or(0, |sequence| sequence.0) + 1),
            newest: id.and_then(latest_time).unwrap_or_default(),
        }
    }

    /// The last place that was given out, or that the history has.
    pub fn last(&self) -> Option<ChannelHead> {
        self.last
    }

    /// The time of what is accepted now. It never goes back, so that the order of times is the order of ids.
    pub fn time(&mut self, context: &StepContext) -> Timestamp {
        self.newest = context.now.wall.max(self.newest);
        self.newest
    }

    /// The place of a new message. Rejected as busy if no id can be given for the time.
    pub fn place(&mut self, context: &StepContext) -> Result<ChannelHead, Rejection> {
        let time = self.time(context);
        let id = self.ids.next(time, context.random).map_err(|_| busy())?;
        let sequence = self.next;
        self.next.0 += 1;
        let place = ChannelHead { id, sequence };
        self.last = Some(place);
        Ok(place)
    }

    /// The sequence number that the next new message will be given. An update or a removal is told with it.
    pub fn next(&self) -> Sequence {
        self.next
    }
}
