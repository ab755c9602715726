//! Pages of lists: groups and their members, friends, notifications. Each page is read from one snapshot.

use engine::id::{ChannelId, GroupId, NotificationId, UserId};
use engine::social::group::Role;
use engine::social::notification::Notification;
use fjall::Slice;
use uuid::Uuid;

use super::failures::{decoded, parsed};
use super::tables::View;
use crate::friend::{Friend, FriendPlace};
use crate::group::{Group, GroupFilter, GroupPlace, RosterPlace, browse, common_beginning};
use crate::keys::{self, Listed, Table};
use crate::{Failure, record, span};
use engine::social::friend::FriendState;

impl View<'_> {
    /// See [`Store::group`](crate::Store::group).
    pub fn group(&self, id: GroupId) -> Result<Option<Group>, Failure> {
        self.read(Table::Groups, &keys::group(id), |bytes| record::decode_group(id, bytes))
    }

    /// See [`Store::groups`](crate::Store::groups).
    pub fn groups(
        &self,
        filter: &GroupFilter,
        after: Option<&GroupPlace>,
        limit: usize,
    ) -> Result<(Vec<Group>, Option<GroupPlace>), Failure> {
        let span = keys::beginning_with(&common_beginning(filter), after.map(GroupPlace::as_bytes));
        let rows = self.keys(Table::Browsing, span).map(|key| {
            let key = key?;
            let group = self.group(parsed(Table::Browsing, keys::browsed_group(&key))?)?;
            Ok((GroupPlace::from(key.to_vec()), parsed(Table::Browsing, group)?))
        });
        browse(rows, filter, limit)
    }

    /// A deleted group has no roles, even if its member rows are not removed yet.
    pub fn group_role(&self, group: GroupId, user: UserId) -> Result<Option<Role>, Failure> {
        let membership = self.read(Table::Members, &keys::member(group, user), record::decode_membership)?;
        match membership {
            Some(membership) if self.contains(Table::Groups, &keys::group(group))? => Ok(Some(membership.role)),
            _ => Ok(None),
        }
    }

    /// See [`Store::group_members`](crate::Store::group_members). Empty if there is no such group.
    pub fn group_members(
        &self,
        group: GroupId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Vec<(UserId, RosterPlace)>, Failure> {
        let Some((from, to)) = span(RosterPlace::span(role), after) else {
            return Ok(Vec::new());
        };
        if !self.contains(Table::Groups, &keys::group(group))? {
            return Ok(Vec::new());
        }
        let key = |place| keys::roster(group, place);
        let rows = self.keys(Table::Rosters, (from.map(key), to.map(key))).take(limit);
        rows.map(|key| {
            let place = roster_place(Table::Rosters, &key?)?;
            Ok((UserId(place.id), place))
        })
        .collect()
    }

    /// See [`Store::user_groups`](crate::Store::user_groups). Groups that have been deleted are left out.
    pub fn user_groups(
        &self,
        user: UserId,
        role: Option<Role>,
        after: Option<RosterPlace>,
        limit: usize,
    ) -> Result<Vec<(Group, RosterPlace)>, Failure> {
        let Some((from, to)) = span(RosterPlace::span(role), after) else {
            return Ok(Vec::new());
        };
        let key = |place| keys::user_group(user, place);
        let rows = self.keys(Table::UserGroups, (from.map(key), to.map(key))).map(|key| {
            let place = roster_place(Table::UserGroups, &key?)?;
            Ok(self.group(GroupId(place.id))?.map(|group| (group, place)))
        });
        rows.filter_map(Result::transpose).take(limit).collect()
    }

    /// How `user` stands to `other`, or `None` if it does not.
    pub fn friend_state(&self, user: UserId, other: UserId) -> Result<Option<FriendState>, Failure> {
        let edge = self.read(Table::Edges, &keys::edge(user, other), record::decode_edge)?;
        Ok(edge.map(|edge| edge.state))
    }

    /// See [`Store::friends`](crate::Store::friends).
    pub fn friends(
        &self,
        user: UserId,
        state: Option<FriendState>,
        after: Option<FriendPlace>,
        limit: usize,
    ) -> Result<Vec<(Friend, FriendPlace)>, Failure> {
        let Some((from, to)) = span(FriendPlace::span(state), after) else {
            return Ok(Vec::new());
        };
        let key = |place| keys::friend(user, place);
        let rows = self.keys(Table::Friends, (from.map(key), to.map(key))).take(limit);
        rows.map(|key| {
            let listed = parsed(Table::Friends, Listed::of(&key?))?;
            let state = parsed(Table::Friends, FriendState::from_number(i32::from(listed.rank)))?;
            let place = FriendPlace { state, since: listed.since, user: UserId(listed.id) };
            Ok((place.friend(), place))
        })
        .collect()
    }

    /// See [`Store::notifications`](crate::Store::notifications).
    pub fn notifications(
        &self,
        user: UserId,
        after: Option<NotificationId>,
        limit: usize,
    ) -> Result<Vec<Notification>, Failure> {
        let Some((from, to)) = span([Uuid::nil(), Uuid::max()].map(NotificationId), after) else {
            return Ok(Vec::new());
        };
        let key = |id| keys::notification(user, id);
        let rows = self.rows(Table::Notifications, (from.map(key), to.map(key))).take(limit);
        rows.map(|row| {
            let (key, value) = row?;
            let id = parsed(Table::Notifications, keys::notification_id(&key))?;
            decoded(Table::Notifications, record::decode_notification(id, &value))
        })
        .collect()
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

fn roster_place(table: Table, key: &Slice) -> Result<RosterPlace, Failure> {
    let listed = parsed(table, Listed::of(key))?;
    let role = parsed(table, Role::from_number(i32::from(listed.rank)))?;
    Ok(RosterPlace { role, since: listed.since, id: listed.id })
}
