//! A draft's rows, read and written as the rules need them: every row together with its entries in the lists, and with
//! its undo.

use engine::id::{ChannelId, GroupId, MessageId, NotificationId, Timestamp, UserId};
use engine::message::Message;
use engine::social::group::Role;
use engine::social::notification::Notification;
use storage::Failure;
use storage::account::{Account, Credential, CredentialOwner, Revocation};
use storage::friend::{Edge, FriendCounts};
use storage::group::{Group, GroupPlace, Membership, RosterPlace};
use storage::inbox::Inbox;
use storage::object::{Object, ObjectCounts, ObjectId};
use storage::repeats::SentRequest;
use storage::rows::{FreeUsername, Rows};

use super::{Claim, Draft, GROUPS_OF_USER_MAX, Release, is_name, stored_revocations};
use crate::change_scheduler::Subject;
use crate::channel::{bytes_of, message_row, place_of};
use crate::linked_rows as rows;
use crate::lists::List;
use crate::tables::group_seats::{self, Seats};
use crate::tables::leftovers::Leftover;
use crate::tables::{
    account_deletions, author_buckets, authored, big, credentials, edges, friend_counts, group_list, group_members,
    group_names, groups, id, inboxes, messages, notifications, object_counts, objects, public_objects, revocations,
    shard_of, shards_of, text, usernames, users,
};
use crate::written::author_row;

impl Rows for Draft<'_> {
    fn account(&self, user: UserId) -> Result<Option<Account>, Failure> {
        Self::seen(&self.accounts, user, || self.block(self.store.account_row(user)))
    }

    fn username(&self, user: UserId) -> Result<Option<String>, Failure> {
        if let Some(account) = self.accounts.borrow().get(&user) {
            return Ok(account.as_ref().map(|account| account.username.clone()));
        }
        Self::seen(&self.usernames, user, || Ok(self.look(users::username_of(user))?.map(|(username,)| username)))
    }

    fn put_account(&mut self, account: &Account) {
        let before = self.accounts.get_mut().insert(account.id, Some(account.clone())).flatten();
        let undo = before.map_or_else(|| users::delete(account.id), |before| users::put(&before));
        self.write(users::put(account), undo);
    }

    fn remove_account(&mut self, user: UserId) {
        if let Some(before) = self.accounts.get_mut().insert(user, None).flatten() {
            self.write(users::delete(user), users::put(&before));
        }
    }

    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure> {
        if !is_name(username) {
            return Ok(None);
        }
        let found = self.block(self.store.database.decided(usernames::owner(username)))?;
        let Some((found,)) = found else { return Ok(None) };
        if Rows::username(self, UserId(found))?.is_some_and(|name| name == username) {
            return Ok(Some(UserId(found)));
        }
        self.orphans.borrow_mut().insert(Subject::Username(username.to_owned()), found);
        Ok(None)
    }

    fn put_username(&mut self, username: FreeUsername<'_>, user: UserId) {
        let username = username.as_str();
        let orphan = self.orphans.borrow().get(&Subject::Username(username.to_owned())).copied();
        let mutation = match orphan {
            None => usernames::claim(username, user),
            Some(orphan) => usernames::take(username, user, orphan),
        };
        self.claims.push(Claim {
            mutation,
            look: usernames::owner(username).untyped(),
            expected: vec![id(user.0)],
            release: Some(usernames::release(username, user)),
        });
    }

    fn remove_username(&mut self, username: &str, owner: UserId) {
        self.releases.push(Release {
            mutation: usernames::release(username, owner),
            look: usernames::owner(username).untyped(),
            bearer: Some(id(owner.0)),
        });
    }

    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure> {
        if !is_name(&credential.ident) {
            return Ok(None);
        }
        let found = self.block(self.store.database.decided(credentials::owner(credential)))?;
        let Some(owner) = found.map(credentials::Row::owner) else { return Ok(None) };
        if self.account(owner.user)?.is_some_and(|account| account.bears(credential)) {
            return Ok(Some(owner));
        }
        self.orphans.borrow_mut().insert(Subject::Credential(credential.clone()), owner.user.0);
        Ok(None)
    }

    fn put_credential(&mut self, credential: &Credential, owner: &CredentialOwner) {
        // It is being reassigned: cancel its pending release.
        let look = credentials::owner(credential).untyped();
        self.releases.retain(|release| release.look != look);
        let is_ours = Rows::credential(self, credential).ok().flatten().map(|owner| owner.user.0);
        let orphan = self.orphans.borrow().get(&Subject::Credential(credential.clone())).copied();
        let mutation = match is_ours.or(orphan) {
            None => credentials::claim(credential, owner),
            Some(bearer) => credentials::take(credential, owner, bearer),
        };
        let release = credentials::release(credential, owner.user);
        self.claims.push(Claim {
            mutation,
            look,
            expected: vec![id(owner.user.0), text(&owner.secret)],
            release: is_ours.is_none().then_some(release),
        });
    }

    fn remove_credential(&mut self, credential: &Credential) {
        let Ok(Some(owner)) = Rows::credential(self, credential) else { return };
        self.releases.push(Release {
            mutation: credentials::release(credential, owner.user),
            look: credentials::owner(credential).untyped(),
            bearer: Some(id(owner.user.0)),
        });
    }

    fn stored_revocations(&self, revocations: &[Revocation]) -> Result<Vec<Option<Revocation>>, Failure> {
        self.block(stored_revocations(self.store, revocations))
    }

    fn put_revocation(&mut self, before: Option<&Revocation>, revocation: &Revocation) {
        let undo = before.map_or_else(|| revocations::delete(revocation), revocations::put);
        self.write(revocations::put(revocation), undo);
    }

    fn remove_revocation(&mut self, revocation: &Revocation) {
        self.write(revocations::delete(revocation), revocations::put(revocation));
    }

    /// Expired revocations are found by an examination of all.
    fn remove_expiry(&mut self, _: &Revocation) {}

    fn insert_message(&mut self, message: &Message) -> Result<(), Failure> {
        let Some(channel) = self.channel.clone() else {
            return Err(Failure::Unfit("a message outside of its channel's lane".into()));
        };
        let mut known = match self.known.take() {
            Some(known) => known,
            None => self.block(channel.known(&self.store.database))?,
        };
        let bucket = self.block(channel.bucket_for(
            &self.store.database,
            &mut known,
            message,
            self.store.epoch(),
            self.deadline,
        ))?;
        known.count(bucket, place_of(message), bytes_of(message));
        self.known = Some(known);
        self.write(
            message_row(&self.store.database, message, bucket),
            messages::delete(&channel.id, bucket, message.id),
        );
        let author = author_row(&self.store.database, message.sender, &channel.id, bucket);
        // A needless note of an author is harmless, so it is its own undo.
        self.write(author.clone(), author);
        Ok(())
    }

    fn sender(&self, channel: &ChannelId, message: MessageId) -> Result<Option<UserId>, Failure> {
        let channel = self.store.channels.get(channel);
        Ok(self.block(self.store.stored(&channel, message))?.map(|found| found.message.sender))
    }

    fn remove_message(&mut self, _: &ChannelId, _: MessageId) -> Result<(), Failure> {
        Err(Failure::Unfit("messages are removed in their channel's lane".into()))
    }

    fn group(&self, group: GroupId) -> Result<Option<Group>, Failure> {
        Self::seen(&self.groups, group, || Ok(self.look(groups::one(group))?.map(|row| row.group(group))))
    }

    fn group_by_name(&self, name: &str) -> Result<Option<GroupId>, Failure> {
        if !is_name(name) {
            return Ok(None);
        }
        let found = self.block(self.store.database.decided(group_names::owner(name)))?;
        let Some((found,)) = found else { return Ok(None) };
        if self.group(GroupId(found))?.is_some_and(|group| group.name == name) {
            return Ok(Some(GroupId(found)));
        }
        self.orphans.borrow_mut().insert(Subject::GroupName(name.to_owned()), found);
        Ok(None)
    }

    fn put_group(&mut self, before: Option<&Group>, group: &Group) {
        if before.is_none_or(|before| before.name != group.name) {
            self.claim_group_name(group);
            self.write(group_list::put(group), group_list::delete(group));
            if let Some(before) = before {
                self.release_group_name(before);
                if GroupPlace::of(before) != GroupPlace::of(group) {
                    self.write(group_list::delete(before), group_list::put(before));
                }
            }
        }
        let undo = before.map_or_else(|| groups::delete(group.id), groups::put);
        self.write(groups::put(group), undo);
        if before.is_none_or(|before| before.edge_count != group.edge_count) && self.claim_seats(group).is_err() {
            // This claim cannot succeed, so the change fails.
            self.claims.push(Claim {
                mutation: group_seats::move_seats(group.id, i64::MIN, Seats { edge_count: 0, version: 0 }),
                look: group_seats::one(group.id).untyped(),
                expected: vec![big(i64::MIN)],
                release: None,
            });
        }
        self.groups.get_mut().insert(group.id, Some(group.clone()));
    }

    fn remove_group(&mut self, group: &Group) {
        self.write(groups::delete(group.id), groups::put(group));
        self.write(group_list::delete(group), group_list::put(group));
        // Few who leave a group end it, so a leave does not declare the group's name.
        let _to_be_decided_again = self.announce(&Subject::GroupName(group.name.clone()));
        self.leave_over(Leftover::Group { group: group.id, shards: shards_of(group) });
        self.release_group_name(group);
        self.releases.push(Release {
            mutation: group_seats::release(group.id),
            look: group_seats::one(group.id).untyped(),
            bearer: None,
        });
        self.groups.get_mut().insert(group.id, None);
    }

    fn membership(&self, group: GroupId, user: UserId) -> Result<Option<Membership>, Failure> {
        Self::seen(&self.members, (group, user), || {
            let shards = self.group(group)?.map_or(1, |group| shards_of(&group));
            let row = self.look(group_members::one(group, shards, user))?;
            row.map(group_members::Row::membership).transpose()
        })
    }

    fn set_membership(
        &mut self,
        group: GroupId,
        user: UserId,
        before: Option<Membership>,
        after: Option<Membership>,
    ) -> Result<(), Failure> {
        // The next member of rank may become superadmin when the last one leaves.
        self.announce(&Subject::User(user))?;
        let shards = self.shards(group);
        let counts = |membership: Option<Membership>| i32::from(membership.is_some_and(|m| m.role != Role::Banned));
        if counts(before) != counts(after) {
            self.count_group(user, counts(after) - counts(before))?;
        }
        if before.is_some() && before != after {
            self.removals.extend([List::Roster(group, shard_of(user.0, shards)), List::GroupsOfUser(user)]);
        }
        match (before, after) {
            (None, None) => {}
            (before, Some(after)) if before == Some(after) => {}
            (None, Some(after)) => {
                let puts = rows::put_membership(group, shards, user, after);
                self.write_all(puts, rows::delete_membership(group, shards, user, after));
            }
            (Some(before), None) => {
                let deletes = rows::delete_membership(group, shards, user, before);
                self.write_all(deletes, rows::put_membership(group, shards, user, before));
            }
            (Some(before), Some(after)) => {
                let [member, roster, user_group] = rows::put_membership(group, shards, user, before);
                self.write_all(rows::delete_places(group, shards, user, before), [roster, user_group]);
                let [_, no_roster, no_user_group] = rows::delete_membership(group, shards, user, after);
                let undo = [member, no_roster, no_user_group];
                self.write_all(rows::put_membership(group, shards, user, after), undo);
            }
        }
        self.members.get_mut().insert((group, user), after);
        Ok(())
    }

    fn has_room_for_group(&self, user: UserId, groups_max: usize) -> Result<bool, Failure> {
        Ok((self.group_count(user)?.count as usize) < groups_max)
    }

    fn roster(&self, group: GroupId, down_to: Role, limit: usize) -> Result<Vec<(UserId, Role)>, Failure> {
        let [first, _] = RosterPlace::span(Some(Role::Superadmin));
        let [_, last] = RosterPlace::span(Some(down_to));
        let shards = self.group(group)?.map_or(1, |group| shards_of(&group));
        let people = self.block(self.store.roster(group, shards, first, last, limit))?;
        Ok(people.into_iter().map(|place| (UserId(place.id), place.role)).collect())
    }

    fn groups_of(&self, user: UserId) -> Result<Vec<GroupId>, Failure> {
        let [first, last] = RosterPlace::span(None);
        let places = self.block(self.store.places_of_user(user, first, last, GROUPS_OF_USER_MAX))?;
        Ok(places.into_iter().map(|place| GroupId(place.id)).collect())
    }

    fn edge(&self, user: UserId, other: UserId) -> Result<Option<Edge>, Failure> {
        Self::seen(&self.edges, (user, other), || self.look(edges::one(user, other))?.map(edges::Row::edge).transpose())
    }

    fn set_edge(&mut self, user: UserId, other: UserId, before: Option<Edge>, after: Option<Edge>) {
        self.removals.extend(before.is_some().then_some(List::Friends(user)));
        match (&before, &after) {
            (None, None) => {}
            (None, Some(after)) => {
                self.write_all(rows::put_edge(user, other, after), rows::delete_edge(user, other, after));
            }
            (Some(before), None) => {
                self.write_all(rows::delete_edge(user, other, before), rows::put_edge(user, other, before));
            }
            (Some(before), Some(after)) => {
                let mut puts_before = rows::put_edge(user, other, before);
                let edge = puts_before.remove(0);
                self.write_all(rows::delete_edge_places(user, other, before), puts_before);
                let undo = std::iter::once(edge).chain(rows::delete_edge_places(user, other, after));
                self.write_all(rows::put_edge(user, other, after), undo);
            }
        }
        self.edges.get_mut().insert((user, other), after);
    }

    fn friend_counts(&self, user: UserId) -> Result<FriendCounts, Failure> {
        let found = Self::seen(&self.friend_counts, user, || self.block(self.store.friend_counts(user)))?;
        Ok(found.unwrap_or_default())
    }

    fn set_friend_counts(&mut self, user: UserId, friend_counts: FriendCounts) {
        let before = self.friend_counts.get_mut().insert(user, Some(friend_counts)).flatten();
        let undo = before.map_or_else(|| friend_counts::delete(user), |before| friend_counts::put(user, before));
        self.write(friend_counts::put(user, friend_counts), undo);
    }

    fn inbox(&self, user: UserId) -> Result<Inbox, Failure> {
        // A user's notifications stay in order because every change that writes them declares the user.
        self.announce(&Subject::User(user))?;
        let found = Self::seen(&self.inboxes, user, || self.block(self.store.inbox(user)))?;
        Ok(found.unwrap_or_default())
    }

    fn set_inbox(&mut self, user: UserId, inbox: Inbox) {
        let before = self.inboxes.get_mut().insert(user, Some(inbox)).flatten();
        let undo = before.map_or_else(|| inboxes::delete(user), |before| inboxes::put(user, before));
        self.write(inboxes::put(user, inbox), undo);
    }

    fn has_notification(&self, user: UserId, notification: NotificationId) -> Result<bool, Failure> {
        if self.notifications_removed.contains(&notification) {
            return Ok(false);
        }
        Ok(self.block(self.store.notification(user, notification))?.is_some())
    }

    fn oldest_notification(
        &self,
        user: UserId,
        floor: Option<NotificationId>,
    ) -> Result<Option<NotificationId>, Failure> {
        let found = self.block(self.store.notifications_after(user, floor, 1))?;
        Ok(found.first().map(|notification| notification.id))
    }

    fn put_notification(&mut self, user: UserId, notification: &Notification) {
        let undo = notifications::delete(user, notification.id);
        self.write(notifications::put(user, notification), undo);
    }

    fn remove_notification(&mut self, user: UserId, notification: NotificationId) {
        let delete = notifications::delete(user, notification);
        let before = self.block(self.store.notification(user, notification)).ok().flatten();
        let undo = before.map_or_else(|| delete.clone(), |before| notifications::put(user, &before));
        self.notifications_removed.insert(notification);
        self.write(delete, undo);
    }

    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Failure> {
        self.block(self.store.object_row(id))
    }

    fn put_object(&mut self, before: Option<&Object>, object: &Object) {
        // The permission is a part of the row's key.
        let replaced = before.filter(|before| before.read == object.read);
        if let Some(before) = before.filter(|_| replaced.is_none()) {
            self.write(objects::delete(before), objects::put(before));
            self.removals.push(List::Objects(object.id.owner));
        }
        let undo = replaced.map_or_else(|| objects::delete(object), objects::put);
        self.write(objects::put(object), undo);
        let entry = public_objects::entry_of;
        match (before.and_then(entry), entry(object)) {
            (None, Some(id)) => self.write(public_objects::put(id), public_objects::delete(id)),
            (Some(id), None) => self.write(public_objects::delete(id), public_objects::put(id)),
            _ => {}
        }
    }

    fn remove_object(&mut self, object: &Object) {
        self.write(objects::delete(object), objects::put(object));
        self.removals.push(List::Objects(object.id.owner));
        if let Some(id) = public_objects::entry_of(object) {
            self.write(public_objects::delete(id), public_objects::put(id));
        }
    }

    fn object_counts(&self, owner: UserId) -> Result<ObjectCounts, Failure> {
        let found = Self::seen(&self.object_counts, owner, || self.block(self.store.object_counts(owner)))?;
        Ok(found.unwrap_or_default())
    }

    fn set_object_counts(&mut self, owner: UserId, counts: ObjectCounts) {
        let before = self.object_counts.get_mut().insert(owner, Some(counts)).flatten();
        let undo = before.map_or_else(|| object_counts::delete(owner), |before| object_counts::put(owner, before));
        self.write(object_counts::put(owner, counts), undo);
    }

    fn is_repeated(&mut self, request: SentRequest, time: Timestamp) -> bool {
        self.sent.iter().any(|(sent, _)| *sent == request) || self.store.sent.lock().is_repeated(request, time)
    }

    fn note_sent(&mut self, request: SentRequest, time: Timestamp) {
        self.sent.push((request, time));
    }

    fn forget_sent(&mut self, request: SentRequest) {
        self.store.sent.lock().forget(request);
    }

    fn abandon_user(&mut self, user: UserId) -> Result<(), Failure> {
        self.leave_over(Leftover::User(user));
        Ok(())
    }

    fn put_account_deletion(&mut self, user: UserId) {
        self.write(account_deletions::put(user), account_deletions::delete(user));
    }

    fn remove_account_deletion(&mut self, user: UserId) -> Result<(), Failure> {
        let undo = account_deletions::put(user);
        // The undo does not restore the notes, and need not: the messages that they lead to were purged before.
        let deletes = [account_deletions::delete(user), authored::delete_all(user), author_buckets::delete_all(user)];
        self.write_all(deletes, [undo.clone(), undo.clone(), undo]);
        Ok(())
    }
}
