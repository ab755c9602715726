//! A slow store: requests are applied in order, later than they were made, and answered later still and in any order.

use std::collections::{BTreeMap, HashMap, HashSet};

use engine::id::{ChannelId, MessageId, NotificationId, Sequence, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::persist::{ChannelHead, StoreQuestion, StoreReceipt, StoreRequest, StoreWrite, Ticket};
use engine::social::notification::{Notice, Notification, NotificationCode};
use uuid::Uuid;

use crate::slowness::{Outcome, Slowness};
use crate::world::Random;

pub struct SlowStore {
    slowness: Slowness,
    pub history: HashMap<ChannelId, BTreeMap<MessageId, Message>>,
    heads: HashMap<ChannelId, ChannelHead>,
    /// Every id that was ever durable.
    pub durable: HashSet<MessageId>,
    /// The number of turns so far, and in which of them each message was stored.
    pub turns: u64,
    pub stored_at: HashMap<MessageId, u64>,
    /// The number of requests to chat so far.
    notices: u128,
}

impl SlowStore {
    pub fn new(shards: usize, fails: bool) -> Self {
        Self {
            slowness: Slowness::new(shards, fails),
            history: HashMap::new(),
            heads: HashMap::new(),
            durable: HashSet::new(),
            turns: 0,
            stored_at: HashMap::new(),
            notices: 0,
        }
    }

    pub fn ask(&mut self, shard: usize, ticket: Ticket, request: StoreRequest) {
        self.slowness.ask(shard, ticket, request);
    }

    pub fn turn(&mut self, random: &mut Random) -> Vec<(usize, Ticket, Outcome)> {
        self.turns += 1;
        let mut slowness = std::mem::take(&mut self.slowness);
        let receipts = slowness.turn(random, |request| self.apply(request));
        self.slowness = slowness;
        receipts
    }

    /// The shard has died.
    pub fn forget(&mut self, shard: usize, random: &mut Random) {
        let mut slowness = std::mem::take(&mut self.slowness);
        slowness.forget(shard, random, |request| self.apply(request));
        self.slowness = slowness;
    }

    pub fn is_quiet(&self) -> bool {
        self.slowness.is_quiet()
    }

    fn apply(&mut self, request: StoreRequest) -> StoreReceipt {
        match request {
            StoreRequest::Question(StoreQuestion::Head { channel }) => {
                StoreReceipt::Head(self.heads.get(&channel).copied())
            }
            StoreRequest::Write(StoreWrite::Insert(message)) => {
                let head = self
                    .heads
                    .entry(message.channel.clone())
                    .or_insert(ChannelHead { id: message.id, sequence: Sequence(0) });
                assert!(head.sequence < message.sequence, "sequences rise");
                assert!(head.sequence == Sequence(0) || head.id < message.id, "ids rise");
                *head = ChannelHead { id: message.id, sequence: message.sequence };
                self.durable.insert(message.id);
                self.stored_at.insert(message.id, self.turns);
                assert_eq!(message.code, MessageCode::Chat);
                self.history.entry(message.channel.clone()).or_default().insert(message.id, message);
                StoreReceipt::Inserted
            }
            StoreRequest::Write(StoreWrite::Update(update)) => {
                let stored = self.history.get_mut(&update.channel).and_then(|history| history.get_mut(&update.id));
                match (StoreReceipt::refuse_change(stored.as_deref(), update.sender), stored) {
                    (None, Some(message)) => {
                        update.apply_to(message);
                        StoreReceipt::Updated(message.clone())
                    }
                    (refusal, _) => refusal.expect("what is not stored is refused"),
                }
            }
            StoreRequest::Write(StoreWrite::Remove { channel, id, sender }) => {
                let history = self.history.entry(channel).or_default();
                StoreReceipt::refuse_change(history.get(&id), sender)
                    .unwrap_or_else(|| StoreReceipt::Removed(history.remove(&id).expect("it was just seen")))
            }
            StoreRequest::Question(StoreQuestion::Newest { channel, limit }) => {
                let history = self.history.get(&channel).into_iter().flat_map(|history| history.values().rev());
                StoreReceipt::Newest(history.take(limit).cloned().collect())
            }
            StoreRequest::Write(StoreWrite::RequestChat { user, other, .. }) => {
                StoreReceipt::Admitted(Some(self.notice(user, other)))
            }
            // Everybody may follow everybody.
            StoreRequest::Question(StoreQuestion::Users { ids, .. }) => StoreReceipt::Users(ids),
            StoreRequest::Question(StoreQuestion::MayJoinDirect { .. }) => StoreReceipt::Admitted(None),
            other => panic!("{other:?} is asked by no client here"),
        }
    }

    /// A request to chat, as the other user is told of it.
    fn notice(&mut self, user: UserId, other: UserId) -> Notice {
        self.notices += 1;
        let notification = Notification {
            id: NotificationId(Uuid::from_u128(self.notices)),
            subject: "user-0 wants to chat".into(),
            content: "{}".into(),
            code: NotificationCode::DirectRequest,
            sender: user,
            create_time: Timestamp(0),
        };
        Notice { user: other, notification }
    }
}
