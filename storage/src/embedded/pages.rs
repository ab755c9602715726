//! Pages: history, groups and their members, friends, notifications. Each page is read from one snapshot.

use engine::id::{ChannelId, GroupId, MessageId, NotificationId, UserId};
use engine::message::Message;
use engine::persist::ChannelHead;
use engine::social::group::Role;
use engine::social::notification::Notification;
use uuid::Uuid;

use super::failures::{decoded, parsed};
use super::tables::View;
use super::walk::{Direction, Walk};
use crate::friend::{Friend, FriendPlace};
use crate::group::{Group, GroupFilter, GroupPage, GroupPlace, RosterPlace, browse, common_beginning};
use crate::keys::{self, Listed, Table};
use crate::{Failure, PageStart, Part, record, span};
use engine::social::friend::FriendState;

impl View<'_> {
    /// See [`Store::group`](crate::Store::group).
    pub fn group(&self, id: GroupId) -> Result<Option<Group>, Failure> {
        self.read(Table::Groups, &keys::group(id), |bytes| record::decode_group(id, bytes))
    }

    /// See [`Store::group_page`](crate::Store::group_page).
    pub fn groups(&self, filter: &GroupFilter, after: Option<&GroupPlace>, limit: usize) -> Result<GroupPage, Failure> {
        let span = keys::beginning_with(&common_beginning(filter), after.map(GroupPlace::as_bytes));
        let mut walk = self.walk(Table::Browsing, span, Direction::Rising);
        let rows = walk.by_ref().map(|row| {
            let (key, _) = row?;
            let group = self.group(parsed(Table::Browsing, keys::browsed_group(&key))?)?;
            Ok((GroupPlace::from(key.to_vec()), parsed(Table::Browsing, group)?))
        });
        let page = browse(rows, filter, limit)?;
        let stopped = walk.stopped().map(|key| GroupPlace::from(key.to_vec()));
        // The walk has looked at the same rows of the list, and at removed ones between them.
        let examined = page.examined / 2 + walk.examined() as usize;
        Ok(GroupPage { next: page.next.or(stopped), examined, ..page })
    }

    /// See [`Store::messages_part`](crate::Store::messages_part).
    pub fn messages(
        &self,
        channel: &ChannelId,
        from: PageStart,
        limit: usize,
    ) -> Result<Part<Message, MessageId>, Failure> {
        let direction = match from {
            PageStart::Oldest | PageStart::After(_) => Direction::Rising,
            PageStart::Newest | PageStart::Before(_) => Direction::Falling,
        };
        let span = keys::message_range(channel, from);
        let span = match self.floor(channel) {
            None => span,
            Some(floor) => match keys::from_on(span, keys::message(channel, floor)) {
                Some(span) => span,
                None => return Ok(Part::whole(Vec::new())),
            },
        };
        let walk = self.walk(Table::Messages, span, direction);
        let id = |key: &[u8]| parsed(Table::Messages, keys::message_id(key));
        let message =
            |key: &[u8], value: &[u8]| decoded(Table::Messages, record::decode_message(channel, id(key)?, value));
        part(walk, limit, |key, value| message(key, value).map(Some), id)
    }

    /// See [`Store::head`](crate::Store::head). Looks at no more than the last row: if it was removed, the kept head is
    /// at least as late, and all other rows are earlier.
    pub fn head(&self, channel: &ChannelId) -> Result<Option<ChannelHead>, Failure> {
        let last = self.last_row(Table::Messages, keys::message_range(channel, PageStart::Newest))?;
        let newest = last.map(|(key, value)| {
            let id = parsed(Table::Messages, keys::message_id(&key))?;
            let message = decoded(Table::Messages, record::decode_message(channel, id, &value))?;
            Ok(ChannelHead { id, sequence: message.sequence })
        });
        let kept = self.read(Table::Heads, &keys::head(channel), record::decode_head)?;
        Ok([newest.transpose()?, kept].into_iter().flatten().max_by_key(|head| head.id))
    }

    /// A deleted group has no roles, even if its member rows are not removed yet.
    pub fn group_role(&self, group: GroupId, user: UserId) -> Result<Option<Role>, Failure> {
        let membership = self.read(Table::Members, &keys::member(group, user), record::decode_membership)?;
        match membership {
            Some(membership) if self.contains(Table::Groups, &keys::group(group))? => Ok(Some(membership.role)),
            _ => Ok(None),
        }
    }

    /// See [`Store::group_members_part`](crate::Store::group_members_part). Empty if there is no such group.
    pub fn group_members(
        &self,
        group: GroupId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(UserId, RosterPlace), RosterPlace>, Failure> {
        let Some((from, to)) = span(RosterPlace::span(role), after) else {
            return Ok(Part::whole(Vec::new()));
        };
        if !self.contains(Table::Groups, &keys::group(group))? {
            return Ok(Part::whole(Vec::new()));
        }
        let key = |place| keys::roster(group, place);
        let walk = self.walk(Table::Rosters, (from.map(key), to.map(key)), Direction::Rising);
        let place = |key: &[u8]| roster_place(Table::Rosters, key);
        part(walk, limit, |key, _| place(key).map(|place| Some((UserId(place.id), place))), place)
    }

    /// See [`Store::user_groups_part`](crate::Store::user_groups_part). Groups that have been deleted are left out.
    pub fn user_groups(
        &self,
        user: UserId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Part<(Group, RosterPlace), RosterPlace>, Failure> {
        let Some((from, to)) = span(RosterPlace::span(role), after) else {
            return Ok(Part::whole(Vec::new()));
        };
        let key = |place| keys::user_group(user, place);
        let walk = self.walk(Table::UserGroups, (from.map(key), to.map(key)), Direction::Rising);
        let place = |key: &[u8]| roster_place(Table::UserGroups, key);
        let group = |key: &[u8], _: &[u8]| {
            let place = place(key)?;
            Ok(self.group(GroupId(place.id))?.map(|group| (group, place)))
        };
        part(walk, limit, group, place)
    }

    /// How `user` stands to `other`, or `None` if it does not.
    pub fn friend_state(&self, user: UserId, other: UserId) -> Result<Option<FriendState>, Failure> {
        let edge = self.read(Table::Edges, &keys::edge(user, other), record::decode_edge)?;
        Ok(edge.map(|edge| edge.state))
    }

    /// See [`Store::friends_part`](crate::Store::friends_part).
    pub fn friends(
        &self,
        user: UserId,
        state: Option<FriendState>,
        after: Option<FriendPlace>,
        limit: usize,
    ) -> Result<Part<(Friend, FriendPlace), FriendPlace>, Failure> {
        let Some((from, to)) = span(FriendPlace::span(state), after) else {
            return Ok(Part::whole(Vec::new()));
        };
        let key = |place| keys::friend(user, place);
        let walk = self.walk(Table::Friends, (from.map(key), to.map(key)), Direction::Rising);
        let friend = |key: &[u8], value: &[u8]| {
            let place = friend_place(key)?;
            Ok(Some((place.friend(listed_metadata(value)?), place)))
        };
        part(walk, limit, friend, friend_place)
    }

    /// See [`Store::notifications_part`](crate::Store::notifications_part). Begins behind the newest notification that
    /// was removed to make room: before it there is none.
    pub fn notifications(
        &self,
        user: UserId,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Part<Notification, NotificationId>, Failure> {
        let inbox = self.read(Table::Inboxes, &keys::user(user), record::decode_inbox)?;
        let after = after.max(inbox.and_then(|inbox| inbox.floor));
        let Some((from, to)) = span([Uuid::nil(), Uuid::max()].map(NotificationId), after) else {
            return Ok(Part::whole(Vec::new()));
        };
        let key = |id| keys::notification(user, id);
        let walk = self.walk(Table::Notifications, (from.map(key), to.map(key)), Direction::Rising);
        let id = |key: &[u8]| parsed(Table::Notifications, keys::notification_id(key));
        let notification = |key: &[u8], value: &[u8]| {
            decoded(Table::Notifications, record::decode_notification(id(key)?, value)).map(Some)
        };
        part(walk, limit, notification, id)
    }

    /// See [`Store::channels_written`](crate::Store::channels_written). The order is that of the channel ids' bytes.
    pub fn channels_written(
        &self,
        user: UserId,
        after: Option<&ChannelId>,
        limit: usize,
    ) -> Result<Vec<ChannelId>, Failure> {
        let after = after.map(|channel| keys::authored(user, channel));
        let span = keys::beginning_with(&keys::user(user), after.as_deref());
        let rows = self.keys(Table::Authored, span).take(limit);
        rows.map(|key| parsed(Table::Authored, keys::authored_channel(&key?))).collect()
    }

    /// See [`Store::account_deletions`](crate::Store::account_deletions). The order is that of the user ids.
    pub fn account_deletions(&self, limit: usize) -> Result<Vec<UserId>, Failure> {
        let rows = self.keys(Table::AccountDeletions, keys::beginning_with(&[], None)).take(limit);
        rows.map(|key| parsed(Table::AccountDeletions, keys::user_of(&key?))).collect()
    }
}

/// The items of a walk, and the place where it stopped. A row may be no item.
fn part<T, P>(
    mut walk: Walk<'_>,
    limit: usize,
    item: impl Fn(&[u8], &[u8]) -> Result<Option<T>, Failure>,
    place: impl Fn(&[u8]) -> Result<P, Failure>,
) -> Result<Part<T, P>, Failure> {
    let items = walk.by_ref().map(|row| row.and_then(|(key, value)| item(&key, &value)));
    let items = items.filter_map(Result::transpose).take(limit).collect::<Result<_, _>>()?;
    Ok(Part { items, stopped: walk.stopped().map(place).transpose()? })
}

/// The metadata of an entry in a list of friends. An entry without has no record.
pub fn listed_metadata(value: &[u8]) -> Result<Box<str>, Failure> {
    if value.is_empty() {
        return Ok("".into());
    }
    Ok(decoded(Table::Friends, record::decode_edge(value))?.metadata)
}

fn friend_place(key: &[u8]) -> Result<FriendPlace, Failure> {
    let listed = parsed(Table::Friends, Listed::of(key))?;
    let state = parsed(Table::Friends, FriendState::from_number(i32::from(listed.rank)))?;
    Ok(FriendPlace { state, since: listed.since, user: UserId(listed.id) })
}

fn roster_place(table: Table, key: &[u8]) -> Result<RosterPlace, Failure> {
    let listed = parsed(table, Listed::of(key))?;
    let role = parsed(table, Role::from_number(i32::from(listed.rank)))?;
    Ok(RosterPlace { role, since: listed.since, id: listed.id })
}
