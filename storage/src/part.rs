//! Parts of lists, as stores read them for requests: bounded by what is examined, not only by what is found.

use crate::{Failure, PageStart};
use engine::id::MessageId;

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

/// Reads part after part from a place on, until the limit or the end of the list is reached.
pub fn read_on<T, P: Copy>(
    after: Option<P>,
    limit: usize,
    read: impl Fn(Option<P>, usize) -> Result<Part<T, P>, Failure>,
) -> Result<Vec<T>, Failure> {
    let (mut items, mut after) = (Vec::new(), after);
    loop {
        let part = read(after, limit - items.len())?;
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
