//! A store that can be delayed and made to fail, and what tests of the bridge do with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use engine::id::{ChannelId, Epoch, GroupId, MessageId, NotificationId, UserId};
use engine::message::Message;
use engine::persist::{ChannelHead, Receipt, StoreQuestion, StoreWrite, Ticket};
use engine::social::friend::{FriendState, Sides};
use engine::social::group::Role;
use engine::social::notification::Notification;
use storage::account::{Account, Credential, CredentialOwner, Expiry, Profile, Revocation, RevocationPlace};
use storage::bridge::StoreQueue;
use storage::friend::{Friend, FriendPlace};
use storage::group::{Group, GroupFilter, GroupPage, GroupPlace, RosterPlace};
use storage::memory::Memory;
use storage::object::{Object, ObjectCounts, ObjectId, ObjectListing, ObjectPlace};
use storage::{Answer, Failure, Lanes, PageStart, Part, QuestionAnswer, Store, Submission, Write, Written};

use super::insert;

/// A memory store whose commits wait for the test: each takes one outcome from it, a success or a failure.
pub struct Staged {
    pub memory: Memory,
    /// The outcomes of the commits; when all senders are gone, every commit succeeds.
    pub outcomes: flume::Receiver<Result<(), Failure>>,
    /// The sizes of the groups passed to `commit`, in order, sent before the outcome is awaited.
    pub groups: flume::Sender<usize>,
    pub closed: AtomicBool,
    /// If set, the store takes writes one by one, through these lanes.
    pub lanes: Option<Taking>,
    /// A query for an account blocks until the sender is dropped.
    pub stuck: flume::Receiver<()>,
}

/// Lanes that pass what they take to the test, which decides when each is done.
pub struct Taking {
    pub taken: flume::Sender<Submission>,
    /// Receives when the test has answered all writes.
    pub drained: flume::Receiver<()>,
}

impl Lanes for Taking {
    fn take(&self, submissions: Vec<Submission>) {
        submissions.into_iter().for_each(|taken| self.taken.send(taken).unwrap());
    }

    fn drain(&self) {
        self.drained.recv().unwrap();
    }
}

pub struct Stage {
    pub store: Arc<Staged>,
    pub outcomes: flume::Sender<Result<(), Failure>>,
    pub groups: flume::Receiver<usize>,
}

pub fn stage() -> Stage {
    let (outcomes, outcomes_out) = flume::unbounded();
    let (groups_in, groups) = flume::unbounded();
    let store = Staged {
        memory: Memory::new(),
        outcomes: outcomes_out,
        groups: groups_in,
        closed: false.into(),
        lanes: None,
        stuck: flume::bounded(0).1,
    };
    Stage { store: Arc::new(store), outcomes, groups }
}

/// A stage with lanes, what it takes, and the sender that says that all of them are answered.
pub fn stage_with_lanes() -> (Arc<Staged>, flume::Receiver<Submission>, flume::Sender<()>) {
    let (taken, takings) = flume::unbounded();
    let (drain, drained) = flume::bounded(1);
    let stage = stage();
    let staged = Arc::into_inner(stage.store).unwrap();
    (Arc::new(Staged { lanes: Some(Taking { taken, drained }), ..staged }), takings, drain)
}

/// The next write that the lanes have taken.
pub fn taken_write(taken: &flume::Receiver<Submission>) -> (Write, Answer) {
    match taken.recv().unwrap() {
        Submission::Write(write, answer) => (write, answer),
        Submission::Question(question, _) => panic!("{question:?} is no write"),
    }
}

/// The next question that the lanes have taken.
pub fn taken_question(taken: &flume::Receiver<Submission>) -> (StoreQuestion, QuestionAnswer) {
    match taken.recv().unwrap() {
        Submission::Question(question, answer) => (question, answer),
        Submission::Write(write, _) => panic!("{write:?} is no question"),
    }
}

impl Store for Staged {
    fn next_epoch(&self) -> Result<Epoch, Failure> {
        self.memory.next_epoch()
    }

    fn commit(&self, writes: &[Write]) -> Result<Vec<Result<Written, Failure>>, Failure> {
        let _ = self.groups.send(writes.len());
        self.outcomes.recv().unwrap_or(Ok(()))?;
        self.memory.commit(writes)
    }

    fn lanes(&self) -> Option<&dyn Lanes> {
        self.lanes.as_ref().map(|lanes| lanes as &dyn Lanes)
    }

    fn head(&self, channel: &ChannelId) -> Result<Option<ChannelHead>, Failure> {
        self.memory.head(channel)
    }

    fn message(&self, channel: &ChannelId, id: MessageId) -> Result<Option<Message>, Failure> {
        self.memory.message(channel, id)
    }

    fn messages_part(
        &self,
        channel: &ChannelId,
        from: PageStart,
        limit: usize,
    ) -> Result<Part<Message, MessageId>, Failure> {
        self.memory.messages_part(channel, from, limit)
    }

    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure> {
        self.memory.credential(credential)
    }

    fn account(&self, id: UserId) -> Result<Option<Account>, Failure> {
        let _ = self.stuck.recv();
        self.memory.account(id)
    }

    fn profile(&self, id: UserId) -> Result<Option<Profile>, Failure> {
        self.memory.profile(id)
    }

    fn has_account(&self, id: UserId) -> Result<bool, Failure> {
        self.memory.has_account(id)
    }

    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure> {
        self.memory.user_by_username(username)
    }

    fn group(&self, id: GroupId) -> Result<Option<Group>, Failure> {
        self.memory.group(id)
    }

    fn group_page(&self, filter: &GroupFilter, after: Option<&GroupPlace>, limit: usize) -> Result<GroupPage, Failure> {
        self.memory.group_page(filter, after, limit)
    }

    fn group_role(&self, group: GroupId, user: UserId) -> Result<Option<Role>, Failure> {
        self.memory.group_role(group, user)
    }

    fn group_members_part(
        &self,
        group: GroupId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(UserId, RosterPlace), RosterPlace>, Failure> {
        self.memory.group_members_part(group, role, after, limit)
    }

    fn user_groups_part(
        &self,
        user: UserId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(Group, RosterPlace), RosterPlace>, Failure> {
        self.memory.user_groups_part(user, role, after, limit)
    }

    fn sides(&self, user: UserId, other: UserId) -> Result<Sides, Failure> {
        self.memory.sides(user, other)
    }

    fn friends_part(
        &self,
        user: UserId,
        state: Option<FriendState>,
        after: Option<FriendPlace>,
        limit: usize,
    ) -> Result<Part<(Friend, FriendPlace), FriendPlace>, Failure> {
        self.memory.friends_part(user, state, after, limit)
    }

    fn edge_count(&self, user: UserId) -> Result<u32, Failure> {
        self.memory.edge_count(user)
    }

    fn notifications_part(
        &self,
        user: UserId,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Part<Notification, NotificationId>, Failure> {
        self.memory.notifications_part(user, after, limit)
    }

    fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Object>, Failure> {
        self.memory.objects(ids)
    }

    fn objects_part(
        &self,
        listing: &ObjectListing,
        after: Option<&ObjectPlace>,
        limit: usize,
    ) -> Result<Part<Object, ObjectPlace>, Failure> {
        self.memory.objects_part(listing, after, limit)
    }

    fn object_counts(&self, owner: UserId) -> Result<ObjectCounts, Failure> {
        self.memory.object_counts(owner)
    }

    fn channels_written(
        &self,
        user: UserId,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Vec<ChannelId>, Failure> {
        self.memory.channels_written(user, after, limit)
    }

    fn account_deletions(&self, limit: usize) -> Result<Vec<UserId>, Failure> {
        self.memory.account_deletions(limit)
    }

    fn revocations(&self) -> Result<Vec<Revocation>, Failure> {
        self.memory.revocations()
    }

    fn expired_revocations(
        &self,
        expiry: Expiry,
        after: Option<&RevocationPlace>,
        limit: usize,
    ) -> Result<(Vec<Revocation>, Option<RevocationPlace>), Failure> {
        self.memory.expired_revocations(expiry, after, limit)
    }

    fn close(&self) -> Result<(), Failure> {
        self.closed.store(true, Ordering::SeqCst);
        self.memory.close()
    }
}

pub fn request(write: Write) -> StoreWrite {
    match write {
        Write::Request(request) => request,
        other => panic!("{other:?} is not a shard's"),
    }
}

pub fn send_insert(end: &StoreQueue, channel: &ChannelId, number: u32) {
    end.try_send(Ticket(u64::from(number)), request(insert(channel, number, 7))).unwrap();
}

/// Runs a future on this thread, woken by whatever thread answers it.
pub fn wait<T>(future: impl Future<Output = T>) -> T {
    pollster::block_on(future)
}

pub fn receive(end: &StoreQueue) -> Receipt {
    wait(end.receive()).expect("the bridge runs")
}
