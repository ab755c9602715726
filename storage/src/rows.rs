//! The rows of a store, as changes of groups, friends and accounts need them, one kind at a time. `change/` carries out
//! changes on this trait, so that every store behaves in the same way. How a store keeps rows and their orders is its
//! own decision.

use engine::id::{ChannelId, GroupId, MessageId, NotificationId, Timestamp, UserId};
use engine::message::Message;
use engine::social::group::Role;
use engine::social::notification::Notification;

use crate::Failure;
use crate::account::{Account, Credential, CredentialOwner, Revocation};
use crate::friend::{Edge, FriendCounts};
use crate::group::{Group, Membership};
use crate::inbox::Inbox;
use crate::object::{Object, ObjectCounts, ObjectId};
use crate::repeats::SentRequest;

/// A username that no user has. Only a look at the rows makes one, so no username gets a second owner.
#[derive(Clone, Copy, Debug)]
pub struct FreeUsername<'a>(&'a str);

impl<'a> FreeUsername<'a> {
    /// Looks the username up. Returns `None` if a user has it. Fails if the store cannot read it.
    pub fn find(rows: &impl Rows, username: &'a str) -> Result<Option<Self>, Failure> {
        Ok(rows.user_by_username(username)?.is_none().then_some(Self(username)))
    }

    /// The username.
    pub fn as_str(self) -> &'a str {
        self.0
    }
}

/// A store's rows in the middle of a group of writes. Reads see the rows written before.
///
/// When a row is replaced, the caller passes the row that was there before. A call fails if the store cannot read what
/// it needs. A write without a result cannot fail: it only changes the group.
pub trait Rows {
    /// The account with this id, or `None`.
    fn account(&self, id: UserId) -> Result<Option<Account>, Failure>;
    /// The username in the account with this id, or `None` if there is no account. Reads nothing else of it.
    fn username(&self, id: UserId) -> Result<Option<String>, Failure>;
    /// Writes the account, in place of the one with its id if there is one. Its username and its credentials have rows
    /// of their own.
    fn put_account(&mut self, account: &Account);
    /// Removes the account alone. Its username and its credentials have rows of their own.
    fn remove_account(&mut self, id: UserId);
    /// The user with exactly this username, or `None`.
    fn user_by_username(&self, username: &str) -> Result<Option<UserId>, Failure>;
    /// Gives a username to a user.
    fn put_username(&mut self, username: FreeUsername<'_>, user: UserId);
    /// Takes a username from the user that has it, and so makes it free.
    fn remove_username(&mut self, username: &str, owner: UserId);
    /// The account that has this credential, with its secret, or `None`.
    fn credential(&self, credential: &Credential) -> Result<Option<CredentialOwner>, Failure>;
    /// Gives a credential to an account. The account that had the credential before loses it.
    fn put_credential(&mut self, credential: &Credential, owner: &CredentialOwner);
    /// Makes a credential free.
    fn remove_credential(&mut self, credential: &Credential);
    /// For each of these, the stored revocation of the same token or user.
    fn stored_revocations(&self, revocations: &[Revocation]) -> Result<Vec<Option<Revocation>>, Failure>;
    /// Also writes its expiry: the entry in the order of time under which it is found when it has expired.
    fn put_revocation(&mut self, before: Option<&Revocation>, revocation: &Revocation);
    /// Leaves its expiry.
    fn remove_revocation(&mut self, revocation: &Revocation);
    /// Does nothing in a store without such entries.
    fn remove_expiry(&mut self, revocation: &Revocation);

    /// Writes a message that has a new id. Also notes that its sender has written in its channel.
    fn insert_message(&mut self, message: &Message) -> Result<(), Failure>;
    /// The sender of a message.
    fn sender(&self, channel: &ChannelId, id: MessageId) -> Result<Option<UserId>, Failure>;
    /// Removes a message. Does nothing if it is not there.
    fn remove_message(&mut self, channel: &ChannelId, id: MessageId) -> Result<(), Failure>;

    /// The group with this id, or `None`.
    fn group(&self, id: GroupId) -> Result<Option<Group>, Failure>;
    /// The group with exactly this name, or `None`.
    fn group_by_name(&self, name: &str) -> Result<Option<GroupId>, Failure>;
    /// Also writes its name and its entry in the order of browsing.
    fn put_group(&mut self, before: Option<&Group>, group: &Group);
    /// Removes the group, its name and its entry in the order of browsing. The group's other rows are removed now or
    /// later.
    fn remove_group(&mut self, group: &Group);
    /// The user's role in the group and since when, or `None`.
    fn membership(&self, group: GroupId, user: UserId) -> Result<Option<Membership>, Failure>;
    /// Also writes the entries in the group's list and in the user's, and keeps the count behind
    /// [`Self::has_room_for_group`].
    fn set_membership(
        &mut self,
        group: GroupId,
        user: UserId,
        before: Option<Membership>,
        after: Option<Membership>,
    ) -> Result<(), Failure>;
    /// Whether the user is in fewer groups than `groups_max`, which is at most `GROUPS_PER_USER_MAX`. Memberships in a
    /// deleted group may count until they are removed.
    fn has_room_for_group(&self, user: UserId, groups_max: usize) -> Result<bool, Failure>;
    /// The first users of a group's list, down to a role, in the order of rank and time.
    fn roster(&self, group: GroupId, down_to: Role, limit: usize) -> Result<Vec<(UserId, Role)>, Failure>;
    /// All groups in which the user has a role other than banned. Some may have been deleted.
    fn groups_of(&self, user: UserId) -> Result<Vec<GroupId>, Failure>;

    /// The state of `user` towards `other`.
    fn edge(&self, user: UserId, other: UserId) -> Result<Option<Edge>, Failure>;
    /// Also writes the entry in the user's list.
    fn set_edge(&mut self, user: UserId, other: UserId, before: Option<Edge>, after: Option<Edge>);
    /// How many friends and edges a user has; zeros if nothing is stored.
    fn friend_counts(&self, user: UserId) -> Result<FriendCounts, Failure>;
    /// Writes how many friends and edges a user has.
    fn set_friend_counts(&mut self, user: UserId, friend_counts: FriendCounts);

    /// The facts about a user's notifications as a whole; the default if nothing is stored.
    fn inbox(&self, user: UserId) -> Result<Inbox, Failure>;
    /// Writes the facts about a user's notifications as a whole.
    fn set_inbox(&mut self, user: UserId, inbox: Inbox);
    /// Whether the user has a notification with this id.
    fn has_notification(&self, user: UserId, id: NotificationId) -> Result<bool, Failure>;
    /// The user's first notification after `floor`, or `None` if there is none.
    fn oldest_notification(
        &self,
        user: UserId,
        floor: Option<NotificationId>,
    ) -> Result<Option<NotificationId>, Failure>;
    /// Writes a notification of a user. [`Self::set_inbox`] is the caller's part.
    fn put_notification(&mut self, user: UserId, notification: &Notification);
    /// Removes a notification of a user. [`Self::set_inbox`] is the caller's part.
    fn remove_notification(&mut self, user: UserId, id: NotificationId);

    /// The object with this name, or `None`.
    fn object(&self, id: &ObjectId) -> Result<Option<Object>, Failure>;
    /// Also writes its entries in lists. [`Self::set_object_counts`] is the caller's part.
    fn put_object(&mut self, before: Option<&Object>, object: &Object);
    /// Removes an object and its entries in lists. [`Self::set_object_counts`] is the caller's part.
    fn remove_object(&mut self, object: &Object);
    /// How many objects a user has; zeros if nothing is stored.
    fn object_counts(&self, owner: UserId) -> Result<ObjectCounts, Failure>;
    /// Writes how many objects a user has.
    fn set_object_counts(&mut self, owner: UserId, counts: ObjectCounts);

    /// Whether the same request was sent a moment ago, so that its repetition notifies no user.
    fn is_repeated(&mut self, request: SentRequest, time: Timestamp) -> bool;
    /// Keeps that a request was sent, if this change is done.
    fn note_sent(&mut self, request: SentRequest, time: Timestamp);
    /// Forgets that a request was sent: it is answered. If this change fails, the request may notify once more.
    fn forget_sent(&mut self, request: SentRequest);

    /// Called after the account was removed. Removes, now or later, both sides of its friendships and blocks, its bans,
    /// its notifications and its objects.
    fn abandon_user(&mut self, user: UserId) -> Result<(), Failure>;
    /// Notes that the user's messages are still to be deleted.
    fn put_account_deletion(&mut self, user: UserId);
    /// Removes this note, and the notes of where the user has written: at once, or in steps.
    fn remove_account_deletion(&mut self, user: UserId) -> Result<(), Failure>;
}
