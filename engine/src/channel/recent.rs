//! The newest messages of a channel, cached at its owner, because every client that joins reads them first.
//!
//! The channel asks the store for them once, at the first read, and keeps them up to date with the messages that it
//! shows. Changes that are shown while the store reads are recorded, and applied to what the store has read. Applying a
//! change twice does no harm, so it does not matter which of these changes the store had already seen.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::id::{MessageId, Sequence};
use crate::limits::{RECENT_CHANGES_MAX, RECENT_MAX};
use crate::message::{Message, MessageCode};
use crate::query::Version;

/// The newest messages of a channel, if they are loaded.
#[derive(Default)]
pub struct Recent {
    state: State,
    /// The last answer and its limit, shared by all requesters with the same limit until a message changes.
    answer: Option<(usize, Arc<[Message]>)>,
    /// The memory that the messages hold.
    bytes: usize,
    /// It was asked since the last call of `take_asked`.
    asked: bool,
}

#[derive(Default)]
enum State {
    #[default]
    Unknown,
    /// The store reads for `version`; `shown` are the messages shown since.
    Asked { version: Version, shown: Vec<Message> },
    /// Messages in ascending order of ids. `complete`: the channel has no older messages.
    Known { version: Version, messages: VecDeque<Message>, complete: bool },
}

impl Recent {
    /// Returns the newest `limit` messages, newest first, and the version of the answer; or `None`, if the store must
    /// be asked instead.
    pub fn newest(&mut self, limit: usize) -> Option<(Arc<[Message]>, Version)> {
        let State::Known { version, messages, complete } = &self.state else { return None };
        self.asked = true;
        if messages.len() < limit && !complete {
            // Removals have left too few messages: forget them, so that they are read again.
            self.doubt();
            return None;
        }
        if self.answer.as_ref().is_none_or(|(answered, _)| *answered != limit) {
            self.answer = Some((limit, messages.iter().rev().take(limit).cloned().collect()));
        }
        self.answer.as_ref().map(|(_, messages)| (messages.clone(), *version))
    }

    /// Whether the caller must now ask the store for the newest `RECENT_MAX` messages. If so, this notes that the store
    /// is asked, and that its answer will be `version`, which must not have been used before.
    pub fn begin(&mut self, version: Version) -> bool {
        let begins = matches!(self.state, State::Unknown);
        if begins {
            self.state = State::Asked { version, shown: Vec::new() };
        }
        begins
    }

    /// Like `begin`, but also if removals have left fewer messages than are kept.
    pub fn begin_again(&mut self, version: Version) -> bool {
        if matches!(&self.state, State::Known { messages, .. } if messages.len() < RECENT_MAX) {
            self.doubt();
        }
        self.begin(version)
    }

    /// The memory that the messages hold.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it was asked since the last call.
    pub fn take_asked(&mut self) -> bool {
        std::mem::take(&mut self.asked)
    }

    /// Whether the store reads.
    pub fn is_asked(&self) -> bool {
        matches!(self.state, State::Asked { .. })
    }

    /// Whether all messages after this place are in memory.
    pub fn reaches(&self, after: Sequence) -> bool {
        let State::Known { messages, complete, .. } = &self.state else { return false };
        *complete || messages.front().is_some_and(|oldest| oldest.sequence.0 <= after.0 + 1)
    }

    /// Whether all messages after this one are in memory; with `None`, all messages of the channel.
    pub fn reaches_id(&self, after: Option<MessageId>) -> bool {
        let State::Known { messages, complete, .. } = &self.state else { return false };
        *complete || messages.front().is_some_and(|oldest| Some(oldest.id) <= after)
    }

    /// The messages in memory after one message and up to another, in order.
    pub fn between_ids(&self, after: Option<MessageId>, last: Option<MessageId>) -> impl Iterator<Item = &Message> {
        let messages = match &self.state {
            State::Known { messages, .. } => Some(messages),
            _ => None,
        };
        let is_between = move |message: &&Message| Some(message.id) > after && Some(message.id) <= last;
        messages.into_iter().flatten().filter(is_between)
    }

    /// The messages in memory after one place and up to another, in order. The store may know messages that are not
    /// shown yet; they come after `last`.
    pub fn between(&self, after: Sequence, last: Sequence) -> impl Iterator<Item = &Message> {
        let messages = match &self.state {
            State::Known { messages, .. } => Some(messages),
            _ => None,
        };
        messages.into_iter().flatten().filter(move |message| message.sequence > after && message.sequence <= last)
    }

    /// Takes in what the store has read for a version, newest first; `None` if the reading failed.
    ///
    /// An answer for an older version is ignored: it may belong to a reading before the channel was dropped and created
    /// again, and lacks the messages shown since.
    pub fn loaded(&mut self, read_for: Version, newest: Option<Vec<Message>>) {
        let State::Asked { version, shown } = &mut self.state else { return };
        if *version != read_for {
            return;
        }
        let (version, shown) = (*version, std::mem::take(shown));
        self.state = State::Unknown;
        self.answer = None;
        let Some(newest) = newest else { return };
        debug_assert!(newest.len() <= RECENT_MAX, "the store gives no more than it was asked for");
        debug_assert!(newest.is_sorted_by(|one, next| one.id > next.id), "the store gives the newest message first");
        let complete = newest.len() < RECENT_MAX;
        self.bytes = newest.iter().map(bytes_of).sum();
        self.state = State::Known { version, messages: newest.into_iter().rev().collect(), complete };
        for message in &shown {
            self.show(message);
        }
    }

    /// Removes messages that were deleted without an announcement in the channel.
    pub fn forget(&mut self, ids: &[MessageId]) {
        match &mut self.state {
            State::Unknown => {}
            // The store may have read them before they were deleted, so its answer will be ignored and the next reader
            // asks again.
            State::Asked { .. } => self.state = State::Unknown,
            State::Known { version, messages, .. } => {
                messages.retain(|message| !ids.contains(&message.id));
                self.bytes = messages.iter().map(bytes_of).sum();
                version.changes += 1;
                self.answer = None;
            }
        }
    }

    /// Forgets the messages, because the store may have made a change that the channel did not show. The next reader
    /// asks the store.
    pub fn doubt(&mut self) {
        self.state = State::Unknown;
        self.answer = None;
        self.bytes = 0;
    }

    /// Applies a message, an update or a removal that the channel has shown.
    pub fn show(&mut self, message: &Message) {
        if !message.persistent {
            return;
        }
        match &mut self.state {
            State::Unknown => {}
            State::Asked { shown, .. } if shown.len() < RECENT_CHANGES_MAX => shown.push(message.clone()),
            State::Asked { .. } => self.state = State::Unknown,
            State::Known { version, messages, complete } => {
                let place = messages.binary_search_by(|known| known.id.cmp(&message.id));
                match (message.code, place) {
                    (MessageCode::Update, Ok(place)) => {
                        self.bytes = self.bytes - bytes_of(&messages[place]) + bytes_of(message);
                        messages[place] = Message { code: messages[place].code, ..message.clone() };
                    }
                    (MessageCode::Remove, Ok(place)) => {
                        self.bytes -= messages.remove(place).as_ref().map_or(0, bytes_of);
                    }
                    (MessageCode::Update | MessageCode::Remove, Err(_)) | (_, Ok(_)) => return,
                    (_, Err(place)) => {
                        self.bytes += bytes_of(message);
                        messages.insert(place, message.clone());
                    }
                }
                if messages.len() > RECENT_MAX {
                    self.bytes -= messages.pop_front().as_ref().map_or(0, bytes_of);
                    *complete = false;
                }
                debug_assert_eq!(self.bytes, messages.iter().map(bytes_of).sum::<usize>());
                version.changes += 1;
                self.answer = None;
            }
        }
    }
}

/// The memory that a message holds.
fn bytes_of(message: &Message) -> usize {
    size_of::<Message>() + message.content.len() + message.username.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{ChannelId, Epoch, Sequence, Timestamp, UserId};

    fn message(id: u128, code: MessageCode, content: &str) -> Message {
        Message {
            channel: ChannelId::room("lobby").unwrap(),
            id: MessageId(uuid::Uuid::from_u128(id)),
            sequence: Sequence(id as u64),
            code,
            sender: UserId(uuid::Uuid::nil()),
            username: "ada".into(),
            content: content.into(),
            create_time: Timestamp(1),
            update_time: Timestamp(1),
            persistent: true,
        }
    }

    fn reading(reading: u64) -> Version {
        Version { epoch: Epoch(1), reading, changes: 0 }
    }

    fn chat(id: u128) -> Message {
        message(id, MessageCode::Chat, "{}")
    }

    fn ids(recent: &mut Recent, limit: usize) -> Option<Vec<u128>> {
        let (messages, _) = recent.newest(limit)?;
        Some(messages.iter().map(|message| message.id.0.as_u128()).collect())
    }

    #[test]
    fn is_read_once_and_kept_up() {
        let mut recent = Recent::default();
        assert_eq!(ids(&mut recent, 10), None);
        assert!(recent.begin(reading(1)));
        assert!(!recent.begin(reading(1)), "one read at a time");
        // These are shown while the store reads: the store has seen one of them, but not the other.
        recent.show(&chat(4));
        recent.show(&message(2, MessageCode::Remove, "{}"));
        recent.loaded(reading(1), Some(vec![chat(4), chat(3), chat(2), chat(1)]));
        assert_eq!(ids(&mut recent, 10), Some(vec![4, 3, 1]));
        let before = recent.newest(10).unwrap().1;
        recent.show(&message(3, MessageCode::Update, "{\"new\":1}"));
        recent.show(&chat(5));
        let (messages, version) = recent.newest(2).unwrap();
        assert_ne!(version, before);
        assert_eq!(messages[0].id.0.as_u128(), 5);
        let (messages, _) = recent.newest(3).unwrap();
        assert_eq!((&*messages[2].content, messages[2].code), ("{\"new\":1}", MessageCode::Chat));
        recent.show(&Message { persistent: false, ..chat(6) });
        assert_eq!(ids(&mut recent, 10), Some(vec![5, 4, 3, 1]), "what is not kept is not read");
    }

    #[test]
    fn keeps_the_newest_and_knows_when_it_has_too_few() {
        let mut recent = Recent::default();
        recent.begin(reading(1));
        recent.loaded(reading(1), Some((1..=RECENT_MAX as u128).rev().map(chat).collect()));
        recent.show(&chat(1000));
        assert_eq!(ids(&mut recent, RECENT_MAX).unwrap().last(), Some(&2));
        recent.show(&message(1000, MessageCode::Remove, "{}"));
        assert_eq!(ids(&mut recent, RECENT_MAX), None, "there may be an older one, which is not here");
        assert!(recent.begin(reading(1)), "so it is read again");
    }

    #[test]
    fn a_home_is_told_what_is_between_two_places_or_that_this_is_not_known() {
        let mut recent = Recent::default();
        let between = |recent: &Recent, after: u64, last: u64| -> Vec<u64> {
            recent.between(Sequence(after), Sequence(last)).map(|message| message.sequence.0).collect()
        };
        assert!(!recent.reaches(Sequence(0)) && between(&recent, 0, 9).is_empty());
        recent.begin(reading(1));
        assert!(recent.is_asked() && !recent.reaches(Sequence(9)));
        recent.loaded(reading(1), Some(vec![chat(7), chat(5), chat(4)]));
        assert!(recent.reaches(Sequence(0)), "the channel has no older messages");
        assert_eq!(between(&recent, 4, 6), [5], "the last one is stored, but not shown yet");
        let full = 101..=100 + RECENT_MAX as u128;
        recent.doubt();
        recent.begin(reading(2));
        recent.loaded(reading(2), Some(full.rev().map(chat).collect()));
        assert!(recent.reaches(Sequence(100)) && !recent.reaches(Sequence(99)));
        assert!(!recent.begin_again(reading(3)), "the store would read the same messages");
        recent.show(&message(150, MessageCode::Remove, "{}"));
        assert!(recent.begin_again(reading(3)), "there is room for older ones");
    }

    #[test]
    fn gives_up_a_read_that_took_too_long_or_failed() {
        let mut recent = Recent::default();
        recent.begin(reading(1));
        recent.loaded(reading(1), None);
        assert!(recent.begin(reading(1)));
        for id in 0..=RECENT_CHANGES_MAX as u128 {
            recent.show(&chat(id));
        }
        recent.loaded(reading(1), Some(Vec::new()));
        assert_eq!(ids(&mut recent, 1), None);
        assert!(recent.begin(reading(2)));
        recent.loaded(reading(1), Some(Vec::new()));
        assert_eq!(ids(&mut recent, 1), None, "what was read before does not know what was shown since");
        recent.loaded(reading(2), Some(vec![chat(1)]));
        assert_eq!(ids(&mut recent, 1), Some(vec![1]));
        recent.loaded(reading(1), None);
        assert_eq!(recent.newest(1).unwrap().1, reading(2), "and is not taken later either");
    }
}
