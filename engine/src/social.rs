//! Rules of what people are to each other, as functions over records: groups, friends and blocks, notifications. `storage` carries
//! them out when it writes.

pub mod friend;
pub mod group;
pub mod notification;
