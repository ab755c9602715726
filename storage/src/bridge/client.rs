//! The bridge's end for HTTP handlers: each call is a future that any executor may run.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use engine::counters::Histogram;
use engine::id::{ChannelId, GroupId, MessageId, NotificationId, Timestamp, UserId};
use engine::message::Message;
use engine::social::friend::{FriendAct, FriendState};
use engine::social::group::Role;
use engine::social::notification::Notification;

use super::Line;
use super::client_counts::{ClientAnswer, ClientCounts};
use super::reads::RequestedBy;
use super::waiting::QuerySender;
use super::writes::{ClientWrite, WriteQueue};
use crate::account::{
    Account, AccountChange, Changed, Credential, CredentialOwner, Expiry, Linked, Profile, Registered, Registration,
    Revocation, RevocationPlace, Unlinked,
};
use crate::backup::BackedUp;
use crate::friend::{Friend, FriendPlace, Related};
use crate::group::{Group, GroupCreated, GroupEdit, GroupEdited, GroupFilter, GroupPage, GroupPlace, RosterPlace};
use crate::object::{
    Object, ObjectDelete, ObjectId, ObjectListing, ObjectPlace, ObjectWrite, ObjectsDeleted, ObjectsWritten,
};
use crate::{DiskRoom, Failure, PageStart, Part, Store, Write, Written, WrittenPlace};

const THREADS_ENDED: &str = "the storage threads have ended";

/// Sends requests to the store and waits for the answers. When a queue is full, the answer is [`Failure::Passing`] at
/// once; when a reader takes too long, the answer is [`Failure::Passing`] after that time.
///
/// Dropping a future early discards the answer; the work is still done.
///
/// Each clone has its own count of reads, starting at 0. Those that [`Client::of`] makes share it.
pub struct Client {
    asker: RequestedBy,
    line: Arc<Line>,
    bell: flume::Sender<()>,
    writes: WriteQueue,
    queries: QuerySender,
    reads_asked: Arc<AtomicU64>,
    store: Weak<dyn Store>,
    counts: Arc<ClientCounts>,
}

impl Clone for Client {
    fn clone(&self) -> Self {
        let reads_asked = Arc::default();
        Self { reads_asked, ..self.asking_for(self.asker) }
    }
}

impl Client {
    pub(super) fn new(
        line: Arc<Line>,
        bell: flume::Sender<()>,
        writes: WriteQueue,
        queries: QuerySender,
        store: Weak<dyn Store>,
        counts: Arc<ClientCounts>,
    ) -> Self {
        Self { asker: RequestedBy::Server, line, bell, writes, queries, reads_asked: Arc::default(), store, counts }
    }

    /// The same client, whose requests are made for this user or network: they wait in its share of the queues. The requests
    /// of a client that this was not called for count as the server's own.
    pub fn of(&self, asker: impl Into<RequestedBy>) -> Self {
        self.asking_for(asker.into())
    }

    fn asking_for(&self, asker: RequestedBy) -> Self {
        let (line, bell, writes) = (self.line.clone(), self.bell.clone(), self.writes.clone());
        let (queries, reads_asked, store) = (self.queries.clone(), self.reads_asked.clone(), self.store.clone());
        Self { asker, line, bell, writes, queries, reads_asked, store, counts: self.counts.clone() }
    }

    /// Why a request made now must fail; `None` if it need not.
    pub fn unready(&self) -> Option<String> {
        if let Some(reason) = self.line.unready() {
            return Some(reason);
        }
        match self.store.upgrade() {
            Some(store) => store.unready(),
            None => Some("the store is closed".into()),
        }
    }

    /// How much room the store's disk has, if it is a disk of this machine.
    pub fn disk_room(&self) -> Option<DiskRoom> {
        self.store.upgrade().and_then(|store| store.disk_room())
    }

    /// As [`Store::damaged_blocks`].
    pub fn damaged_blocks(&self) -> usize {
        self.store.upgrade().map_or(0, |store| store.damaged_blocks())
    }

    /// Copies the store as [`Store::back_up`] has it. Blocks the thread for as long as that takes.
    pub fn back_up(&self, target: &Path) -> Result<BackedUp, Failure> {
        self.line.check()?;
        match self.store.upgrade() {
            Some(store) => store.back_up(target),
            None => Err(Failure::Passing("the store is closed".into())),
        }
    }

    /// How many rows the store has looked at since its start, removed ones included; 0 if it does not count them.
    pub fn rows_read(&self) -> u64 {
        self.store.upgrade().map_or(0, |store| store.rows_read())
    }

    /// How long the writes of all clients of the bridge took, from their asking to their answer.
    pub fn write_latency(&self) -> Histogram {
        self.counts.writes()
    }

    /// How many reads and writes of all clients of the bridge the store could not carry out.
    pub fn failures(&self) -> u64 {
        self.counts.failures()
    }

    /// About the memory of all writes that wait, in bytes: those of all clients of the bridge.
    pub fn waiting_write_bytes(&self) -> usize {
        self.writes.bytes()
    }

    /// How many reads this client has sent to the store.
    pub fn reads(&self) -> u64 {
        self.reads_asked.load(Ordering::Relaxed)
    }

    /// Makes an account with its first credential. That a name or a credential is taken is an answer, not a failure.
    pub async fn register(&self, registration: Registration) -> Result<Registered, Failure> {
        self.ask(Write::Register(registration)).await
    }

    /// Changes the fields of an account that the change names. That there is no such account, or that the username is
    /// taken, is an answer, not a failure.
    pub async fn change_account(
        &self,
        id: UserId,
        change: AccountChange,
        update_time: Timestamp,
    ) -> Result<Changed, Failure> {
        self.ask(Write::ChangeAccount { id, change, update_time }).await
    }

    /// Adds one more credential to an account. `secret` is the password's hash for an email, and empty otherwise.
    pub async fn link(
        &self,
        user: UserId,
        credential: Credential,
        secret: String,
        time: Timestamp,
    ) -> Result<Linked, Failure> {
        self.ask(Write::Link { user, credential, secret, time }).await
    }

    /// Takes a credential from an account. That the account would be left without any is an answer, not a failure.
    pub async fn unlink(&self, user: UserId, credential: Credential, time: Timestamp) -> Result<Unlinked, Failure> {
        self.ask(Write::Unlink { user, credential, time }).await
    }

    /// Returns whether the account existed. Its messages are still to be purged: see `account_deletions`.
    pub async fn delete_account(&self, user: UserId, time: Timestamp) -> Result<bool, Failure> {
        self.ask(Write::DeleteAccount { user, time }).await
    }

    /// The user's messages have all been purged: the store forgets in which channels they were.
    pub async fn finish_departure(&self, user: UserId) -> Result<(), Failure> {
        self.write(Write::FinishAccountDeletion { user }).await.map(|_| ())
    }

    /// At most `limit` users whose accounts were deleted and whose messages are still to be purged.
    pub async fn account_deletions(&self, limit: usize) -> Result<Vec<UserId>, Failure> {
        self.read(move |store| store.account_deletions(limit)).await
    }

    /// Some messages of a user, as [`Store::written_part`] finds them.
    pub async fn written(
        &self,
        user: UserId,
        floor: Option<MessageId>,
        from: Option<WrittenPlace>,
        limit: usize,
    ) -> Result<Part<(ChannelId, MessageId), WrittenPlace>, Failure> {
        self.read(move |store| store.written_part(user, floor, from, limit)).await
    }

    /// The creator becomes the group's superadmin, and `edge_count` in `group` is ignored.
    pub async fn create_group(&self, group: Group) -> Result<GroupCreated, Failure> {
        self.ask(Write::CreateGroup(group)).await
    }

    /// Changes the fields of a group that the edit names, if the actor is an admin of it.
    pub async fn update_group(
        &self,
        id: GroupId,
        actor: UserId,
        edit: GroupEdit,
        time: Timestamp,
    ) -> Result<GroupEdited, Failure> {
        self.ask(Write::UpdateGroup { id, actor, edit, time }).await
    }

    /// The group with this id, or `None`.
    pub async fn group(&self, id: GroupId) -> Result<Option<Group>, Failure> {
        self.read(move |store| store.group(id)).await
    }

    /// A page of groups, as [`Store::group_page`] finds it.
    pub async fn groups(
        &self,
        filter: GroupFilter,
        after: Option<GroupPlace>,
        limit: usize,
    ) -> Result<GroupPage, Failure> {
        self.read(move |store| store.group_page(&filter, after.as_ref(), limit)).await
    }

    /// The user's role in the group, which may be [`Role::Banned`], or `None`.
    pub async fn group_role(&self, group: GroupId, user: UserId) -> Result<Option<Role>, Failure> {
        self.read(move |store| store.group_role(group, user)).await
    }

    /// A page of a group's members, ordered as [`Store::group_members`] says.
    pub async fn group_members(
        &self,
        group: GroupId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(UserId, RosterPlace), RosterPlace>, Failure> {
        self.read(move |store| store.group_members_part(group, role, after, limit)).await
    }

    /// A page of a user's groups, ordered as [`Store::user_groups`] says.
    pub async fn user_groups(
        &self,
        user: UserId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(Group, RosterPlace), RosterPlace>, Failure> {
        self.read(move |store| store.user_groups_part(user, role, after, limit)).await
    }

    /// Adds or deletes friends. Blocks do not come here: they go through the owner of the pair's direct channel.
    /// [`Write::Relate`] says what `metadata` is.
    pub async fn relate(
        &self,
        act: FriendAct,
        user: UserId,
        others: Vec<UserId>,
        metadata: Box<str>,
        time: Timestamp,
    ) -> Result<Related, Failure> {
        self.ask(Write::Relate { act, user, others, metadata, time }).await
    }

    /// A page of the users to whom this user stands in a state, ordered as [`Store::friends`] says.
    pub async fn friends(
        &self,
        user: UserId,
        state: Option<FriendState>,
        after: Option<FriendPlace>,
        limit: usize,
    ) -> Result<Part<(Friend, FriendPlace), FriendPlace>, Failure> {
        self.read(move |store| store.friends_part(user, state, after, limit)).await
    }

    /// How many friends a user has.
    pub async fn edge_count(&self, user: UserId) -> Result<u32, Failure> {
        self.read(move |store| store.edge_count(user)).await
    }

    /// At most `limit` notifications of a user, oldest first, beginning after `after`.
    pub async fn notifications(
        &self,
        user: UserId,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Part<Notification, NotificationId>, Failure> {
        self.read(move |store| store.notifications_part(user, after, limit)).await
    }

    /// Ids that are unknown or belong to other users are skipped.
    pub async fn delete_notifications(&self, user: UserId, ids: Vec<NotificationId>) -> Result<(), Failure> {
        self.write(Write::DeleteNotifications { user, ids }).await.map(|_| ())
    }

    /// Writes objects of a user, all of them or none. That they may not be written is an answer, not a failure.
    pub async fn write_objects(
        &self,
        owner: UserId,
        objects: Vec<ObjectWrite>,
        time: Timestamp,
    ) -> Result<ObjectsWritten, Failure> {
        self.ask(Write::WriteObjects { owner, objects, time }).await
    }

    /// Deletes objects of a user, all of them or none. That they may not be deleted is an answer, not a failure.
    pub async fn delete_objects(&self, owner: UserId, objects: Vec<ObjectDelete>) -> Result<ObjectsDeleted, Failure> {
        self.ask(Write::DeleteObjects { owner, objects }).await
    }

    /// Those of these objects that exist, as [`Store::objects`] finds them.
    pub async fn objects(&self, ids: Vec<ObjectId>) -> Result<Vec<Object>, Failure> {
        self.read(move |store| store.objects(&ids)).await
    }

    /// A page of a list of objects, as [`Store::objects_part`] finds it.
    pub async fn list_objects(
        &self,
        listing: ObjectListing,
        after: Option<ObjectPlace>,
        limit: usize,
    ) -> Result<Part<Object, ObjectPlace>, Failure> {
        self.read(move |store| store.objects_part(&listing, after.as_ref(), limit)).await
    }

    /// Stores a logout. Shards hear of it from the caller, not from the store.
    pub async fn revoke(&self, revocation: Revocation) -> Result<(), Failure> {
        self.write(Write::Revoke(revocation)).await.map(|_| ())
    }

    /// Some of the expired revocations, and the place to continue from.
    pub async fn expired_revocations(
        &self,
        expiry: Expiry,
        after: Option<RevocationPlace>,
        limit: usize,
    ) -> Result<(Vec<Revocation>, Option<RevocationPlace>), Failure> {
        self.read(move |store| store.expired_revocations(expiry, after.as_ref(), limit)).await
    }

    /// Removes revocations that `expired_revocations` returned, at most `FORGOTTEN_AT_ONCE_MAX`.
    pub async fn forget_revocations(&self, expired: Vec<Revocation>) -> Result<(), Failure> {
        self.write(Write::ForgetRevocations(expired)).await.map(|_| ())
    }

    /// All revocations that have not been forgotten.
    pub async fn revocations(&self) -> Result<Vec<Revocation>, Failure> {
        self.read(|store| store.revocations()).await
    }

    /// The account that has this credential, with its secret, or `None`.
    pub async fn credential(&self, credential: Credential) -> Result<Option<CredentialOwner>, Failure> {
        self.read(move |store| store.credential(&credential)).await
    }

    /// The account with this id, or `None`.
    pub async fn account(&self, id: UserId) -> Result<Option<Account>, Failure> {
        self.read(move |store| store.account(id)).await
    }

    /// The account with this id and its user's number of friends, or `None`.
    pub async fn own_account(&self, id: UserId) -> Result<Option<(Account, u32)>, Failure> {
        self.read(move |store| match store.account(id)? {
            Some(account) => Ok(Some((account, store.edge_count(id)?))),
            None => Ok(None),
        })
        .await
    }

    /// Those of these users that have accounts, in the order asked for.
    pub async fn existing(&self, ids: &[UserId]) -> Result<Vec<UserId>, Failure> {
        let ids = ids.to_vec();
        self.read(move |store| {
            let mut existing = Vec::with_capacity(ids.len());
            for id in ids {
                existing.extend(store.has_account(id)?.then_some(id));
            }
            Ok(existing)
        })
        .await
    }

    /// What others see of the accounts that exist among these, in the order asked for, each with its user's number of
    /// friends.
    pub async fn people(&self, ids: &[UserId]) -> Result<Vec<(Profile, u32)>, Failure> {
        let ids = ids.to_vec();
        self.read(move |store| {
            let mut people = Vec::with_capacity(ids.len());
            for id in ids {
                if let Some(profile) = store.profile(id)? {
                    people.push((profile, store.edge_count(id)?));
                }
            }
            Ok(people)
        })
        .await
    }

    /// The user with exactly this username, or `None`.
    pub async fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure> {
        let username = username.to_owned();
        self.read(move |store| store.user_by_username(&username)).await
    }

    /// At most `limit` messages of a channel, from a place on, in the direction that the place says.
    pub async fn messages(
        &self,
        channel: ChannelId,
        from: PageStart,
        limit: usize,
    ) -> Result<Part<Message, MessageId>, Failure> {
        self.read(move |store| store.messages_part(&channel, from, limit)).await
    }

    /// Sends a write whose answer is an `A`.
    async fn ask<A: TryFrom<Written, Error = Written>>(&self, write: Write) -> Result<A, Failure> {
        self.write(write).await.and_then(Written::answer)
    }

    async fn write(&self, write: Write) -> Result<Written, Failure> {
        let (answer, answered) = ClientAnswer::new(self.counts.clone());
        self.line.while_open(|| {
            self.writes.put(self.asker, ClientWrite { write, answer });
            // A full bell means that the committer has already been woken.
            let _ = self.bell.try_send(());
            Ok(())
        })?;
        // If this fails, the write was taken, but the thread that had it has ended.
        answered.recv_async().await.unwrap_or_else(|_| Err(Failure::Broken(THREADS_ENDED.into())))
    }

    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Store) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.reads_asked.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = flume::bounded(1);
        let counts = self.counts.clone();
        let answer = move |found| {
            counts.count_read(&found);
            drop(answer.try_send(found));
        };
        self.line.while_open(|| {
            self.queries.ask(self.asker, question, answer);
            Ok(())
        })?;
        let answer = answered.recv_async().await.unwrap_or_else(|_| Err(unanswered()));
        answer.map(|(found, _untaken)| found)
    }
}

fn unanswered() -> Failure {
    Failure::Final(THREADS_ENDED.into())
}
