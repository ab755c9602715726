//! What HTTP requests cost their users, in work of a shard. The figures are rounded, as those for the requests of
//! sessions are (`engine/src/session/costs.rs`).
//!
//! The head of a request says what it costs at least, and that is charged before a body is read or the store is asked.
//! The resource charges what it finds afterwards. Requests without a user are charged to their network alone, if networks
//! have budgets: sign-ins have bounds of their own, and a token that is not good is refused before any work.

use engine::budget::Work;
use storage::Part;
use storage::embedded::ROWS_EXAMINED_MAX;

/// To take in a request, to check its token and to write an answer.
pub const REQUEST: Work = Work::micros(150);
/// A change, which the store syncs together with others.
pub const CHANGE: Work = Work::micros(500);
/// To renew tokens: the store is asked, and two tokens are signed.
pub const REFRESH: Work = Work::micros(200);
/// To answer a health check, which asks no store and knows no user.
pub const CHECK: Work = Work::micros(20);
/// To refuse a request because its user is beyond the budget.
pub const REFUSAL: Work = Work::micros(50);
/// To find a chunk of a body.
pub const CHUNK: Work = Work::micros(1);

/// A message or a notification on a page.
pub const ROW: Work = Work::micros(5);
/// A user or a group on a page, with what is looked up for it.
pub const ENTRY: Work = Work::micros(15);
/// A user that a request names: the store is asked, or changes something for each.
pub const NAMED: Work = Work::micros(20);
/// A KiB of values that a request writes: it is written to the journal, synced, and merged again and again.
pub const WRITTEN_KIB: Work = Work::micros(10);
/// A member whom a request changes: each gives a message to all who are in the group's channel.
pub const SHOWN: Work = Work::micros(500);
/// A walk of the store that has examined as many rows as one request may.
pub const STOPPED: Work = Work::micros(1).times(ROWS_EXAMINED_MAX);

/// The most that it can take to read a part of a list with at most `limit` items.
pub fn of_limit(limit: usize, each: Work) -> Work {
    each.times(limit) + STOPPED
}

/// What it took to read a part of a list whose items cost `each`.
pub fn of_part<T, P>(read: &Part<T, P>, each: Work) -> Work {
    let examined = if read.stopped.is_some() { STOPPED } else { Work::default() };
    each.times(read.items.len()) + examined
}
