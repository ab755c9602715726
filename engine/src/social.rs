//! Rules for groups, friends, blocks and notifications, as functions over records. `storage` applies them when it
//! writes.

pub mod friend;
pub mod group;
pub mod notification;
pub mod text;
