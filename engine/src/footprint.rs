//! What a connection costs that has joined one channel and is silent: a sum over every table it has a place in.
//!
//! Tables grow by doubling, so a place in one counts twice; an index counts as at its emptiest. The gateway adds its own
//! table and asserts the whole. What the kernel keeps for a socket is not ours to bound.

use crate::channel::members::{Address, Member};
use crate::fanout::subscribers::Subscriber;
use crate::id::{SessionId, UserId};
use crate::session::connection::{Connection, Subscription};
use crate::session::sessions_by_user::Link;

/// What an allocator adds to a block and rounds it up by.
const ALLOCATION_BYTES: usize = 24;

/// The smallest list that can hold a subscription, and later three more.
const SUBSCRIPTIONS_BYTES: usize = 4 * size_of::<Subscription>() + ALLOCATION_BYTES;

/// A name of the longest kind that is common; it is shared by all sessions of one sign-in.
const USERNAME_BYTES: usize = 2 * size_of::<usize>() + 32 + ALLOCATION_BYTES;

/// In a hash table that has just doubled: 16 places of 17 bytes and more for every 7 entries.
const fn index_bytes(entry: usize) -> usize {
    (entry + 1) * 16 / 7
}

/// In a tree whose nodes are half full.
const fn tree_bytes(entry: usize) -> usize {
    2 * entry + ALLOCATION_BYTES
}

/// At home: the connection, its list of subscriptions, its name, its place in the audience and in its user's chain.
const HOME_BYTES: usize = 2 * size_of::<Option<Connection>>()
    + SUBSCRIPTIONS_BYTES
    + USERNAME_BYTES
    + 2 * size_of::<Subscriber>()
    + 2 * size_of::<Link>()
    + index_bytes(size_of::<(UserId, u32)>());

/// At the channel's owner: the member, and the two ways to find it.
const OWNER_BYTES: usize =
    2 * size_of::<Member>() + index_bytes(size_of::<(Address, u32)>()) + tree_bytes(size_of::<(SessionId, Address)>());

/// All of a joined idle connection that the engine keeps.
pub const CONNECTION_BYTES: usize = HOME_BYTES + OWNER_BYTES;

const _: () = {
    // Ids are what makes a member large; a change here is felt by every connection.
    assert!(size_of::<UserId>() == 16 && size_of::<SessionId>() == 16);
    assert!(size_of::<Member>() <= 80);
    assert!(size_of::<Subscription>() == 8);
};
