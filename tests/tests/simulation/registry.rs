//! The real in-memory store, made slow: requests are applied in order, later than they were made, and answered later
//! still and in any order. It records a trace of what happened in each channel, in the order of decisions.

use std::collections::{BTreeSet, HashMap, HashSet};

use engine::id::{ChannelId, ChannelKind, GroupId, MessageId, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::persist::{StoreReceipt, StoreRequest, StoreWrite, Ticket};
use engine::social::friend::{FriendAct, FriendState};
use engine::social::notification::Notice;
use storage::account::{Account, Credential, CredentialKind, Registration};
use storage::bridge::look_up;
use storage::friend::Related;
use storage::group::Group;
use storage::memory::Memory;
use storage::{PageStart, Store, Write, Written};
use uuid::Uuid;

use crate::slowness::{Outcome, Slowness};
use crate::world::Random;

/// An event in a channel.
#[derive(Debug)]
pub enum Entry {
    Message(Message),
    /// The members of the group from here on.
    Members(BTreeSet<UserId>),
    /// All members were removed from a direct channel.
    Cleared,
}

impl Entry {
    pub fn message(&self) -> Option<&Message> {
        match self {
            Self::Message(message) => Some(message),
            _ => None,
        }
    }

    /// Whether a user's stay must have ended by this entry.
    pub fn ends_stay_of(&self, user: UserId) -> bool {
        match self {
            Self::Message(_) => false,
            Self::Members(members) => !members.contains(&user),
            Self::Cleared => true,
        }
    }

    /// Whether a user belonged to the channel after these entries. In a direct channel, both users always belong once
    /// they have joined.
    pub fn belongs(before: &[Entry], user: UserId) -> bool {
        let members = before.iter().rev().find_map(|entry| match entry {
            Self::Members(members) => Some(members),
            _ => None,
        });
        members.is_none_or(|members| members.contains(&user))
    }
}

pub struct Registry {
    memory: Memory,
    slowness: Slowness,
    pub traces: HashMap<ChannelId, Vec<Entry>>,
    pub durable: HashSet<MessageId>,
    users: Vec<UserId>,
    /// All pairs (user, other) where the user has ever blocked the other.
    blocks: HashSet<(UserId, UserId)>,
    /// Statuses that some users must not see, with the user who shows them.
    hidden: HashMap<String, (UserId, BTreeSet<UserId>)>,
}

impl Registry {
    pub fn new(shards: usize, fails: bool) -> Self {
        Self {
            memory: Memory::new(),
            slowness: Slowness::new(shards, fails),
            traces: HashMap::new(),
            durable: HashSet::new(),
            users: Vec::new(),
            blocks: HashSet::new(),
            hidden: HashMap::new(),
        }
    }

    pub fn register(&mut self, user: UserId, username: &str, time: Timestamp) {
        let ident = format!("device of {username}");
        let account = Account {
            id: user,
            username: username.into(),
            display_name: String::new(),
            avatar_url: String::new(),
            lang_tag: "en".into(),
            location: String::new(),
            timezone: String::new(),
            metadata: "{}".into(),
            email: String::new(),
            custom_id: String::new(),
            devices: vec![ident.clone()],
            create_time: time,
            update_time: time,
            disable_time: None,
        };
        let credential = Credential { kind: CredentialKind::Device, ident };
        self.write(Write::Register(Registration { account, credential, secret: String::new() }));
        self.users.push(user);
    }

    pub fn create_group(&mut self, id: GroupId, creator: UserId, name: &str, time: Timestamp) {
        let group = Group {
            id,
            creator,
            name: name.into(),
            description: String::new(),
            lang_tag: "en".into(),
            metadata: "{}".into(),
            avatar_url: String::new(),
            open: true,
            edge_count: 1,
            max_count: 4,
            create_time: time,
            update_time: time,
        };
        self.write(Write::CreateGroup(group));
        self.trace_members(id);
    }

    /// Carries out a friend act that concerns no channel. Such acts do not go through a channel's owner, and are done
    /// at once.
    pub fn relate(&mut self, act: FriendAct, user: UserId, other: UserId, time: Timestamp) -> Vec<Notice> {
        self.write(Write::Relate { act, user, others: vec![other], metadata: "".into(), time })
            .answer::<Related>()
            .expect("an answer about friends")
            .notices
    }

    fn write(&mut self, write: Write) -> Written {
        let mut written = self.memory.commit(&[write]).expect("memory takes everything");
        written.pop().expect("one answer a write").expect("a fit write")
    }

    pub fn ask(&mut self, shard: usize, ticket: Ticket, request: StoreRequest) {
        self.slowness.ask(shard, ticket, request);
    }

    pub fn turn(&mut self, random: &mut Random) -> Vec<(usize, Ticket, Outcome)> {
        let mut slowness = std::mem::take(&mut self.slowness);
        let receipts = slowness.turn(random, |request| self.apply(request));
        self.slowness = slowness;
        receipts
    }

    pub fn is_quiet(&self) -> bool {
        self.slowness.is_quiet()
    }

    fn apply(&mut self, request: StoreRequest) -> StoreReceipt {
        let write = match request {
            StoreRequest::Question(question) => return look_up(&self.memory, &question).expect("memory can be read"),
            StoreRequest::Write(write) => write,
        };
        let receipt: StoreReceipt = self.write(Write::Request(write.clone())).answer().expect("a receipt");
        match (write, &receipt) {
            (StoreWrite::Insert(message), _) => self.trace_message(message),
            (StoreWrite::ChangeGroup { change, .. }, StoreReceipt::GroupChanged(Ok(outcome))) => {
                for message in &outcome.messages {
                    self.trace_message(message.clone());
                }
                self.trace_members(change.group);
            }
            (StoreWrite::Block { user, other, .. }, _) => {
                self.blocks.insert((user, other));
                self.traces.entry(ChannelId::direct(user, other)).or_default().push(Entry::Cleared);
            }
            _ => {}
        }
        receipt
    }

    fn trace_message(&mut self, message: Message) {
        self.durable.insert(message.id);
        self.traces.entry(message.channel.clone()).or_default().push(Entry::Message(message));
    }

    fn trace_members(&mut self, group: GroupId) {
        let members = self.memory.group_members(group, None, None, 1000).expect("memory can be read");
        let seated = members.into_iter().filter(|(_, place)| place.role.is_member());
        let members = seated.map(|(user, _)| user).collect();
        self.traces.entry(ChannelId::group(group)).or_default().push(Entry::Members(members));
    }

    /// Whether a user blocks another now.
    pub fn blocks(&self, user: UserId, other: UserId) -> bool {
        self.memory.sides(user, other).expect("memory can be read").own == Some(FriendState::Blocked)
    }

    /// Whether a user has ever blocked another.
    pub fn has_blocked(&self, user: UserId, other: UserId) -> bool {
        self.blocks.contains(&(user, other))
    }

    /// Records that a user asks to show a status that the users in `from` must not see.
    pub fn hide(&mut self, user: UserId, status: &str, from: BTreeSet<UserId>) {
        self.hidden.insert(status.to_owned(), (user, from));
    }

    /// The user has lifted the block, so the other may see all that the user shows.
    pub fn show(&mut self, user: UserId, other: UserId) {
        for (_, hidden_from) in self.hidden.values_mut().filter(|(by, _)| *by == user) {
            hidden_from.remove(&other);
        }
    }

    pub fn may_see(&self, user: UserId, status: &str) -> bool {
        self.hidden.get(status).is_none_or(|(_, hidden_from)| !hidden_from.contains(&user))
    }

    /// Checks that history is what was decided, in the same order, and that the authors of messages belonged to the
    /// channel.
    pub fn check_history(&self, channel: &ChannelId) {
        let trace = &self.traces[channel];
        let traced: Vec<&Message> = trace.iter().filter_map(Entry::message).collect();
        assert!(traced.is_sorted_by_key(|message| message.id), "the order of decisions is the order of ids");
        let kept = self.memory.messages(channel, PageStart::Oldest, 100_000).expect("memory can be read");
        let exists = match channel.kind() {
            ChannelKind::Group(group) => self.memory.group(group).expect("memory can be read").is_some(),
            _ => true,
        };
        if exists {
            assert!(traced.iter().copied().eq(kept.iter()), "history of {channel} is not what was decided");
        }
        for (place, entry) in trace.iter().enumerate() {
            if let Some(message) = entry.message().filter(|message| message.code == MessageCode::Chat) {
                assert!(Entry::belongs(&trace[..place], message.sender), "{message:?} is of somebody thrown out");
            }
        }
    }

    pub fn notifications(&self, user: UserId) -> BTreeSet<Uuid> {
        let list = self.memory.notifications(user, None, 100_000).expect("memory can be read");
        list.into_iter().map(|notification| notification.id.0).collect()
    }
}
