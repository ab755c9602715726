//! The memory of a connection that has joined one channel and is idle: a sum over all tables in which it has an entry.
//!
//! Tables grow by doubling, so an entry in a table counts twice. An entry in a hash table or a tree counts as if that
//! were at its emptiest. The gateway adds its own table and asserts the total. The kernel's memory for a socket is not
//! included.

use crate::channel::members::{Address, Member};
use crate::fanout::subscribers::Subscriber;
use crate::id::{SessionId, UserId};
use crate::session::connection::{Connection, Subscription};
use crate::session::sessions_by_user::Link;

/// The overhead of an allocation: what the allocator adds to a block and rounds it up by.
const ALLOCATION_BYTES: usize = 24;

/// The smallest list of subscriptions has room for four.
const SUBSCRIPTIONS_BYTES: usize = 4 * size_of::<Subscription>() + ALLOCATION_BYTES;

/// A username of 32 bytes, which few names exceed. All sessions of one sign-in share it.
const USERNAME_BYTES: usize = 2 * size_of::<usize>() + 32 + ALLOCATION_BYTES;

/// An entry's share of a hash table that has just doubled: 16 places for every 7 entries, each with one byte beside the
/// entry.
const fn index_bytes(entry: usize) -> usize {
    (entry + 1) * 16 / 7
}

/// An entry's share of a tree whose nodes are half full.
const fn tree_bytes(entry: usize) -> usize {
    2 * entry + ALLOCATION_BYTES
}

/// At the home shard: the connection, its list of subscriptions, its username, and its places in the audience and in
/// its user's list.
const HOME_BYTES: usize = 2 * size_of::<Option<Connection>>()
    + SUBSCRIPTIONS_BYTES
    + USERNAME_BYTES
    + 2 * size_of::<Subscriber>()
    + 2 * size_of::<Link>()
    + index_bytes(size_of::<(UserId, u32)>());

/// At the channel's owner: the member, and its entries in the two indexes.
const OWNER_BYTES: usize =
    2 * size_of::<Member>() + index_bytes(size_of::<(Address, u32)>()) + tree_bytes(size_of::<(SessionId, Address)>());

/// All memory that the engine needs for an idle connection that has joined one channel.
pub const CONNECTION_BYTES: usize = HOME_BYTES + OWNER_BYTES;

const _: () = {
    // Ids make up most of a member's size, and a change here costs memory for every connection.
    assert!(size_of::<UserId>() == 16 && size_of::<SessionId>() == 16);
    assert!(size_of::<Member>() <= 80);
    assert!(size_of::<Subscription>() == 12);
};
