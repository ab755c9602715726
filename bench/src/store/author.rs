//! Chooses the channels and senders of the messages that a store is filled with; `author` writes them.

use engine::id::{ChannelId, UserId};
use engine::persist::StoreWrite;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use storage::Write;
use uuid::Uuid;

use super::Layout;
use crate::author::Author;

/// Users who write in the hot channel. In the spread layout two users write in each channel.
const WRITERS_OF_HOT: u64 = 1000;

pub struct LayoutAuthor {
    layout: Layout,
    author: Author,
    /// How many messages each channel has.
    written: Vec<u32>,
    draws: ChaCha8Rng,
}

impl LayoutAuthor {
    pub fn new(layout: Layout, channels: u32, content_bytes: usize) -> LayoutAuthor {
        let channels = if layout == Layout::Hot { 1 } else { channels };
        let (author, draws) = (Author::new(content_bytes), ChaCha8Rng::seed_from_u64(0));
        LayoutAuthor { layout, author, written: vec![0; channels as usize], draws }
    }

    /// The next message. Its channel is chosen pseudo-randomly, in the same way in each run.
    pub fn write(&mut self) -> Write {
        let random = self.draws.next_u64();
        let channel = random % self.written.len() as u64;
        let sender = match self.layout {
            Layout::Hot => ((random >> 32) & 0xffff_ffff) % WRITERS_OF_HOT,
            Layout::Spread | Layout::Library => channel * 2 + (random >> 63),
        };
        let sender = UserId(Uuid::from_u128(u128::from(scattered(sender)) << 64 | u128::from(sender)));
        let written = &mut self.written[channel as usize];
        *written += 1;
        let channel = ChannelId::room(&format!("small-{channel:07}")).expect("a short name");
        Write::Request(StoreWrite::Insert(self.author.write(channel, u64::from(*written), sender, random)))
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
        let mut author = LayoutAuthor::new(Layout::Spread, 3, 100);
        let mut last = std::collections::HashMap::new();
        for _ in 0..100 {
            let Write::Request(StoreWrite::Insert(message)) = author.write() else { panic!("no message") };
            let before = last.insert(message.channel.clone(), (message.id, message.sequence.0));
            let (id, sequence) = before.unwrap_or((engine::id::MessageId(Uuid::nil()), 0));
            assert!(message.id > id && message.sequence.0 == sequence + 1);
        }
        assert_eq!(last.len(), 3);
    }
}
