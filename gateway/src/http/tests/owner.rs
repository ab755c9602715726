//! Simulates the owners of all channels: no channel has members, and each change is written to the store at once.

use engine::id::{MessageId, Sequence};
use engine::persist::{ChannelHead, StoreReceipt, StoreWrite};
use engine::query::{Block, PresencePage, Purge, Undone};
use storage::Written;
use uuid::Uuid;

use super::*;

pub fn of_empty_channels(store: Arc<dyn Store>, now: Rc<Cell<Timestamp>>) -> Owner {
    Box::new(move |channel, channel_query| match channel_query {
        ChannelQuery::Presence(_) => QueryAnswer::Presence(PresencePage::default()),
        ChannelQuery::Newest(_) => QueryAnswer::Newest(None),
        ChannelQuery::Change(change) => carry_out(&*store, channel, change, now.get()),
    })
}

fn carry_out(store: &dyn Store, channel: &ChannelId, change: ChannelChange, now: Timestamp) -> QueryAnswer {
    let failed = change.undone(Undone::NothingDone);
    let write = match change {
        ChannelChange::Group(change) => {
            assert_eq!(*channel, ChannelId::group(change.group));
            let places = places(store, channel, change.act.messages_max());
            StoreWrite::ChangeGroup { change, time: now, places }
        }
        ChannelChange::Block(Block { user, other }) => {
            assert_eq!(*channel, ChannelId::direct(user, other));
            StoreWrite::Block { user, other, time: now }
        }
        ChannelChange::Purge(Purge { sender, ids }) => StoreWrite::Purge { channel: channel.clone(), sender, ids },
    };
    match commit(store, write) {
        Some(StoreReceipt::GroupChanged(changed)) => QueryAnswer::GroupChanged(Ok(changed.map(|_| ()))),
        Some(StoreReceipt::Blocked) => QueryAnswer::Blocked(Ok(())),
        Some(StoreReceipt::Purged) => QueryAnswer::Purged(Ok(())),
        Some(other) => panic!("{other:?} answers another question"),
        None => failed,
    }
}

fn commit(store: &dyn Store, write: StoreWrite) -> Option<StoreReceipt> {
    store.commit(&[Write::Request(write)]).ok()?.pop()?.and_then(Written::answer).ok()
}

/// Positions after the last message of the channel.
fn places(store: &dyn Store, channel: &ChannelId, count: usize) -> Vec<ChannelHead> {
    let last = store.head(channel).ok().flatten().map_or(0, |head| head.sequence.0);
    let place = |sequence: u64| ChannelHead {
        id: MessageId(Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(sequence))),
        sequence: Sequence(sequence),
    };
    (last + 1..).take(count).map(place).collect()
}
