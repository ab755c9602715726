//! Notifications: what a user is told that belongs to no channel. They are stored, and pushed to all of the user's
//! sessions (docs/protocol.md, section 9). This file also makes their texts.

use std::sync::Arc;

use crate::id::{GroupId, NotificationId, Timestamp, UserId};
use crate::wire::json::text_members;

/// What a notification is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum NotificationCode {
    DirectRequest = -1,
    FriendRequest = -2,
    FriendAccepted = -3,
    GroupAdded = -4,
    GroupJoinRequest = -5,
    FriendRemoved = -9,
}

impl NotificationCode {
    /// The code with this number on the wire, if there is one.
    pub fn from_number(number: i32) -> Option<Self> {
        use NotificationCode::*;
        [DirectRequest, FriendRequest, FriendAccepted, GroupAdded, GroupJoinRequest, FriendRemoved]
            .into_iter()
            .find(|&code| code as i32 == number)
    }
}

/// A stored notification.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    pub id: NotificationId,
    /// A line for people.
    pub subject: Arc<str>,
    /// A JSON object.
    pub content: Arc<str>,
    pub code: NotificationCode,
    /// The user who caused it.
    pub sender: UserId,
    pub create_time: Timestamp,
}

/// A notification and its recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notice {
    pub user: UserId,
    pub notification: Notification,
}

/// The text of a notification, before the store has given it an id and a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wording {
    pub code: NotificationCode,
    pub subject: String,
    pub content: String,
}

impl Wording {
    /// `username` wants to chat directly.
    pub fn direct_request(username: &str) -> Self {
        Self::about_user(NotificationCode::DirectRequest, format!("{username} wants to chat"), username)
    }

    /// Tells a user that the user `username` asks to be a friend.
    pub fn friend_request(username: &str) -> Self {
        let subject = format!("{username} wants to add you as a friend");
        Self::about_user(NotificationCode::FriendRequest, subject, username)
    }

    /// Tells a user that the user `username` has accepted the friend request.
    pub fn friend_accepted(username: &str) -> Self {
        let subject = format!("{username} accepted your friend request");
        Self::about_user(NotificationCode::FriendAccepted, subject, username)
    }

    /// Tells a user that the user `username` has ended the friendship.
    pub fn friend_removed(username: &str) -> Self {
        let subject = format!("{username} removed you as a friend");
        Self::about_user(NotificationCode::FriendRemoved, subject, username)
    }

    /// The recipient was added to a group, or the recipient's request to join was accepted.
    pub fn group_added(group: GroupId, name: &str) -> Self {
        Self {
            code: NotificationCode::GroupAdded,
            subject: format!("You've been added to group {name}"),
            content: text_members(&[("group_id", &group.to_string()), ("name", name)]),
        }
    }

    /// `username` asks to join a group whose admin the recipient is.
    pub fn group_join_request(group: GroupId, username: &str) -> Self {
        Self {
            code: NotificationCode::GroupJoinRequest,
            subject: format!("User {username} wants to join your group"),
            content: text_members(&[("group_id", &group.to_string()), ("username", username)]),
        }
    }

    fn about_user(code: NotificationCode, subject: String, username: &str) -> Self {
        Self { code, subject, content: text_members(&[("username", username)]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_json_whatever_the_name() {
        let wording = Wording::direct_request("a\"b\\");
        assert_eq!(wording.subject, "a\"b\\ wants to chat");
        assert_eq!(wording.content, r#"{"username":"a\"b\\"}"#);
        let group = GroupId(uuid::Uuid::nil());
        assert_eq!(
            Wording::group_added(group, "x").content,
            r#"{"group_id":"00000000-0000-0000-0000-000000000000","name":"x"}"#
        );
    }

    #[test]
    fn codes_have_their_numbers() {
        for number in -10..2 {
            let code = NotificationCode::from_number(number);
            assert!(code.is_none_or(|code| code as i32 == number));
            assert_eq!(code.is_some(), (-5..=-1).contains(&number) || number == -9, "{number}");
        }
    }
}
