//! What a change of groups, friends or accounts needs of a keeper: its rows, one kind at a time. `change/` carries changes
//! out on these, so that every keeper does the same; how rows and their orders are kept is each keeper's own.

use engine::id::{ChannelId, GroupId, MessageId, NotificationId, UserId};
use engine::message::Message;
use engine::social::group::Role;
use engine::social::notification::Notification;

use crate::Failure;
use crate::account::{Account, Credential, CredentialOwner, Revocation};
use crate::friend::{Edge, FriendCounts};
use crate::group::{Group, Membership};
use crate::inbox::Inbox;

/// A keeper's rows in the midst of a group of writes. What has been written is read.
///
/// Where a row is replaced, the caller says what was there before.
pub(crate) trait Rows {
    fn account(&self, id: UserId) -> Result<Option<Account>, Failure>;
    fn put_account(&mut self, account: &Account);
    fn remove_account(&mut self, id: UserId);
    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure>;
    fn remove_username(&mut self, username: &str);
    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure>;
    fn put_credential(&mut self, credential: &Credential, owner: &CredentialOwner);
    fn remove_credential(&mut self, credential: &Credential);
    fn revoke(&mut self, revocation: &Revocation) -> Result<(), Failure>;

    fn insert_message(&mut self, message: &Message) -> Result<(), Failure>;
    /// Whose message this is.
    fn sender(&self, channel: &ChannelId, id: MessageId) -> Result<Option<UserId>, Failure>;
    fn remove_message(&mut self, channel: &ChannelId, id: MessageId) -> Result<(), Failure>;

    fn group(&self, id: GroupId) -> Result<Option<Group>, Failure>;
    fn group_by_name(&self, name: &str) -> Result<Option<GroupId>, Failure>;
    /// With its name and its place in the order of browsing.
    fn put_group(&mut self, before: Option<&Group>, group: &Group);
    /// The same three go, and what else belongs to the group goes now or later.
    fn remove_group(&mut self, group: &Group);
    fn membership(&self, group: GroupId, user: UserId) -> Result<Option<Membership>, Failure>;
    /// With its places in the group's list and in the user's.
    fn set_membership(&mut self, group: GroupId, user: UserId, before: Option<Membership>, after: Option<Membership>);
    /// The first of a group's people, down to a role, in the order of rank and time.
    fn roster(&self, group: GroupId, down_to: Role, limit: usize) -> Result<Vec<(UserId, Role)>, Failure>;
    /// All groups in which the user has a role, but for bans. Some may be gone.
    fn groups_of(&self, user: UserId) -> Result<Vec<GroupId>, Failure>;

    /// The side of `user` towards `other`.
    fn edge(&self, user: UserId, other: UserId) -> Result<Option<Edge>, Failure>;
    /// With its place in the user's list.
    fn set_edge(&mut self, user: UserId, other: UserId, before: Option<Edge>, after: Option<Edge>);
    fn friend_counts(&self, user: UserId) -> Result<FriendCounts, Failure>;
    fn set_circle(&mut self, user: UserId, friend_counts: FriendCounts);

    fn inbox(&self, user: UserId) -> Result<Inbox, Failure>;
    fn set_inbox(&mut self, user: UserId, inbox: Inbox);
    fn has_notification(&self, user: UserId, id: NotificationId) -> Result<bool, Failure>;
    fn oldest_notification(
        &self,
        user: UserId,
        floor: Option<NotificationId>,
    ) -> Result<Option<NotificationId>, Failure>;
    fn put_notification(&mut self, user: UserId, notification: &Notification);
    fn remove_notification(&mut self, user: UserId, id: NotificationId);

    /// The account is gone. So are now, or later, both sides of its friendships and blocks, its bans, and its
    /// notifications.
    fn abandon_user(&mut self, user: UserId) -> Result<(), Failure>;
    /// Remembers that the user's messages are still to be deleted.
    fn put_departure(&mut self, user: UserId);
    /// Forgets it, and where the user has written: at once, or by and by.
    fn remove_departure(&mut self, user: UserId) -> Result<(), Failure>;
}
