//! The rows of the memory store: maps, and sets in the order of lists.

use std::ops::Bound;

use engine::id::{ChannelId, GroupId, MessageId, NotificationId, Timestamp, UserId};
use engine::message::Message;
use engine::social::group::Role;
use engine::social::notification::Notification;
use uuid::Uuid;

use super::State;
use crate::account::{Account, Credential, CredentialOwner, Revocation};
use crate::friend::{Edge, FriendCounts};
use crate::group::{Group, GroupPlace, Membership, RosterPlace};
use crate::inbox::Inbox;
use crate::object::{Object, ObjectCounts, ObjectId};
use crate::repeats::SentRequest;
use crate::rows::{FreeUsername, Rows};
use crate::{Failure, keys};

impl Rows for State {
    fn account(&self, id: UserId) -> Result<Option<Account>, Failure> {
        Ok(self.accounts.get(&id).cloned())
    }

    fn username(&self, id: UserId) -> Result<Option<String>, Failure> {
        Ok(self.accounts.get(&id).map(|account| account.username.clone()))
    }

    fn put_account(&mut self, account: &Account) {
        self.accounts.insert(account.id, account.clone());
    }

    fn remove_account(&mut self, id: UserId) {
        self.accounts.remove(&id);
    }

    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure> {
        Ok(self.usernames.get(username).copied())
    }

    fn put_username(&mut self, username: FreeUsername<'_>, user: UserId) {
        let former = self.usernames.insert(username.as_str().to_owned(), user);
        assert!(former.is_none(), "a free username has no owner");
    }

    fn remove_username(&mut self, username: &str, owner: UserId) {
        let former = self.usernames.remove(username);
        assert_eq!(former, Some(owner), "only its owner gives a username back");
    }

    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure> {
        Ok(self.credentials.get(credential).cloned())
    }

    fn put_credential(&mut self, credential: &Credential, owner: &CredentialOwner) {
        self.credentials.insert(credential.clone(), owner.clone());
    }

    fn remove_credential(&mut self, credential: &Credential) {
        self.credentials.remove(credential);
    }

    fn stored_revocations(&self, revocations: &[Revocation]) -> Result<Vec<Option<Revocation>>, Failure> {
        let stored = |revocation| self.revocations.get(&keys::revocation(revocation)).copied();
        Ok(revocations.iter().map(stored).collect())
    }

    fn put_revocation(&mut self, before: Option<&Revocation>, revocation: &Revocation) {
        if let Some(before) = before {
            self.remove_expiry(before);
        }
        let former = self.revocations.insert(keys::revocation(revocation), *revocation);
        assert_eq!(former.as_ref(), before, "the row that is replaced");
        self.expiries.insert(keys::expiry(revocation), *revocation);
    }

    fn remove_revocation(&mut self, revocation: &Revocation) {
        self.revocations.remove(&keys::revocation(revocation));
    }

    fn remove_expiry(&mut self, revocation: &Revocation) {
        self.expiries.remove(&keys::expiry(revocation));
    }

    fn insert_message(&mut self, message: &Message) -> Result<(), Failure> {
        self.insert(message);
        Ok(())
    }

    fn sender(&self, channel: &ChannelId, id: MessageId) -> Result<Option<UserId>, Failure> {
        Ok(self.message(channel, id).map(|message| message.sender))
    }

    fn remove_message(&mut self, channel: &ChannelId, id: MessageId) -> Result<(), Failure> {
        if let Some(history) = self.messages.get_mut(channel) {
            history.remove(&id);
        }
        Ok(())
    }

    fn group(&self, id: GroupId) -> Result<Option<Group>, Failure> {
        Ok(self.groups.get(&id).cloned())
    }

    fn group_by_name(&self, name: &str) -> Result<Option<GroupId>, Failure> {
        Ok(self.group_names.get(name).copied())
    }

    fn put_group(&mut self, before: Option<&Group>, group: &Group) {
        if let Some(before) = before {
            self.group_names.remove(&before.name);
            self.browsing.remove(&GroupPlace::of(before));
        }
        let namesake = self.group_names.insert(group.name.clone(), group.id);
        assert_eq!(namesake, None, "a group's name has no second group");
        self.browsing.insert(GroupPlace::of(group), group.id);
        let former = self.groups.insert(group.id, group.clone());
        assert_eq!(former.as_ref(), before, "the row that is replaced");
    }

    fn remove_group(&mut self, group: &Group) {
        let former = self.groups.remove(&group.id);
        assert_eq!(former.as_ref(), Some(group), "the row that is removed");
        self.group_names.remove(&group.name);
        self.browsing.remove(&GroupPlace::of(group));
        let people: Vec<_> = self
            .members
            .iter()
            .filter(|((of, _), _)| *of == group.id)
            .map(|((_, user), kept)| (*user, *kept))
            .collect();
        for (user, membership) in people {
            self.end_membership(group.id, user, membership);
        }
        let channel = ChannelId::group(group.id);
        self.messages.remove(&channel);
        self.heads.remove(&channel);
    }

    fn membership(&self, group: GroupId, user: UserId) -> Result<Option<Membership>, Failure> {
        Ok(self.members.get(&(group, user)).copied())
    }

    fn set_membership(
        &mut self,
        group: GroupId,
        user: UserId,
        before: Option<Membership>,
        after: Option<Membership>,
    ) -> Result<(), Failure> {
        assert_eq!(self.members.get(&(group, user)).copied(), before, "the row that is replaced");
        if let Some(before) = before {
            self.end_membership(group, user, before);
        }
        if let Some(after) = after {
            self.members.insert((group, user), after);
            self.rosters.insert((group, after.place(user.0)));
            self.user_groups.insert((user, after.place(group.0)));
        }
        Ok(())
    }

    fn has_room_for_group(&self, user: UserId, groups_max: usize) -> Result<bool, Failure> {
        Ok(self.groups_of(user)?.len() < groups_max)
    }

    fn roster(&self, group: GroupId, down_to: Role, limit: usize) -> Result<Vec<(UserId, Role)>, Failure> {
        let [first, _] = RosterPlace::span(Some(Role::Superadmin));
        let [_, last] = RosterPlace::span(Some(down_to));
        let people = self.rosters.range((group, first)..=(group, last)).take(limit);
        Ok(people.map(|(_, place)| (UserId(place.id), place.role)).collect())
    }

    fn groups_of(&self, user: UserId) -> Result<Vec<GroupId>, Failure> {
        let [first, last] = RosterPlace::span(None);
        Ok(self.user_groups.range((user, first)..=(user, last)).map(|(_, place)| GroupId(place.id)).collect())
    }

    fn edge(&self, user: UserId, other: UserId) -> Result<Option<Edge>, Failure> {
        Ok(self.edges.get(&(user, other)).cloned())
    }

    fn set_edge(&mut self, user: UserId, other: UserId, before: Option<Edge>, after: Option<Edge>) {
        assert_eq!(self.edges.get(&(user, other)), before.as_ref(), "the row that is replaced");
        if let Some(before) = before {
            self.edges.remove(&(user, other));
            self.friends.remove(&(user, before.place(other)));
        }
        if let Some(after) = after {
            self.friends.insert((user, after.place(other)));
            self.edges.insert((user, other), after);
        }
    }

    fn friend_counts(&self, user: UserId) -> Result<FriendCounts, Failure> {
        Ok(self.friend_counts.get(&user).copied().unwrap_or_default())
    }

    fn set_friend_counts(&mut self, user: UserId, friend_counts: FriendCounts) {
        self.friend_counts.insert(user, friend_counts);
    }

    fn inbox(&self, user: UserId) -> Result<Inbox, Failure> {
        Ok(self.inboxes.get(&user).copied().unwrap_or_default())
    }

    fn set_inbox(&mut self, user: UserId, inbox: Inbox) {
        self.inboxes.insert(user, inbox);
    }

    fn has_notification(&self, user: UserId, id: NotificationId) -> Result<bool, Failure> {
        Ok(self.notifications.contains_key(&(user, id)))
    }

    fn oldest_notification(
        &self,
        user: UserId,
        floor: Option<NotificationId>,
    ) -> Result<Option<NotificationId>, Failure> {
        let from = floor.map_or(Bound::Included((user, NotificationId(Uuid::nil()))), |id| Bound::Excluded((user, id)));
        let to = Bound::Included((user, NotificationId(Uuid::max())));
        Ok(self.notifications.range((from, to)).next().map(|((_, id), _)| *id))
    }

    fn put_notification(&mut self, user: UserId, notification: &Notification) {
        let former = self.notifications.insert((user, notification.id), notification.clone());
        assert_eq!(former, None, "no two notifications of a user have one id");
    }

    fn remove_notification(&mut self, user: UserId, id: NotificationId) {
        self.notifications.remove(&(user, id));
    }

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Failure> {
        Ok(self.find_object(id).cloned())
    }

    fn put_object(&mut self, before: Option<&Object>, object: &Object) {
        if let Some(before) = before {
            self.remove_object(before);
        }
        let former = self.objects.insert(keys::object(&object.id, object.read), object.clone());
        assert_eq!(former, None, "the row that is replaced");
        if let Some(entry) = keys::entry_of(object) {
            self.public_objects.insert(entry, object.id.clone());
        }
    }

    fn remove_object(&mut self, object: &Object) {
        let former = self.objects.remove(&keys::object(&object.id, object.read));
        assert_eq!(former.as_ref(), Some(object), "the row that is removed");
        if let Some(entry) = keys::entry_of(object) {
            self.public_objects.remove(&entry);
        }
    }

    fn object_counts(&self, owner: UserId) -> Result<ObjectCounts, Failure> {
        Ok(self.object_counts.get(&owner).copied().unwrap_or_default())
    }

    fn set_object_counts(&mut self, owner: UserId, counts: ObjectCounts) {
        self.object_counts.insert(owner, counts);
    }

    fn is_repeated(&mut self, request: SentRequest, time: Timestamp) -> bool {
        self.sent.is_repeated(request, time)
    }

    fn note_sent(&mut self, request: SentRequest, time: Timestamp) {
        self.sent.note(request, time);
    }

    fn forget_sent(&mut self, request: SentRequest) {
        self.sent.forget(request);
    }

    /// Examines every edge and membership, because this store has no index from a blocked user to the users who block
    /// it.
    fn abandon_user(&mut self, user: UserId) -> Result<(), Failure> {
        let edges: Vec<_> = self
            .edges
            .iter()
            .filter(|((one, other), _)| [*one, *other].contains(&user))
            .map(|(pair, edge)| (*pair, edge.clone()))
            .collect();
        for ((one, other), edge) in edges {
            let friend_counts = self.friend_counts(one)?.moved(Some(edge.state), None);
            self.set_edge(one, other, Some(edge), None);
            self.set_friend_counts(one, friend_counts);
        }
        let groups: Vec<_> = self
            .members
            .iter()
            .filter(|((_, one), _)| *one == user)
            .map(|((group, _), kept)| (*group, *kept))
            .collect();
        for (group, membership) in groups {
            self.end_membership(group, user, membership);
        }
        self.notifications.retain(|(of, _), _| *of != user);
        self.inboxes.remove(&user);
        self.friend_counts.remove(&user);
        let objects: Vec<_> = self.objects.values().filter(|object| object.id.owner == user).cloned().collect();
        objects.iter().for_each(|object| self.remove_object(object));
        self.object_counts.remove(&user);
        Ok(())
    }

    fn put_account_deletion(&mut self, user: UserId) {
        self.account_deletions.insert(user);
    }

    fn remove_account_deletion(&mut self, user: UserId) -> Result<(), Failure> {
        self.account_deletions.remove(&user);
        self.authored.remove(&user);
        Ok(())
    }
}

impl State {
    fn end_membership(&mut self, group: GroupId, user: UserId, membership: Membership) {
        self.members.remove(&(group, user));
        self.rosters.remove(&(group, membership.place(user.0)));
        self.user_groups.remove(&(user, membership.place(group.0)));
    }
}
