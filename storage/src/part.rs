//! Parts of lists, as stores read them for requests: bounded by what is examined, not only by what is found.

use engine::id::{ChannelId, MessageId, UserId};

use crate::{Failure, PageStart, Store};

/// A part of a list, in the list's order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part<T, P> {
    pub items: Vec<T>,
    /// The place up to which the store has looked, if it stopped before the limit and before the end because it had
    /// examined as many rows as a request may. There may be more behind it, even if no item was found.
    pub stopped: Option<P>,
}

impl<T, P> Part<T, P> {
    /// A part that ends because its limit or the end of the list is reached.
    pub fn whole(items: Vec<T>) -> Self {
        Self { items, stopped: None }
    }
}

/// Reads part after part from a place on, until the limit or the end of the list is reached. Fails as `read` does.
pub fn read_on<T, P: Clone>(
    after: Option<P>,
    limit: usize,
    read: impl Fn(Option<P>, usize) -> Result<Part<T, P>, Failure>,
) -> Result<Vec<T>, Failure> {
    let (mut items, mut after) = (Vec::new(), after);
    loop {
        let part = read(after.clone(), limit - items.len())?;
        items.extend(part.items);
        match part.stopped.filter(|_| items.len() < limit) {
            Some(stopped) => after = Some(stopped),
            None => return Ok(items),
        }
    }
}

impl PageStart {
    /// The place behind a message, in the same direction.
    pub fn behind(self, id: MessageId) -> Self {
        match self {
            Self::Oldest | Self::After(_) => Self::After(id),
            Self::Newest | Self::Before(_) => Self::Before(id),
        }
    }
}

/// How far the search for a user's messages has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WrittenPlace {
    pub channel: ChannelId,
    /// Where the passage begins in which the search is, if the store knows passages: no message of it has a lower id.
    pub passage: Option<MessageId>,
    /// The last message that was looked at in this passage, or in this channel.
    pub seen: Option<MessageId>,
    /// How many further rows may have a message of the user, as far as the store knows.
    pub left: u64,
}

/// [`Store::written_part`] for a store that knows in which channels a user has written, and no more: reads these
/// channels.
pub(crate) fn written_in_channels<S: Store + ?Sized>(
    store: &S,
    user: UserId,
    floor: Option<MessageId>,
    from: Option<WrittenPlace>,
    limit: usize,
) -> Result<Part<(ChannelId, MessageId), WrittenPlace>, Failure> {
    let next = |after: Option<&ChannelId>| {
        let channel = store.channels_written(user, after, 1)?.pop();
        Ok(channel.map(|channel| WrittenPlace { channel, passage: None, seen: None, left: u64::MAX }))
    };
    let from = match from {
        Some(from) => Some(from),
        None => next(None)?,
    };
    let Some(WrittenPlace { channel, seen, left, .. }) = from else {
        return Ok(Part::whole(Vec::new()));
    };
    let page = store.messages_part(&channel, seen.max(floor).map_or(PageStart::Oldest, PageStart::After), limit)?;
    let is_last = page.stopped.is_none() && page.items.len() < limit;
    let seen = page.stopped.or(page.items.last().map(|last| last.id)).or(seen);
    let own = page.items.iter().filter(|message| message.sender == user);
    let items = own.map(|message| (channel.clone(), message.id)).collect();
    let stopped =
        if is_last { next(Some(&channel))? } else { Some(WrittenPlace { channel, passage: None, seen, left }) };
    Ok(Part { items, stopped })
}
