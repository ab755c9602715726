//! A draft's rows, read and written as the rules need them: every row together with its entries in the lists.

use std::ops::Bound::{Excluded, Included};

use engine::id::{ChannelId, GroupId, MessageId, NotificationId, Timestamp, UserId};
use engine::message::Message;
use engine::social::friend::FriendState;
use engine::social::group::Role;
use engine::social::notification::Notification;
use uuid::Uuid;

use super::Draft;
use super::sweep::Remains;
use crate::Failure;
use crate::account::{Account, Credential, CredentialOwner, Revocation};
use crate::embedded::failures::parsed;
use crate::embedded::walk::HOLLOW_ROWS_MIN;
use crate::friend::{Edge, FriendCounts};
use crate::group::{GROUPS_PER_USER_MAX, Group, GroupPlace, Membership, RosterPlace};
use crate::inbox::Inbox;
use crate::keys::{self, Listed, Table};
use crate::object::{Object, ObjectCounts, ObjectId, ReadPermission};
use crate::record;
use crate::repeats::SentRequest;
use crate::rows::{FreeUsername, Rows};

/// The value of rows whose key says everything.
const NOTHING: Vec<u8> = Vec::new();

impl Rows for Draft<'_> {
    fn account(&self, id: UserId) -> Result<Option<Account>, Failure> {
        self.read(Table::Accounts, &keys::account(id), record::decode_account)
    }

    fn username(&self, id: UserId) -> Result<Option<String>, Failure> {
        self.read(Table::Accounts, &keys::account(id), record::decode_username_of_account)
    }

    fn put_account(&mut self, account: &Account) {
        self.put(Table::Accounts, keys::account(account.id), record::encode_account(account));
    }

    fn remove_account(&mut self, id: UserId) {
        self.delete(Table::Accounts, keys::account(id));
    }

    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure> {
        self.read(Table::Usernames, &keys::username(username), record::decode_username)
    }

    fn put_username(&mut self, username: FreeUsername<'_>, user: UserId) {
        self.put(Table::Usernames, keys::username(username.as_str()), record::encode_username(user));
    }

    fn remove_username(&mut self, username: &str, _: UserId) {
        self.delete(Table::Usernames, keys::username(username));
    }

    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure> {
        self.read(Table::Credentials, &keys::credential(credential), record::decode_credential)
    }

    fn put_credential(&mut self, credential: &Credential, owner: &CredentialOwner) {
        self.put(Table::Credentials, keys::credential(credential), record::encode_credential(owner));
    }

    fn remove_credential(&mut self, credential: &Credential) {
        self.delete(Table::Credentials, keys::credential(credential));
    }

    fn stored_revocations(&self, revocations: &[Revocation]) -> Result<Vec<Option<Revocation>>, Failure> {
        let stored =
            |revocation| self.read(Table::Revocations, &keys::revocation(revocation), record::decode_revocation);
        revocations.iter().map(stored).collect()
    }

    fn put_revocation(&mut self, before: Option<&Revocation>, revocation: &Revocation) {
        if let Some(before) = before {
            self.remove_expiry(before);
        }
        self.put(Table::Revocations, keys::revocation(revocation), record::encode_revocation(revocation));
        self.put(Table::Expiries, keys::expiry(revocation), NOTHING);
    }

    fn remove_revocation(&mut self, revocation: &Revocation) {
        self.delete(Table::Revocations, keys::revocation(revocation));
    }

    fn remove_expiry(&mut self, revocation: &Revocation) {
        self.delete(Table::Expiries, keys::expiry(revocation));
    }

    fn insert_message(&mut self, message: &Message) -> Result<(), Failure> {
        self.insert(message);
        Ok(())
    }

    fn sender(&self, channel: &ChannelId, id: MessageId) -> Result<Option<UserId>, Failure> {
        self.read(Table::Messages, &keys::message(channel, id), record::decode_sender)
    }

    fn remove_message(&mut self, channel: &ChannelId, id: MessageId) -> Result<(), Failure> {
        let decode = |bytes: &[u8]| record::decode_message(channel, id, bytes);
        // An account's messages go, also those that have expired and are still on the disk.
        let stored = self.read(Table::Messages, &keys::message(channel, id), decode)?;
        stored.map_or(Ok(()), |message| self.remove_stored(&message))
    }

    fn group(&self, id: GroupId) -> Result<Option<Group>, Failure> {
        self.read(Table::Groups, &keys::group(id), |bytes| record::decode_group(id, bytes))
    }

    fn group_by_name(&self, name: &str) -> Result<Option<GroupId>, Failure> {
        self.read(Table::GroupNames, &keys::group_name(name), record::decode_group_name)
    }

    fn put_group(&mut self, before: Option<&Group>, group: &Group) {
        if before.is_none_or(|before| before.name != group.name) {
            if let Some(before) = before {
                self.delete(Table::GroupNames, keys::group_name(&before.name));
                self.delete(Table::Browsing, GroupPlace::of(before).into());
            }
            self.put(Table::GroupNames, keys::group_name(&group.name), record::encode_group_name(group.id));
            self.put(Table::Browsing, GroupPlace::of(group).into(), NOTHING);
        }
        self.put(Table::Groups, keys::group(group.id), record::encode_group(group));
    }

    fn remove_group(&mut self, group: &Group) {
        self.delete(Table::Groups, keys::group(group.id));
        self.delete(Table::GroupNames, keys::group_name(&group.name));
        self.delete(Table::Browsing, GroupPlace::of(group).into());
        self.leave_over(Remains::Group(group.id));
    }

    fn membership(&self, group: GroupId, user: UserId) -> Result<Option<Membership>, Failure> {
        self.read(Table::Members, &keys::member(group, user), record::decode_membership)
    }

    fn set_membership(
        &mut self,
        group: GroupId,
        user: UserId,
        before: Option<Membership>,
        after: Option<Membership>,
    ) -> Result<(), Failure> {
        self.count_group(user, before, after)?;
        if let Some(before) = before {
            self.delete(Table::Rosters, keys::roster(group, before.place(user.0)));
            self.delete(Table::UserGroups, keys::user_group(user, before.place(group.0)));
        }
        let Some(after) = after else {
            self.delete(Table::Members, keys::member(group, user));
            return Ok(());
        };
        self.put(Table::Rosters, keys::roster(group, after.place(user.0)), NOTHING);
        self.put(Table::UserGroups, keys::user_group(user, after.place(group.0)), NOTHING);
        self.put(Table::Members, keys::member(group, user), record::encode_membership(after));
        Ok(())
    }

    fn has_room_for_group(&self, user: UserId, groups_max: usize) -> Result<bool, Failure> {
        Ok((self.group_count(user)? as usize) < groups_max)
    }

    fn roster(&self, group: GroupId, down_to: Role, limit: usize) -> Result<Vec<(UserId, Role)>, Failure> {
        let rows = self.rows(Table::Rosters, keys::beginning_with(&keys::group(group), None)).take(limit);
        let mut people = Vec::new();
        for row in rows {
            let listed = parsed(Table::Rosters, Listed::of(&row?.0))?;
            let role = parsed(Table::Rosters, Role::from_number(i32::from(listed.rank)))?;
            if role > down_to {
                break;
            }
            people.push((UserId(listed.id), role));
        }
        Ok(people)
    }

    fn groups_of(&self, user: UserId) -> Result<Vec<GroupId>, Failure> {
        let [first, last] = RosterPlace::span(None).map(|place| keys::user_group(user, place));
        let span = (Included(first), Included(last));
        let rows = self.rows_at_most(Table::UserGroups, span, GROUPS_PER_USER_MAX * (1 + HOLLOW_ROWS_MIN));
        rows.map(|row| Ok(GroupId(parsed(Table::UserGroups, Listed::of(&row?.0))?.id))).collect()
    }

    fn edge(&self, user: UserId, other: UserId) -> Result<Option<Edge>, Failure> {
        self.read(Table::Edges, &keys::edge(user, other), record::decode_edge)
    }

    fn set_edge(&mut self, user: UserId, other: UserId, before: Option<Edge>, after: Option<Edge>) {
        let blocked = |edge: &Option<Edge>| edge.as_ref().filter(|e| e.state == FriendState::Blocked).map(|e| e.since);
        if let Some(before) = &before {
            self.delete(Table::Friends, keys::friend(user, before.place(other)));
        }
        if let Some(since) = blocked(&before) {
            self.delete(Table::Friends, keys::blocked_by(other, since, user));
        }
        if let Some(since) = blocked(&after) {
            self.put(Table::Friends, keys::blocked_by(other, since, user), NOTHING);
        }
        let Some(after) = after else {
            return self.delete(Table::Edges, keys::edge(user, other));
        };
        let record = record::encode_edge(&after);
        let listed = if after.metadata.is_empty() { NOTHING } else { record.clone() };
        self.put(Table::Friends, keys::friend(user, after.place(other)), listed);
        self.put(Table::Edges, keys::edge(user, other), record);
    }

    fn friend_counts(&self, user: UserId) -> Result<FriendCounts, Failure> {
        Ok(self.read(Table::FriendCounts, &keys::user(user), record::decode_friend_counts)?.unwrap_or_default())
    }

    fn set_friend_counts(&mut self, user: UserId, friend_counts: FriendCounts) {
        self.put(Table::FriendCounts, keys::user(user), record::encode_friend_counts(friend_counts));
    }

    fn inbox(&self, user: UserId) -> Result<Inbox, Failure> {
        Ok(self.read(Table::Inboxes, &keys::user(user), record::decode_inbox)?.unwrap_or_default())
    }

    fn set_inbox(&mut self, user: UserId, inbox: Inbox) {
        self.put(Table::Inboxes, keys::user(user), record::encode_inbox(inbox));
    }

    fn has_notification(&self, user: UserId, id: NotificationId) -> Result<bool, Failure> {
        Ok(self.get(Table::Notifications, &keys::notification(user, id))?.is_some())
    }

    fn oldest_notification(
        &self,
        user: UserId,
        floor: Option<NotificationId>,
    ) -> Result<Option<NotificationId>, Failure> {
        let first = floor.map_or(Included(NotificationId(Uuid::nil())), Excluded);
        let span = (first, Included(NotificationId(Uuid::max())));
        let span = (span.0.map(|id| keys::notification(user, id)), span.1.map(|id| keys::notification(user, id)));
        let oldest = self.rows(Table::Notifications, span).next().transpose()?;
        oldest.map(|(key, _)| parsed(Table::Notifications, keys::notification_id(&key))).transpose()
    }

    fn put_notification(&mut self, user: UserId, notification: &Notification) {
        let key = keys::notification(user, notification.id);
        self.put(Table::Notifications, key, record::encode_notification(notification));
    }

    fn remove_notification(&mut self, user: UserId, id: NotificationId) {
        self.delete(Table::Notifications, keys::notification(user, id));
    }

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Failure> {
        for read in ReadPermission::ALL {
            let decode = |bytes: &[u8]| record::decode_object((id.clone(), read), bytes);
            if let Some(object) = self.read(Table::Objects, &keys::object(id, read), decode)? {
                return Ok(Some(object));
            }
        }
        Ok(None)
    }

    fn put_object(&mut self, before: Option<&Object>, object: &Object) {
        if let Some(before) = before.filter(|before| before.read != object.read) {
            self.remove_object(before);
        }
        if let Some(entry) = keys::entry_of(object).filter(|_| before.and_then(keys::entry_of).is_none()) {
            self.put(Table::PublicObjects, entry, NOTHING);
        }
        self.put(Table::Objects, keys::object(&object.id, object.read), record::encode_object(object));
    }

    fn remove_object(&mut self, object: &Object) {
        self.delete(Table::Objects, keys::object(&object.id, object.read));
        if let Some(entry) = keys::entry_of(object) {
            self.delete(Table::PublicObjects, entry);
        }
    }

    fn object_counts(&self, owner: UserId) -> Result<ObjectCounts, Failure> {
        Ok(self.read(Table::ObjectCounts, &keys::user(owner), record::decode_object_counts)?.unwrap_or_default())
    }

    fn set_object_counts(&mut self, owner: UserId, counts: ObjectCounts) {
        self.put(Table::ObjectCounts, keys::user(owner), record::encode_object_counts(counts));
    }

    fn is_repeated(&mut self, request: SentRequest, time: Timestamp) -> bool {
        self.cache.sent.is_repeated(request, time)
    }

    fn note_sent(&mut self, request: SentRequest, time: Timestamp) {
        self.cache.sent.note(request, time);
        self.sent.push(request);
    }

    fn forget_sent(&mut self, request: SentRequest) {
        self.cache.sent.forget(request);
    }

    fn abandon_user(&mut self, user: UserId) -> Result<(), Failure> {
        self.leave_over(Remains::User(user));
        Ok(())
    }

    fn put_account_deletion(&mut self, user: UserId) {
        self.put(Table::AccountDeletions, keys::user(user), NOTHING);
    }

    fn remove_account_deletion(&mut self, user: UserId) -> Result<(), Failure> {
        self.delete(Table::AccountDeletions, keys::user(user));
        self.cache.authors.forget_user(user);
        self.sweep_first(Remains::Author(user))
    }
}

impl Draft<'_> {
    /// In how many groups the user has a role other than banned.
    fn group_count(&self, user: UserId) -> Result<u32, Failure> {
        Ok(self.read(Table::GroupCounts, &keys::user(user), record::decode_group_count)?.unwrap_or(0))
    }

    /// Counts the groups of a user whose membership in one group changes.
    fn count_group(
        &mut self,
        user: UserId,
        before: Option<Membership>,
        after: Option<Membership>,
    ) -> Result<(), Failure> {
        let counts = |membership: Option<Membership>| membership.is_some_and(|m| m.role != Role::Banned);
        let change = i32::from(counts(after)) - i32::from(counts(before));
        if change == 0 {
            return Ok(());
        }
        match self.group_count(user)?.saturating_add_signed(change) {
            0 => self.delete(Table::GroupCounts, keys::user(user)),
            count => self.put(Table::GroupCounts, keys::user(user), record::encode_group_count(count)),
        }
        Ok(())
    }
}
