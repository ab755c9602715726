//! The store without a disk: for tests, simulation and `--store memory`, and the model with which the other stores are
//! compared. It obeys every law except the first: its data ends with the process.

mod rows;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use engine::id::{ChannelId, Epoch, GroupId, MessageId, NotificationId, UserId};
use engine::message::Message;
use engine::persist::{ChannelHead, StoreReceipt, StoreWrite, UpdateMessage};
use engine::social::friend::{FriendState, Sides};
use engine::social::group::Role;
use engine::social::notification::Notification;
use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use crate::account::{Account, Credential, CredentialOwner, Expiry, Profile, Revocation, RevocationPlace};
use crate::friend::{Edge, Friend, FriendCounts, FriendPlace};
use crate::group::{Group, GroupFilter, GroupPage, GroupPlace, Membership, RosterPlace, browse, common_beginning};
use crate::inbox::Inbox;
use crate::object::{
    Object, ObjectCounts, ObjectId, ObjectListing, ObjectPlace, ObjectsPart, ReadPermission, is_object_name,
};
use crate::repeats::SentRequests;
use crate::{Failure, PageStart, Part, Store, Write, Written, change, keys, span};

/// A store that keeps everything in maps.
#[derive(Default)]
pub struct Memory {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    epoch: u64,
    closed: bool,
    messages: HashMap<ChannelId, BTreeMap<MessageId, Message>>,
    heads: HashMap<ChannelId, ChannelHead>,
    accounts: HashMap<UserId, Account>,
    credentials: HashMap<Credential, CredentialOwner>,
    usernames: HashMap<String, UserId>,
    /// Under the keys that the embedded store has in `revocations`.
    revocations: BTreeMap<Vec<u8>, Revocation>,
    /// The same, under the keys that the embedded store has in `expiries`.
    expiries: BTreeMap<Vec<u8>, Revocation>,
    groups: HashMap<GroupId, Group>,
    group_names: HashMap<String, GroupId>,
    browsing: BTreeMap<GroupPlace, GroupId>,
    members: HashMap<(GroupId, UserId), Membership>,
    rosters: BTreeSet<(GroupId, RosterPlace)>,
    user_groups: BTreeSet<(UserId, RosterPlace)>,
    edges: BTreeMap<(UserId, UserId), Edge>,
    friends: BTreeSet<(UserId, FriendPlace)>,
    friend_counts: HashMap<UserId, FriendCounts>,
    notifications: BTreeMap<(UserId, NotificationId), Notification>,
    inboxes: HashMap<UserId, Inbox>,
    /// Under the keys that the embedded store has in `objects`.
    objects: BTreeMap<Vec<u8>, Object>,
    /// Under the keys that the embedded store has in `public_objects`.
    public_objects: BTreeMap<Vec<u8>, ObjectId>,
    object_counts: HashMap<UserId, ObjectCounts>,
    authored: HashMap<UserId, BTreeSet<ChannelId>>,
    account_deletions: BTreeSet<UserId>,
    sent: SentRequests,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn open(&self) -> Result<MutexGuard<'_, State>, Failure> {
        // No call leaves the maps half changed, so they are valid even if another thread has panicked.
        let state = self.state.lock();
        if state.closed { Err(Failure::Final("the store is closed".into())) } else { Ok(state) }
    }
}

impl Store for Memory {
    fn next_epoch(&self) -> Result<Epoch, Failure> {
        let mut state = self.open()?;
        state.epoch += 1;
        Ok(Epoch(state.epoch))
    }

    fn commit(&self, writes: &[Write]) -> Result<Vec<Result<Written, Failure>>, Failure> {
        let mut state = self.open()?;
        Ok(writes.iter().map(|write| state.apply(write)).collect())
    }

    fn head(&self, channel: &ChannelId) -> Result<Option<ChannelHead>, Failure> {
        Ok(self.open()?.heads.get(channel).copied())
    }

    fn message(&self, channel: &ChannelId, id: MessageId) -> Result<Option<Message>, Failure> {
        Ok(self.open()?.message(channel, id).cloned())
    }

    fn messages_part(
        &self,
        channel: &ChannelId,
        from: PageStart,
        limit: usize,
    ) -> Result<Part<Message, MessageId>, Failure> {
        let state = self.open()?;
        let Some(history) = state.messages.get(channel) else {
            return Ok(Part::whole(Vec::new()));
        };
        let from_id = |id| (Bound::Excluded(id), Bound::Unbounded);
        let to_id = |id| (Bound::Unbounded, Bound::Excluded(id));
        Ok(Part::whole(match from {
            PageStart::Oldest => history.values().take(limit).cloned().collect(),
            PageStart::Newest => history.values().rev().take(limit).cloned().collect(),
            PageStart::After(id) => history.range(from_id(id)).map(|(_, m)| m).take(limit).cloned().collect(),
            PageStart::Before(id) => history.range(to_id(id)).rev().map(|(_, m)| m).take(limit).cloned().collect(),
        }))
    }

    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure> {
        Ok(self.open()?.credentials.get(credential).cloned())
    }

    fn account(&self, id: UserId) -> Result<Option<Account>, Failure> {
        Ok(self.open()?.accounts.get(&id).cloned())
    }

    fn profile(&self, id: UserId) -> Result<Option<Profile>, Failure> {
        Ok(self.account(id)?.map(Profile::from))
    }

    fn has_account(&self, id: UserId) -> Result<bool, Failure> {
        Ok(self.open()?.accounts.contains_key(&id))
    }

    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure> {
        Ok(self.open()?.usernames.get(username).copied())
    }

    fn group(&self, id: GroupId) -> Result<Option<Group>, Failure> {
        Ok(self.open()?.groups.get(&id).cloned())
    }

    fn group_page(&self, filter: &GroupFilter, after: Option<&GroupPlace>, limit: usize) -> Result<GroupPage, Failure> {
        let state = self.open()?;
        let beginning = common_beginning(filter);
        let first = GroupPlace::from(beginning.clone());
        let from = match after {
            Some(after) if *after >= first => Bound::Excluded(after.clone()),
            _ => Bound::Included(first),
        };
        let rows = state.browsing.range((from, Bound::Unbounded));
        let rows = rows.take_while(|(place, _)| place.as_bytes().starts_with(&beginning));
        browse(rows.map(|(place, id)| Ok((place.clone(), state.groups[id].clone()))), filter, limit)
    }

    fn group_role(&self, group: GroupId, user: UserId) -> Result<Option<Role>, Failure> {
        Ok(self.open()?.members.get(&(group, user)).map(|membership| membership.role))
    }

    fn group_members_part(
        &self,
        group: GroupId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(UserId, RosterPlace), RosterPlace>, Failure> {
        let state = self.open()?;
        let rows = span(RosterPlace::span(role), after).map(|(from, to)| {
            let rows = state.rosters.range((from.map(|place| (group, place)), to.map(|place| (group, place))));
            rows.take(limit).map(|(_, place)| (UserId(place.id), *place)).collect()
        });
        Ok(Part::whole(rows.unwrap_or_default()))
    }

    fn user_groups_part(
        &self,
        user: UserId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(Group, RosterPlace), RosterPlace>, Failure> {
        let state = self.open()?;
        let rows = span(RosterPlace::span(role), after).map(|(from, to)| {
            let rows = state.user_groups.range((from.map(|place| (user, place)), to.map(|place| (user, place))));
            rows.take(limit).map(|(_, place)| (state.groups[&GroupId(place.id)].clone(), *place)).collect()
        });
        Ok(Part::whole(rows.unwrap_or_default()))
    }

    fn sides(&self, user: UserId, other: UserId) -> Result<Sides, Failure> {
        let state = self.open()?;
        let side = |from, to| state.edges.get(&(from, to)).map(|edge| edge.state);
        Ok(Sides { own: side(user, other), others: side(other, user) })
    }

    fn friends_part(
        &self,
        user: UserId,
        state: Option<FriendState>,
        after: Option<FriendPlace>,
        limit: usize,
    ) -> Result<Part<(Friend, FriendPlace), FriendPlace>, Failure> {
        let rows = self.open()?;
        let metadata = |other| rows.edges.get(&(user, other)).map_or("".into(), |edge| edge.metadata.clone());
        let rows = span(FriendPlace::span(state), after).map(|(from, to)| {
            let rows = rows.friends.range((from.map(|place| (user, place)), to.map(|place| (user, place))));
            rows.take(limit).map(|(_, place)| (place.friend(metadata(place.user)), *place)).collect()
        });
        Ok(Part::whole(rows.unwrap_or_default()))
    }

    fn edge_count(&self, user: UserId) -> Result<u32, Failure> {
        Ok(self.open()?.friend_counts.get(&user).map_or(0, |friend_counts| friend_counts.friends))
    }

    fn notifications_part(
        &self,
        user: UserId,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Part<Notification, NotificationId>, Failure> {
        let state = self.open()?;
        let rows = span([NotificationId(Uuid::nil()), NotificationId(Uuid::max())], after).map(|(from, to)| {
            let rows = state.notifications.range((from.map(|id| (user, id)), to.map(|id| (user, id))));
            rows.take(limit).map(|(_, notification)| notification.clone()).collect()
        });
        Ok(Part::whole(rows.unwrap_or_default()))
    }

    fn objects(&self, ids: &[ObjectId]) -> Result<Vec<Object>, Failure> {
        let state = self.open()?;
        Ok(ids.iter().filter(|id| id.can_exist()).filter_map(|id| state.find_object(id).cloned()).collect())
    }

    fn objects_part(
        &self,
        listing: &ObjectListing,
        after: Option<&ObjectPlace>,
        limit: usize,
    ) -> Result<Part<Object, ObjectPlace>, Failure> {
        let (state, mut part) = (self.open()?, ObjectsPart::of(limit));
        if let Some(span) = keys::objects(listing, after).filter(|_| is_object_name(listing.collection())) {
            match listing.owner() {
                Some(_) => {
                    part.add_all(state.objects.range(span).map(|(_, object)| Ok(Some(object.clone()))))?;
                }
                None => {
                    let ids = state.public_objects.range(span).map(|(_, id)| id);
                    part.add_all(ids.map(|id| Ok(state.find_object(id).cloned())))?;
                }
            }
        }
        Ok(part.end(None))
    }

    fn object_counts(&self, owner: UserId) -> Result<ObjectCounts, Failure> {
        Ok(self.open()?.object_counts.get(&owner).copied().unwrap_or_default())
    }

    fn channels_written(
        &self,
        user: UserId,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Vec<ChannelId>, Failure> {
        let state = self.open()?;
        let Some(channels) = state.authored.get(&user) else {
            return Ok(Vec::new());
        };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(channels.range((from, Bound::Unbounded)).take(limit).cloned().collect())
    }

    fn account_deletions(&self, limit: usize) -> Result<Vec<UserId>, Failure> {
        Ok(self.open()?.account_deletions.iter().take(limit).copied().collect())
    }

    fn revocations(&self) -> Result<Vec<Revocation>, Failure> {
        Ok(self.open()?.revocations.values().copied().collect())
    }

    fn expired_revocations(
        &self,
        expiry: Expiry,
        after: Option<&RevocationPlace>,
        limit: usize,
    ) -> Result<(Vec<Revocation>, Option<RevocationPlace>), Failure> {
        let state = self.open()?;
        let (mut found, mut place) = (Vec::new(), None);
        for span in keys::expired(expiry, after.map(|place| place.0.as_slice())) {
            for (key, revocation) in state.expiries.range(span).take(limit - found.len()) {
                found.push(*revocation);
                place = Some(RevocationPlace(key.clone()));
            }
        }
        let is_full = found.len() == limit;
        Ok((found, place.filter(|_| is_full)))
    }

    fn close(&self) -> Result<(), Failure> {
        self.open()?.closed = true;
        Ok(())
    }
}

impl State {
    fn apply(&mut self, write: &Write) -> Result<Written, Failure> {
        Ok(match write {
            Write::Request(StoreWrite::Insert(message)) => Written::Receipt(self.insert(message)),
            Write::Request(StoreWrite::Update(update)) => Written::Receipt(self.update(update)),
            Write::Request(StoreWrite::Remove { channel, id, sender }) => {
                Written::Receipt(self.remove(channel, *id, *sender))
            }
            other => change::apply(self, other)?,
        })
    }

    fn message(&self, channel: &ChannelId, id: MessageId) -> Option<&Message> {
        self.messages.get(channel)?.get(&id)
    }

    fn find_object(&self, id: &ObjectId) -> Option<&Object> {
        ReadPermission::ALL.into_iter().find_map(|read| self.objects.get(&keys::object(id, read)))
    }

    fn insert(&mut self, message: &Message) -> StoreReceipt {
        self.authored.entry(message.sender).or_default().insert(message.channel.clone());
        self.messages.entry(message.channel.clone()).or_default().insert(message.id, message.clone());
        let head = ChannelHead { id: message.id, sequence: message.sequence };
        let kept = self.heads.entry(message.channel.clone()).or_insert(head);
        if kept.id < head.id {
            *kept = head;
        }
        StoreReceipt::Inserted
    }

    fn update(&mut self, update: &UpdateMessage) -> StoreReceipt {
        let mut stored = self.messages.get_mut(&update.channel).and_then(|history| history.get_mut(&update.id));
        if let Some(refusal) = StoreReceipt::refuse_change(stored.as_deref(), update.sender) {
            return refusal;
        }
        let message = stored.as_mut().expect("what is not stored was refused");
        update.apply_to(message);
        StoreReceipt::Updated(message.clone())
    }

    fn remove(&mut self, channel: &ChannelId, id: MessageId, sender: UserId) -> StoreReceipt {
        if let Some(refusal) = StoreReceipt::refuse_change(self.message(channel, id), sender) {
            return refusal;
        }
        match self.messages.get_mut(channel).and_then(|history| history.remove(&id)) {
            Some(message) => {
                let head = self.heads.get(channel);
                assert!(head.is_some_and(|head| head.id >= id), "a removal does not move the head back");
                StoreReceipt::Removed(message)
            }
            None => StoreReceipt::NotFound,
        }
    }
}
