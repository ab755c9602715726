//! Simulates the owners of all channels: no channel has members, and each change is written to the store at once.

use engine::id::{MessageId, Sequence};
use engine::parcel::Block;
use engine::persist::{ChannelHead, StoreReceipt, StoreRequest};
use storage::Written;
use uuid::Uuid;

use super::*;

pub fn of_empty_channels(store: Arc<dyn Store>, now: Rc<Cell<Timestamp>>) -> Owner {
    Box::new(move |channel, channel_query| match channel_query {
        ChannelQuery::Presence { .. } => ChannelAnswer::Presence { presences: Vec::new(), count: 0 },
        ChannelQuery::Newest { .. } => ChannelAnswer::AskTheStore,
        ChannelQuery::ChangeGroup(change) => {
            assert_eq!(*channel, ChannelId::group(change.group));
            let places = places(&*store, channel, change.act.messages_max());
            match commit(&*store, StoreRequest::ChangeGroup { change, time: now.get(), places }) {
                Some(StoreReceipt::GroupChanged(changed)) => ChannelAnswer::GroupChanged(changed.map(|_| ())),
                other => failed(other),
            }
        }
        ChannelQuery::Block(Block { user, other }) => {
            assert_eq!(*channel, ChannelId::direct(user, other));
            match commit(&*store, StoreRequest::Block { user, other, time: now.get() }) {
                Some(StoreReceipt::Blocked) => ChannelAnswer::Done,
                other => failed(other),
            }
        }
        ChannelQuery::Purge { sender, ids } => {
            match commit(&*store, StoreRequest::Purge { channel: channel.clone(), sender, ids }) {
                Some(StoreReceipt::Purged) => ChannelAnswer::Done,
                other => failed(other),
            }
        }
    })
}

fn failed(receipt: Option<StoreReceipt>) -> ChannelAnswer {
    assert_eq!(receipt, None, "an answer to another question");
    ChannelAnswer::Failed
}

fn commit(store: &dyn Store, request: StoreRequest) -> Option<StoreReceipt> {
    store.commit(&[Write::Request(request)]).ok()?.pop()?.ok().map(Written::answer)
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
