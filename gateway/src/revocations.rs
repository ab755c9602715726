//! Which tokens are refused although their signatures are good: logged-out ones, by token id or all of a user's.
//!
//! This is the one thing that shards share. A logout on any shard must hold at once for a connection that arrives at
//! any other, and each opening asks here, ten thousand times a second: a parcel to every shard would make the answer
//! late, and a lock would make shards wait for each other. So readers load an immutable snapshot without waiting, and
//! the rare writer replaces the snapshot of one bucket, which costs a copy of a 256th of the whole.
//!
//! Entries leave when no token they refuse can still be alive. A full bucket refuses new entries, which the one who
//! logs out is told; nothing is ever dropped to make room. The store, too, is told to forget what has expired: at the
//! start, and by a logout now and then.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use engine::id::{Timestamp, UserId};
use storage::account::Revocation;
use storage::{Failure, Store, Write};
use uuid::Uuid;

const BUCKETS: usize = 256;

/// A million in all, 64 bytes each at most: filling it takes as many sign-ins and logouts within one refresh lifetime.
const BUCKET_ENTRIES_MAX: usize = 4096;

const NANOSECONDS: i64 = 1_000_000_000;

/// How long the store is left alone between two times that it forgets, for each time it looks at all that it keeps. As
/// long as tokens live by default: what has expired meanwhile is about as much as what has not.
const FORGETTING_PAUSE: i64 = 3600 * NANOSECONDS;

/// What the store remembers at the start, after it has forgotten what has expired.
pub fn kept(store: &dyn Store, now: Timestamp) -> Result<Vec<Revocation>, Failure> {
    store.commit(&[Write::ForgetRevocations { expired_by: now }])?.into_iter().collect::<Result<Vec<_>, _>>()?;
    store.revocations()
}

/// The refused tokens, as every shard sees them.
pub struct Revocations {
    buckets: Box<[ArcSwap<Bucket>]>,
    /// No token lives longer than this after the last time it could be renewed.
    token_life: Duration,
    /// When the store may be told to forget again.
    next_forgetting: AtomicI64,
}

#[derive(Clone, Default)]
struct Bucket {
    /// When each revoked token id may be forgotten.
    tokens: HashMap<Uuid, Timestamp>,
    /// Tokens of these users issued before this time are refused.
    cutoffs: HashMap<UserId, Timestamp>,
}

impl Revocations {
    /// `token_life` is the longest lifetime of any token; `kept` is what the store remembers, and has just looked through.
    pub fn new(token_life: Duration, kept: &[Revocation], now: Timestamp) -> Self {
        let buckets = (0..BUCKETS).map(|_| ArcSwap::default()).collect();
        let next_forgetting = AtomicI64::new(after_a_pause(now));
        let revocations = Self { buckets, token_life, next_forgetting };
        for revocation in kept {
            revocations.add(*revocation, now);
        }
        revocations
    }

    /// Whether there is room for one more; asked before it is written to the store.
    pub fn has_room(&self, revocation: &Revocation, now: Timestamp) -> bool {
        let mut bucket = Bucket::clone(&self.bucket(subject(revocation)).load());
        if bucket.len() >= BUCKET_ENTRIES_MAX {
            bucket.forget_expired(now, self.token_life);
        }
        bucket.len() < BUCKET_ENTRIES_MAX
    }

    /// Refuses these tokens from now on, on every shard. The store has it already.
    pub fn add(&self, revocation: Revocation, now: Timestamp) {
        self.bucket(subject(&revocation)).rcu(|bucket| {
            let mut bucket = Bucket::clone(bucket);
            bucket.forget_expired(now, self.token_life);
            match revocation {
                Revocation::Token { id, expires } if expires > now => {
                    bucket.tokens.insert(id, expires);
                }
                Revocation::Token { .. } => {}
                Revocation::User { id, issued_before } => {
                    let cutoff = bucket.cutoffs.entry(id).or_insert(issued_before);
                    *cutoff = issued_before.max(*cutoff);
                }
            }
            bucket
        });
    }

    /// Whether the store is to be told to forget what has expired. Of all shards that ask, one is told so, once an hour.
    pub fn forgetting_is_due(&self, now: Timestamp) -> bool {
        let due = self.next_forgetting.load(Ordering::Relaxed);
        let next = after_a_pause(now);
        // Nothing else hangs on this number, so no order is asked for.
        now.0 >= due && self.next_forgetting.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Whether a token with this id, of this user, issued in this second, is refused.
    pub fn refuses(&self, token: Uuid, user: UserId, issued_second: i64) -> bool {
        self.bucket(token).load().tokens.contains_key(&token) || issued_second < self.earliest_issue(user)
    }

    /// The first second in which a token may have been issued to this user to be good.
    pub fn earliest_issue(&self, user: UserId) -> i64 {
        let bucket = self.bucket(user.0).load();
        // Tokens tell whole seconds only, so a cut-off within a second counts for that whole second.
        bucket.cutoffs.get(&user).map_or(0, |cutoff| cutoff.0.div_euclid(NANOSECONDS) + 1)
    }

    fn bucket(&self, id: Uuid) -> &ArcSwap<Bucket> {
        // Version 4 ids: the last byte is random.
        &self.buckets[usize::from(id.as_bytes()[15]) % BUCKETS]
    }
}

impl Bucket {
    fn len(&self) -> usize {
        self.tokens.len() + self.cutoffs.len()
    }

    fn forget_expired(&mut self, now: Timestamp, token_life: Duration) {
        let life = i64::try_from(token_life.as_nanos()).unwrap_or(i64::MAX);
        self.tokens.retain(|_, expires| *expires > now);
        // One second more, because new tokens may be dated to the second after the cut-off.
        self.cutoffs.retain(|_, cutoff| cutoff.0.saturating_add(life).saturating_add(NANOSECONDS) > now.0);
    }
}

fn after_a_pause(now: Timestamp) -> i64 {
    now.0.saturating_add(FORGETTING_PAUSE)
}

fn subject(revocation: &Revocation) -> Uuid {
    match revocation {
        Revocation::Token { id, .. } => *id,
        Revocation::User { id, .. } => id.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(100);

    fn at(second: i64) -> Timestamp {
        Timestamp(second * NANOSECONDS)
    }

    fn id(number: u128) -> Uuid {
        // As of version 4 ids, the last byte chooses the bucket; here all share one.
        Uuid::from_u128(number << 8)
    }

    #[test]
    fn a_token_is_refused_until_it_would_have_expired() {
        let revocations = Revocations::new(LIFE, &[], at(0));
        let (token, user) = (id(1), UserId(id(2)));
        assert!(!revocations.refuses(token, user, 5));
        revocations.add(Revocation::Token { id: token, expires: at(50) }, at(10));
        assert!(revocations.refuses(token, user, 5));
        assert!(!revocations.refuses(id(3), user, 5));
        revocations.add(Revocation::Token { id: id(4), expires: at(90) }, at(50));
        assert!(!revocations.refuses(token, user, 5), "forgotten, for its own time is over");
    }

    #[test]
    fn a_cutoff_refuses_what_was_issued_before() {
        let revocations = Revocations::new(LIFE, &[], at(0));
        let user = UserId(id(2));
        let cutoff = Timestamp(10 * NANOSECONDS + 5);
        revocations.add(Revocation::User { id: user, issued_before: cutoff }, cutoff);
        assert!(revocations.refuses(id(1), user, 9));
        assert!(revocations.refuses(id(1), user, 10));
        assert!(!revocations.refuses(id(1), user, 11));
        assert_eq!(revocations.earliest_issue(user), 11);
        revocations.add(Revocation::User { id: user, issued_before: at(3) }, at(12));
        assert_eq!(revocations.earliest_issue(user), 11, "a cut-off never moves back");
        revocations.add(Revocation::User { id: UserId(id(7)), issued_before: at(112) }, at(112));
        assert_eq!(revocations.earliest_issue(user), 0, "all older tokens have expired by themselves");
    }

    #[test]
    fn what_the_store_kept_is_refused_again() {
        let kept = [
            Revocation::Token { id: id(1), expires: at(50) },
            Revocation::Token { id: id(2), expires: at(5) },
            Revocation::User { id: UserId(id(3)), issued_before: at(9) },
        ];
        let revocations = Revocations::new(LIFE, &kept, at(10));
        let user = UserId(id(9));
        assert!(revocations.refuses(id(1), user, 20));
        assert!(!revocations.refuses(id(2), user, 20));
        assert!(revocations.refuses(id(4), UserId(id(3)), 8));
    }

    #[test]
    fn one_of_all_shards_is_told_to_forget_once_an_hour() {
        let revocations = Revocations::new(LIFE, &[], at(0));
        let told = |second: i64| {
            std::thread::scope(|scope| {
                let shards: Vec<_> =
                    (0..4).map(|_| scope.spawn(|| revocations.forgetting_is_due(at(second)))).collect();
                shards.into_iter().map(|shard| shard.join().unwrap()).filter(|told| *told).count()
            })
        };
        let times = [(0, 0), (3599, 0), (3600, 1), (3600, 0), (7199, 0), (9000, 1), (12_599, 0), (12_600, 1)];
        for (second, expected) in times {
            assert_eq!(told(second), expected, "at second {second}");
        }
    }

    #[test]
    fn the_start_forgets_what_has_expired() {
        let store = storage::memory::Memory::new();
        let live = Revocation::Token { id: id(1), expires: at(11) };
        let expired = Revocation::Token { id: id(2), expires: at(10) };
        let cutoff = Revocation::User { id: UserId(id(3)), issued_before: at(1) };
        store.commit(&[live, expired, cutoff].map(Write::Revoke)).unwrap();
        let sorted = |mut revocations: Vec<Revocation>| {
            revocations.sort_by_key(subject);
            revocations
        };
        assert_eq!(sorted(kept(&store, at(10)).unwrap()), [live, cutoff]);
        assert_eq!(sorted(store.revocations().unwrap()), [live, cutoff], "the store itself has forgotten");
    }

    #[test]
    fn a_full_bucket_says_so_until_its_entries_expire() {
        let revocations = Revocations::new(LIFE, &[], at(0));
        let entry = |number: u128| Revocation::Token { id: id(number), expires: at(50) };
        let mut bucket = Bucket::default();
        bucket.tokens.extend((0..BUCKET_ENTRIES_MAX as u128).map(|number| (id(number), at(50))));
        revocations.buckets[0].store(bucket.into());
        assert!(!revocations.has_room(&entry(u128::from(u64::MAX)), at(10)));
        assert!(revocations.has_room(&entry(u128::from(u64::MAX)), at(50)));
    }
}
