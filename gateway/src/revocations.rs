//! Which tokens are refused although their signatures are valid: those that were logged out, by token id or all of a
//! user's.
//!
//! A logout of all of a user's tokens is a *cutoff*: the user's tokens that were issued before it are refused. Sign-ins
//! and cutoffs of one user have one order, whatever shards they are on and however many of them fall into one second.
//! `iat` only has whole seconds, so a token also carries its place in that order (`Issue::Sequence`): the microsecond
//! of its issue, or one more than the user's last cutoff if that is later. A cutoff is stored before it is in force,
//! and tokens are issued meanwhile. So it lies `CUTOFF_LEAD` ahead of the clock, and is valid only if it is in force
//! before the clock reaches it. Then it is later than every token issued before, and the next token is later than the
//! cutoff.
//!
//! Shards share this table. A logout on any shard must hold at once for a connection that arrives at
//! any other shard, and each opening reads this table, ten thousand times a second. A parcel to every shard would
//! arrive too late, and a lock would make shards wait for each other. So readers load an immutable snapshot without
//! waiting. A writer, which is rare, replaces the snapshot of one bucket, which costs a copy of a 1024th of the whole.
//!
//! The order must hold after a restart, and the clock may have been set back meanwhile. So the time of the newest
//! tokens is in the store, to the minute, as the cutoff of a user who does not exist. If that time is ahead of the
//! clock, each cutoff is set later than it. And if the clock is far ahead of that time, because the server was not running
//! or because the clock is wrong, what this run forgets is judged by that time and by how long this run has lasted: a
//! start with a wrong clock must not forget logouts whose tokens will be good again.
//!
//! An entry is removed when every token that it refuses has expired; no entry is ever dropped to make room. So room is
//! shared (`revocations/bucket.rs`): a user has `USER_TOKENS_MAX` logouts of single tokens, and each further one logs the
//! user out everywhere, which takes one entry in all. A site that has made many entries is refused long before
//! others are, and the client that logs out is told so. The store removes its own entries separately
//! (`http/forgetting.rs`).

mod bucket;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use engine::id::{Timestamp, UserId};
use storage::ANSWER_DURATION_MAX;
use storage::account::{Expiry, Revocation};
use uuid::Uuid;

pub use bucket::{Maker, Room};

use bucket::Bucket;

const BUCKETS: usize = 1024;

const NANOSECONDS: i64 = 1_000_000_000;
const MICROSECOND: i64 = 1_000;

/// How far ahead of the clock a cutoff lies: twice the time in which a store answers. If the store takes longer still,
/// a new cutoff is stored.
const CUTOFF_LEAD: i64 = 2 * ANSWER_DURATION_MAX.as_micros() as i64;

/// How often the time of the newest tokens is written to the store, while there are new ones.
pub const MARK_INTERVAL: Duration = Duration::from_secs(60);

/// The user whose cutoff holds that time. No user has this id.
const MARK: UserId = UserId(Uuid::nil());

/// When a token was issued, as precisely as the token tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Issue {
    /// The token's place among the user's sign-ins and cutoffs, in microseconds since the Unix epoch.
    Sequence(i64),
    /// The second of the Unix epoch. Earlier versions of this program wrote no more than that, and dated a token one
    /// second ahead when a cutoff fell into the same second.
    Second(i64),
}

/// The result of putting a stored cutoff in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CutoffOutcome {
    /// Every token that was issued to the user until now is refused.
    InForce,
    /// A later cutoff of this user came first. The user may have got new tokens since.
    Overtaken,
    /// The clock has passed the cutoff, so tokens may have been issued after it.
    Late,
}

/// The refused tokens, shared by all shards.
pub struct Revocations {
    buckets: Box<[ArcSwap<Bucket>]>,
    /// Chooses the bucket of an id. Its key is secret, so that no client can fill the bucket of another's tokens with
    /// logouts of its own: it must fill all buckets.
    places: RandomState,
    /// The longest time that a token can live after it can no longer be renewed.
    token_life: Duration,
    /// A time after all tokens of earlier runs of the server, in microseconds since the Unix epoch. 0 if the clock has
    /// passed them all.
    earlier: i64,
    /// By how much the clock may be ahead, in nanoseconds: the time at the start less the time of the newest tokens of
    /// earlier runs. Nothing is forgotten that much too early.
    doubt: i64,
    /// Whether tokens have been issued since their time was last given to the store.
    unmarked: AtomicBool,
}

impl Revocations {
    /// `token_life` is the longest lifetime of any token; `kept` are the revocations in the store.
    pub fn new(token_life: Duration, kept: &[Revocation], now: Timestamp) -> Self {
        let mark = kept.iter().find_map(|revocation| match revocation {
            Revocation::User { id: MARK, issued_before } => Some(*issued_before),
            _ => None,
        });
        let doubt = mark.map_or(0, |mark| now.0.saturating_sub(mark.0).max(0));
        let earlier = mark.filter(|mark| *mark > now);
        let earlier = earlier.map_or(0, |mark| microseconds(mark) + 2 * MARK_INTERVAL.as_micros() as i64);
        let expiry = expiry(token_life, Timestamp(now.0 - doubt));
        let places = RandomState::new();
        let mut buckets = vec![Bucket::default(); BUCKETS];
        for revocation in kept.iter().filter(|revocation| !expiry.covers(revocation)) {
            match *revocation {
                Revocation::User { id: MARK, .. } => {}
                Revocation::User { id, issued_before } => {
                    buckets[place_of(id.0, &places)].put_cutoff(id, issued_before, None);
                }
                // The store does not say whose token it is, so the entry is found by the token.
                Revocation::Token { id, expires } => buckets[place_of(id, &places)].put_token(id, expires, None),
            }
        }
        let buckets = buckets.into_iter().map(ArcSwap::from_pointee).collect();
        Self { buckets, places, token_life, earlier, doubt, unmarked: AtomicBool::new(false) }
    }

    /// Records that a token is being issued.
    pub fn note_issue(&self) {
        // Shards issue tokens all the time. They write the flag only when it changes, so that its cache line stays
        // shared.
        if !self.unmarked.load(Ordering::Relaxed) {
            self.unmarked.store(true, Ordering::Relaxed);
        }
    }

    /// The time to write to the store, if tokens have been issued since the last call.
    pub fn take_mark(&self, now: Timestamp) -> Option<Revocation> {
        self.unmarked.swap(false, Ordering::Relaxed).then_some(Revocation::User { id: MARK, issued_before: now })
    }

    /// Which revocations may be forgotten at this time.
    pub fn expiry(&self, now: Timestamp) -> Expiry {
        expiry(self.token_life, Timestamp(now.0.saturating_sub(self.doubt)))
    }

    /// How this token can be refused. Ask before the logout is written to the store, because what is stored must be
    /// remembered.
    pub fn room_for_token(&self, token: Uuid, maker: Maker, now: Timestamp) -> Room {
        self.bucket(maker.user.0).load().room_for_token(token, maker, self.expiry(now))
    }

    /// Whether all tokens of the maker can be refused. Ask before the logout is written to the store.
    pub fn has_room_for_cutoff(&self, maker: Maker, now: Timestamp) -> bool {
        self.bucket(maker.user.0).load().has_room_for_cutoff(maker, self.expiry(now))
    }

    /// Refuses a token of the maker from now on, on every shard, until it expires. The logout is already in the store.
    pub fn add_token(&self, token: Uuid, expires: Timestamp, maker: Maker, now: Timestamp) {
        self.change(maker.user, now, |bucket| bucket.put_token(token, expires, Some(maker)));
    }

    /// Refuses all tokens of the maker that were issued up to a time, on every shard. This is already in the store.
    pub fn add_cutoff(&self, maker: Maker, issued_before: Timestamp, now: Timestamp) {
        self.change(maker.user, now, |bucket| bucket.put_cutoff(maker.user, issued_before, Some(maker.site)));
    }

    /// A cutoff later than all tokens that this user has, and later than those that are issued until it is in force, if
    /// that does not take too long. `seen` is a token of the user. It may come from an earlier run of the program in
    /// which the clock was ahead.
    pub fn next_cutoff(&self, user: UserId, seen: Option<Issue>, now: Timestamp) -> Timestamp {
        let seen = seen.map_or(0, |issue| match issue {
            Issue::Sequence(sequence) => sequence,
            Issue::Second(second) => second.saturating_mul(NANOSECONDS / MICROSECOND),
        });
        let ahead = microseconds(now).saturating_add(CUTOFF_LEAD);
        Timestamp(
            self.next_sequence(user, Timestamp(ahead.max(seen).max(self.earlier).saturating_mul(MICROSECOND)))
                * MICROSECOND,
        )
    }

    /// Puts a cutoff from `next_cutoff` in force, on every shard. The cutoff is already in the store.
    pub fn cut(&self, maker: Maker, cutoff: Timestamp, now: Timestamp) -> CutoffOutcome {
        let mut cut = CutoffOutcome::Late;
        self.change(maker.user, now, |bucket| {
            cut = match bucket.cutoff(maker.user) {
                Some(before) if before >= cutoff => CutoffOutcome::Overtaken,
                _ if microseconds(now) > microseconds(cutoff) => CutoffOutcome::Late,
                _ => CutoffOutcome::InForce,
            };
            bucket.put_cutoff(maker.user, cutoff, Some(maker.site));
        });
        cut
    }

    /// Whether a token with this id and this issue of this user is refused.
    pub fn refuses(&self, token: Uuid, user: UserId, issue: Issue) -> bool {
        let bucket = self.bucket(user.0).load();
        if bucket.has_token(token) || self.bucket(token).load().has_token(token) {
            return true;
        }
        bucket.cutoff(user).is_some_and(|cutoff| match issue {
            Issue::Sequence(sequence) => sequence <= microseconds(cutoff),
            // A cutoff within a second counts for that whole second.
            Issue::Second(second) => second <= cutoff.0.div_euclid(NANOSECONDS),
        })
    }

    /// The sequence of a token that is issued now to this user: later than all of the user's cutoffs.
    pub fn next_sequence(&self, user: UserId, now: Timestamp) -> i64 {
        let behind = self.cutoff(user).map_or(0, |cutoff| microseconds(cutoff) + 1);
        microseconds(now).max(behind)
    }

    fn cutoff(&self, user: UserId) -> Option<Timestamp> {
        self.bucket(user.0).load().cutoff(user)
    }

    /// Replaces the bucket of a user by a changed one without what has expired. `change` may run more than once.
    fn change(&self, user: UserId, now: Timestamp, mut change: impl FnMut(&mut Bucket)) {
        let expiry = self.expiry(now);
        self.bucket(user.0).rcu(|bucket| {
            let mut bucket = Bucket::clone(bucket);
            change(&mut bucket);
            bucket.forget(expiry);
            bucket
        });
    }

    fn bucket(&self, id: Uuid) -> &ArcSwap<Bucket> {
        &self.buckets[place_of(id, &self.places)]
    }
}

fn expiry(token_life: Duration, now: Timestamp) -> Expiry {
    let life = i64::try_from(token_life.as_nanos()).unwrap_or(i64::MAX);
    // One second more, because earlier versions of the program may have dated tokens to the second after the cutoff.
    Expiry { tokens: now, users: Timestamp(now.0.saturating_sub(life).saturating_sub(NANOSECONDS)) }
}

/// The index of the bucket for this id.
fn place_of(id: Uuid, places: &RandomState) -> usize {
    places.hash_one(id) as usize % BUCKETS
}

fn microseconds(time: Timestamp) -> i64 {
    time.0.div_euclid(MICROSECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client_network::ClientNetwork;

    const LIFE: Duration = Duration::from_secs(100);
    const SECOND_5: Issue = Issue::Sequence(5_000_000);

    fn maker(user: UserId) -> Maker {
        Maker { user, site: ClientNetwork::UNKNOWN.site().key() }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp(second * NANOSECONDS)
    }

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number << 8)
    }

    /// Another id in the same bucket.
    fn beside(revocations: &Revocations, one: Uuid) -> Uuid {
        let place = |id| place_of(id, &revocations.places);
        (100..).map(id).find(|other| place(*other) == place(one)).unwrap()
    }

    #[test]
    fn a_token_is_refused_until_it_would_have_expired() {
        let revocations = Revocations::new(LIFE, &[], at(0));
        let (token, user) = (id(1), UserId(id(2)));
        assert!(!revocations.refuses(token, user, SECOND_5));
        revocations.add_token(token, at(50), maker(user), at(10));
        assert!(revocations.refuses(token, user, SECOND_5));
        assert!(!revocations.refuses(id(3), user, SECOND_5));
        revocations.add_token(id(4), at(90), maker(user), at(50));
        assert!(!revocations.refuses(token, user, SECOND_5), "forgotten, for its own time is over");
    }

    #[test]
    fn a_cutoff_refuses_what_was_issued_before() {
        let revocations = Revocations::new(LIFE, &[], at(0));
        let user = UserId(id(2));
        let refuses = |issue| revocations.refuses(id(1), user, issue);
        let cutoff = Timestamp(10 * NANOSECONDS + 5 * MICROSECOND + 7);
        revocations.add_cutoff(maker(user), cutoff, cutoff);
        assert!(refuses(Issue::Sequence(10_000_005)));
        assert!(!refuses(Issue::Sequence(10_000_006)));
        assert_eq!(revocations.next_sequence(user, at(10)), 10_000_006);
        assert_eq!(revocations.next_sequence(user, at(11)), 11_000_000);
        revocations.add_cutoff(maker(user), at(3), at(12));
        assert!(refuses(Issue::Sequence(10_000_005)), "a cutoff never moves back");
        let other = UserId(beside(&revocations, user.0));
        revocations.add_cutoff(maker(other), at(112), at(112));
        assert!(!refuses(Issue::Sequence(1)), "all older tokens have expired by themselves");
    }

    #[test]
    fn tokens_of_former_programs_are_judged_by_their_second() {
        let revocations = Revocations::new(LIFE, &[], at(0));
        let user = UserId(id(2));
        let cutoff = Timestamp(10 * NANOSECONDS + 5);
        revocations.add_cutoff(maker(user), cutoff, cutoff);
        assert!(revocations.refuses(id(1), user, Issue::Second(10)));
        assert!(!revocations.refuses(id(1), user, Issue::Second(11)), "issued right after, and dated ahead");
        let next = revocations.next_cutoff(user, None, cutoff);
        assert_eq!(revocations.cut(maker(user), next, cutoff), CutoffOutcome::InForce);
        assert!(revocations.refuses(id(1), user, Issue::Second(11)), "before a second cutoff in the same second");
    }

    #[test]
    fn a_cutoff_counts_if_it_is_ahead_of_everything() {
        let revocations = Revocations::new(LIFE, &[], at(0));
        let user = UserId(id(2));
        let first = revocations.next_cutoff(user, None, at(10));
        let second = revocations.next_cutoff(user, None, at(11));
        assert_eq!(revocations.cut(maker(user), second, at(12)), CutoffOutcome::InForce);
        assert_eq!(revocations.cut(maker(user), first, at(12)), CutoffOutcome::Overtaken);
        let issued = Issue::Sequence(revocations.next_sequence(user, at(12)));
        assert!(!revocations.refuses(id(1), user, issued));
        let third = revocations.next_cutoff(user, None, at(12));
        assert_eq!(revocations.cut(maker(user), third, at(60)), CutoffOutcome::Late);
        let ahead = Issue::Sequence(90_000_000);
        let fourth = revocations.next_cutoff(user, Some(ahead), at(60));
        assert_eq!(revocations.cut(maker(user), fourth, at(60)), CutoffOutcome::InForce);
        assert!(revocations.refuses(id(1), user, ahead), "a token of a clock that was ahead");
    }

    #[test]
    fn a_cutoff_is_behind_tokens_of_a_life_with_a_clock_that_was_ahead() {
        let before = Revocations::new(LIFE, &[], at(1000));
        let (user, other) = (UserId(id(2)), UserId(id(3)));
        assert_eq!(before.take_mark(at(1000)), None, "nothing was issued");
        before.note_issue();
        let mark = before.take_mark(at(1000)).unwrap();
        assert_eq!(before.take_mark(at(1000)), None);
        // Issued before the next mark was due, by a shard that was a little slow.
        let ahead = Issue::Sequence(before.next_sequence(user, at(1061)));
        let after = Revocations::new(LIFE, &[mark], at(10));
        assert!(!after.refuses(id(1), user, ahead), "good until it is logged out");
        let cutoff = after.next_cutoff(user, None, at(10));
        assert_eq!(after.cut(maker(user), cutoff, at(11)), CutoffOutcome::InForce);
        assert!(after.refuses(id(1), user, ahead));
        let issued = Issue::Sequence(after.next_sequence(user, at(11)));
        assert!(!after.refuses(id(1), user, issued), "signed in again");
        assert_eq!(after.next_sequence(other, at(11)), 11_000_000, "others do not notice");
        let right = Revocations::new(LIFE, &[mark], at(1001));
        assert_eq!(right.next_cutoff(user, None, at(1001)), Timestamp((1_001_000_000 + CUTOFF_LEAD) * MICROSECOND));
    }

    #[test]
    fn a_clock_that_may_be_ahead_forgets_nothing_too_early() {
        let user = UserId(id(2));
        let kept = [
            Revocation::User { id: MARK, issued_before: at(1000) },
            Revocation::Token { id: id(1), expires: at(1050) },
            Revocation::User { id: user, issued_before: at(990) },
        ];
        // Two hours later by its clock, which may be wrong.
        let ahead = Revocations::new(LIFE, &kept, at(8200));
        let refused = |revocations: &Revocations| {
            (revocations.refuses(id(1), UserId(id(9)), SECOND_5), revocations.refuses(id(7), user, SECOND_5))
        };
        assert_eq!(refused(&ahead), (true, true));
        let forgotten = |now| kept[1..].iter().filter(|kept| ahead.expiry(now).covers(kept)).count();
        assert_eq!(forgotten(at(8200)), 0);
        assert_eq!(forgotten(at(8251)), 1, "50 s of this run have passed");
        assert_eq!(forgotten(at(8300)), 2);
        let right = Revocations::new(LIFE, &kept, at(1010));
        assert_eq!(refused(&right), (true, true));
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
        assert!(revocations.refuses(id(1), user, Issue::Second(20)));
        assert!(!revocations.refuses(id(2), user, Issue::Second(20)));
        assert!(revocations.refuses(id(4), UserId(id(3)), Issue::Second(8)));
    }

    #[test]
    fn clients_cannot_know_which_ids_share_a_bucket() {
        let ids: Vec<_> = (0..1000).map(id).collect();
        let places = || {
            let revocations = Revocations::new(LIFE, &[], at(0));
            ids.iter().map(|id| place_of(*id, &revocations.places)).collect::<Vec<_>>()
        };
        let same = places().iter().zip(places()).filter(|(one, other)| *one == other).count();
        assert!(same < 50, "{same} of 1000 ids are in the same bucket of {BUCKETS} in another process");
    }
}
