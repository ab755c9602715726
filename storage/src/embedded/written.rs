//! Finds the messages of a user, for the deletion of an account: passage by passage, without a look at what others have
//! written elsewhere in the same channel.

use std::ops::Bound::{Excluded, Included};

use engine::id::{ChannelId, MessageId, UserId};
use fjall::Slice;
use uuid::Uuid;

use super::draft::PASSAGE_MESSAGES;
use super::failures::{decoded, parsed};
use super::tables::View;
use super::walk::{Direction, ROWS_EXAMINED_MAX};
use crate::keys::{self, Span, Table};
use crate::{Failure, Part, WrittenPlace, record};

/// What a part of a passage is read from.
struct Stretch {
    span: Span,
    /// The beginning of the passage; `None` before the first.
    passage: Option<MessageId>,
    /// Rows in which there may be messages of the user.
    left: u64,
    /// The beginning of the next passage in the channel.
    next: Option<MessageId>,
}

impl View<'_> {
    /// See [`Store::written_part`](crate::Store::written_part).
    pub fn written(
        &self,
        user: UserId,
        floor: Option<MessageId>,
        from: Option<WrittenPlace>,
        limit: usize,
    ) -> Result<Part<(ChannelId, MessageId), WrittenPlace>, Failure> {
        let from = match from {
            Some(from) => Some(from),
            None => self.next_channel(user, None)?,
        };
        let Some(from) = from else { return Ok(Part::whole(Vec::new())) };
        let stretch = self.stretch(user, floor, &from)?;
        let (items, seen, left) = self.own_messages(user, &stretch, limit)?;
        let place = |passage, seen, left| WrittenPlace { channel: from.channel.clone(), passage, seen, left };
        let stopped = match (seen, stretch.next) {
            (Some(seen), _) => Some(place(stretch.passage, Some(seen), left)),
            (None, Some(next)) => Some(place(Some(next), None, PASSAGE_MESSAGES)),
            (None, None) => self.next_channel(user, Some(&from.channel))?,
        };
        Ok(Part { items: items.into_iter().map(|id| (from.channel.clone(), id)).collect(), stopped })
    }

    /// The user's messages in a stretch; and, if it is not at its end, the last row and how many are left.
    fn own_messages(
        &self,
        user: UserId,
        stretch: &Stretch,
        limit: usize,
    ) -> Result<(Vec<MessageId>, Option<MessageId>, u64), Failure> {
        let rows_max = stretch.left.min(ROWS_EXAMINED_MAX as u64) as usize;
        let mut walk = self.walk(Table::Messages, stretch.span.clone(), Direction::Rising).at_most(rows_max);
        let mut own = Vec::new();
        while own.len() < limit {
            let Some(row) = walk.next() else { break };
            let (key, value) = row?;
            let sender = decoded(Table::Messages, record::decode_sender(&value))?;
            if sender == user {
                own.push(parsed(Table::Messages, keys::message_id(&key))?);
            }
        }
        let left = stretch.left - walk.examined();
        let seen = match own.len() == limit {
            true => own.last().copied(),
            false => walk.stopped().map(|key| parsed(Table::Messages, keys::message_id(key))).transpose()?,
        };
        Ok((own, seen.filter(|_| left > 0), left))
    }

    /// What to read from a place on: up to the next passage, and no further than this passage may reach.
    fn stretch(&self, user: UserId, floor: Option<MessageId>, from: &WrittenPlace) -> Result<Stretch, Failure> {
        let channel = &from.channel;
        let (mut passage, mut left) = (from.passage, from.left);
        let mut first = from.seen.map(Excluded).or(passage.map(Included)).unwrap_or(Included(MessageId(Uuid::nil())));
        if let Some(floor) = floor.filter(|floor| from.seen.max(passage) < Some(*floor)) {
            // Of the passages that begin before the floor, only the last may reach beyond it.
            let last = self.passage_up_to(user, channel, floor)?;
            if last > passage {
                (passage, left) = (last, PASSAGE_MESSAGES);
            }
            first = Excluded(floor);
        }
        let next = self.passage_after(user, channel, passage)?;
        let last = next.map_or(Included(MessageId(Uuid::max())), Excluded);
        let span = (first.map(|id| keys::message(channel, id)), last.map(|id| keys::message(channel, id)));
        Ok(Stretch { span, passage, left, next })
    }

    fn passage_after(
        &self,
        user: UserId,
        channel: &ChannelId,
        after: Option<MessageId>,
    ) -> Result<Option<MessageId>, Failure> {
        let first = after.map_or(Included(MessageId(Uuid::nil())), Excluded).map(|id| keys::passage(user, channel, id));
        let span = (first, Included(keys::passage(user, channel, MessageId(Uuid::max()))));
        self.keys(Table::Passages, span).next().map(|key| id_of(&key?)).transpose()
    }

    fn passage_up_to(&self, user: UserId, channel: &ChannelId, to: MessageId) -> Result<Option<MessageId>, Failure> {
        let span = [MessageId(Uuid::nil()), to].map(|id| Included(keys::passage(user, channel, id)));
        let last = self.last_row(Table::Passages, span.into())?;
        last.map(|(key, _)| id_of(&key)).transpose()
    }

    /// The beginning of the next channel in which the user has written. A store that was upgraded has no passages for
    /// what was written before: there everything is read.
    fn next_channel(&self, user: UserId, after: Option<&ChannelId>) -> Result<Option<WrittenPlace>, Failure> {
        let Some(channel) = self.channels_written(user, after, 1)?.pop() else { return Ok(None) };
        let left = if self.has_older_messages(&channel)? { u64::MAX } else { 0 };
        Ok(Some(WrittenPlace { channel, passage: None, seen: None, left }))
    }

    fn has_older_messages(&self, channel: &ChannelId) -> Result<bool, Failure> {
        let Some(begin) = self.read(Table::Meta, keys::PASSAGES, |id| Ok(id.to_vec()))? else { return Ok(false) };
        let begin = MessageId(parsed(Table::Meta, Uuid::from_slice(&begin).ok())?);
        let span = [MessageId(Uuid::nil()), begin].map(|id| Included(keys::message(channel, id)));
        let mut walk = self.walk(Table::Messages, span.into(), Direction::Rising);
        Ok(walk.next().transpose()?.is_some() || walk.stopped().is_some())
    }
}

fn id_of(key: &Slice) -> Result<MessageId, Failure> {
    parsed(Table::Passages, keys::message_id(key))
}
