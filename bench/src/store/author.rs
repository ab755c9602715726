//! Writes the messages that a store is filled with.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::id::{ChannelId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::message_id::MessageIds;
use engine::persist::StoreRequest;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use storage::Write;
use uuid::Uuid;

use super::Layout;
use crate::checker;
use crate::dialect::USERNAME;

/// Users who write in the hot channel. In the spread layout two users write in each channel.
const WRITERS_OF_HOT: u64 = 1000;

pub struct Author {
    layout: Layout,
    ids: MessageIds,
    /// How many messages each channel has.
    written: Vec<u32>,
    padding: String,
    username: Arc<str>,
    draws: ChaCha8Rng,
    count: u32,
}

impl Author {
    pub fn new(layout: Layout, channels: u32, content_bytes: usize) -> Author {
        let channels = if layout == Layout::Hot { 1 } else { channels };
        Author {
            layout,
            ids: MessageIds::after(None),
            written: vec![0; channels as usize],
            padding: checker::padding(content_bytes),
            username: USERNAME.into(),
            draws: ChaCha8Rng::seed_from_u64(0),
            count: 0,
        }
    }

    /// The next message. Its channel is chosen pseudo-randomly, in the same way in each run.
    pub fn write(&mut self) -> Write {
        let random = self.draws.next_u64();
        let channel = (random % self.written.len() as u64) as u32;
        let sender = match self.layout {
            Layout::Hot => ((random >> 32) & 0xffff_ffff) % WRITERS_OF_HOT,
            Layout::Spread | Layout::Library => u64::from(channel) * 2 + (random >> 63),
        };
        let (now, id) = self.next_id(random);
        let written = &mut self.written[channel as usize];
        *written += 1;
        let message = Message {
            channel: ChannelId::room(&format!("small-{channel:07}")).expect("a short name"),
            id,
            sequence: Sequence(u64::from(*written)),
            code: MessageCode::Chat,
            sender: UserId(Uuid::from_u128(u128::from(scattered(sender)) << 64 | u128::from(sender))),
            username: self.username.clone(),
            content: checker::content(self.count, now.0.cast_unsigned(), &self.padding).into(),
            create_time: now,
            update_time: now,
            persistent: true,
        };
        self.count += 1;
        Write::Request(StoreRequest::Insert(message))
    }

    /// All channels share one sequence of ids, so ids rise in each channel. The ids must not run ahead of the clock.
    fn next_id(&mut self, random: u64) -> (Timestamp, engine::id::MessageId) {
        loop {
            let now = Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as i64);
            match self.ids.next(now, random) {
                Ok(id) => return (now, id),
                Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        }
    }
}

/// Maps a number to another one, so that neighbours lie far apart.
fn scattered(number: u64) -> u64 {
    ChaCha8Rng::seed_from_u64(number).next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_scattered_and_the_same_each_time() {
        let mut halves = [0; 2];
        (0..1000).for_each(|number| halves[(scattered(number) >> 63) as usize] += 1);
        assert!(halves.iter().all(|half| (400..600).contains(half)), "{halves:?}");
        assert_eq!(scattered(7), scattered(7));
    }

    #[test]
    fn sequences_count_in_each_channel() {
        let mut author = Author::new(Layout::Spread, 3, 100);
        let mut last = std::collections::HashMap::new();
        for _ in 0..100 {
            let Write::Request(StoreRequest::Insert(message)) = author.write() else { panic!("no message") };
            let before = last.insert(message.channel.clone(), (message.id, message.sequence.0));
            let (id, sequence) = before.unwrap_or((engine::id::MessageId(Uuid::nil()), 0));
            assert!(message.id > id && message.sequence.0 == sequence + 1);
        }
        assert_eq!(last.len(), 3);
    }
}
