//! One part of the table of refused tokens, and how its room is shared.
//!
//! No entry may be dropped before its tokens have expired, so what one client takes, others do not have for that long.
//! Accounts are free, so a bound for each user does not protect the others. A site (`client_network.rs`) may therefore
//! make a new entry only while it has less than a part of the room that is still free. One site alone gets a 17th of a
//! bucket, and each further one a 17th of the rest. While a place is free, a site without entries gets it.
//!
//! A user who has an entry is never refused, because the user's cutoff always has room: at most one for each user.
//! So a bucket has at most twice `BUCKET_ENTRIES_MAX` entries.
//!
//! Entries from the store do not say who made them. After a restart they take room and count for no site.

use std::collections::HashMap;

use engine::id::{Timestamp, UserId};
use storage::account::Expiry;
use uuid::Uuid;

use crate::client_network::SiteKey;

/// 1,835,008 entries in all buckets: a million logouts in a day, for which refresh tokens are good by default, leave room for
/// every site. As many fill a hash table without a larger one. A token's entry takes 48 bytes.
const BUCKET_ENTRIES_MAX: usize = 1792;

/// Logouts of single tokens that a user has within the life of a token. Each further logout of a token is a cutoff. A
/// user's cutoff is one entry, here and in the store, however often it is moved.
const USER_TOKENS_MAX: usize = 64;

/// A site makes a new entry only while it has less than this part of the free places: one in so many.
const FREE_PLACES_PER_OWN: usize = 16;

/// Who makes an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Maker {
    pub user: UserId,
    /// Where the user logs out from.
    pub site: SiteKey,
}

/// How a token can be refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Room {
    /// By an entry of its own.
    Token,
    /// Only together with all tokens of its user.
    Cutoff,
    /// Not at all.
    Full,
}

/// Refused tokens and cutoffs.
#[derive(Clone, Default)]
pub struct Bucket {
    tokens: HashMap<Uuid, RefusedToken>,
    cutoffs: HashMap<UserId, Cutoff>,
}

#[derive(Clone, Copy)]
struct RefusedToken {
    /// When the entry may be forgotten.
    expires: Timestamp,
    /// `None` if the entry is from the store.
    maker: Option<Maker>,
}

#[derive(Clone, Copy)]
struct Cutoff {
    /// Tokens issued up to this time are refused.
    until: Timestamp,
    /// `None` if the entry is from the store.
    site: Option<SiteKey>,
}

/// How many entries there are that have not expired.
#[derive(Default)]
struct Counts {
    all: usize,
    of_site: usize,
    tokens_of_user: usize,
    has_cutoff: bool,
}

impl Bucket {
    /// Whether this token is refused by an entry of its own.
    pub fn has_token(&self, token: Uuid) -> bool {
        self.tokens.contains_key(&token)
    }

    /// The time up to which the user's tokens are refused.
    pub fn cutoff(&self, user: UserId) -> Option<Timestamp> {
        self.cutoffs.get(&user).map(|cutoff| cutoff.until)
    }

    /// How this token of the maker can be refused.
    pub fn room_for_token(&self, token: Uuid, maker: Maker, expiry: Expiry) -> Room {
        let counts = self.count(maker, expiry);
        if self.has_token(token) || (counts.tokens_of_user < USER_TOKENS_MAX && counts.site_may_add()) {
            Room::Token
        } else if counts.user_may_cut() {
            Room::Cutoff
        } else {
            Room::Full
        }
    }

    /// Whether all tokens of the maker can be refused.
    pub fn has_room_for_cutoff(&self, maker: Maker, expiry: Expiry) -> bool {
        self.count(maker, expiry).user_may_cut()
    }

    /// Refuses a token until it expires.
    pub fn put_token(&mut self, token: Uuid, expires: Timestamp, maker: Option<Maker>) {
        self.tokens.insert(token, RefusedToken { expires, maker });
    }

    /// Refuses the user's tokens that were issued up to this time. A cutoff never moves back.
    pub fn put_cutoff(&mut self, user: UserId, until: Timestamp, site: Option<SiteKey>) {
        let cutoff = self.cutoffs.entry(user).or_insert(Cutoff { until, site });
        *cutoff = Cutoff { until: until.max(cutoff.until), site };
    }

    /// Removes what has expired.
    pub fn forget(&mut self, expiry: Expiry) {
        self.tokens.retain(|_, token| token.expires > expiry.tokens);
        self.cutoffs.retain(|_, cutoff| cutoff.until > expiry.users);
    }

    fn count(&self, maker: Maker, expiry: Expiry) -> Counts {
        let mut counts = Counts::default();
        for token in self.tokens.values().filter(|token| token.expires > expiry.tokens) {
            counts.all += 1;
            counts.of_site += usize::from(token.maker.is_some_and(|other| other.site == maker.site));
            counts.tokens_of_user += usize::from(token.maker.is_some_and(|other| other.user == maker.user));
        }
        for cutoff in self.cutoffs.values().filter(|cutoff| cutoff.until > expiry.users) {
            counts.all += 1;
            counts.of_site += usize::from(cutoff.site == Some(maker.site));
        }
        counts.has_cutoff = self.cutoff(maker.user).is_some();
        counts
    }
}

impl Counts {
    fn site_may_add(&self) -> bool {
        self.of_site * FREE_PLACES_PER_OWN < BUCKET_ENTRIES_MAX.saturating_sub(self.all)
    }

    /// Whether the maker's cutoff has room: it exists, or it comes beside entries of the same user.
    fn user_may_cut(&self) -> bool {
        self.has_cutoff || self.tokens_of_user > 0 || self.site_may_add()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    const EXPIRY: Expiry = Expiry { tokens: Timestamp(10), users: Timestamp(10) };
    const LATER: Timestamp = Timestamp(50);

    fn maker(user: u128, site: u64) -> Maker {
        Maker { user: UserId(Uuid::from_u128(user)), site: SiteKey(NonZeroU64::new(site).unwrap()) }
    }

    /// Makes logouts, each of a new user, until the site is refused. Returns how many.
    fn flood(bucket: &mut Bucket, site: u64) -> usize {
        let users = (1..).map(|number| maker(u128::from(site) << 64 | number, site));
        let may = users.take_while(|maker| {
            let token = maker.user.0;
            let room = bucket.room_for_token(token, *maker, EXPIRY);
            if room == Room::Token {
                bucket.put_token(token, LATER, Some(*maker));
            }
            room == Room::Token
        });
        may.count()
    }

    #[test]
    fn new_accounts_of_one_site_take_a_part_of_the_room() {
        let mut bucket = Bucket::default();
        let first = flood(&mut bucket, 1);
        assert_eq!(first, BUCKET_ENTRIES_MAX.div_ceil(FREE_PLACES_PER_OWN + 1));
        let newcomer = maker(7, 1);
        assert_eq!(bucket.room_for_token(Uuid::max(), newcomer, EXPIRY), Room::Full, "of the site that has its part");
        assert!(!bucket.has_room_for_cutoff(newcomer, EXPIRY));
        let stranger = maker(7, 99);
        assert_eq!(bucket.room_for_token(Uuid::max(), stranger, EXPIRY), Room::Token, "of another site");
        assert!(bucket.has_room_for_cutoff(stranger, EXPIRY));
        let rest = BUCKET_ENTRIES_MAX - first;
        assert_eq!(flood(&mut bucket, 2), rest.div_ceil(FREE_PLACES_PER_OWN + 1), "a part of the rest");
        let all = Expiry { tokens: LATER, users: LATER };
        assert_eq!(bucket.room_for_token(Uuid::max(), newcomer, all), Room::Token, "after they have expired");
    }

    #[test]
    fn cutoffs_count_for_their_site() {
        let mut bucket = Bucket::default();
        let mut users = (1..).map(|user| maker(user, 1));
        let made = users.by_ref().take_while(|maker| {
            let has_room = bucket.has_room_for_cutoff(*maker, EXPIRY);
            if has_room {
                bucket.put_cutoff(maker.user, LATER, Some(maker.site));
            }
            has_room
        });
        assert_eq!(made.count(), BUCKET_ENTRIES_MAX.div_ceil(FREE_PLACES_PER_OWN + 1));
        assert!(bucket.has_room_for_cutoff(maker(1, 1), EXPIRY), "an existing one moves");
        assert_eq!(bucket.room_for_token(Uuid::max(), maker(1, 1), EXPIRY), Room::Cutoff);
        assert!(bucket.has_room_for_cutoff(maker(1 << 100, 2), EXPIRY));
    }

    #[test]
    fn a_user_with_many_logouts_gets_a_cutoff() {
        let (mut bucket, user) = (Bucket::default(), maker(1, 1));
        for token in (1..=USER_TOKENS_MAX as u128).map(Uuid::from_u128) {
            assert_eq!(bucket.room_for_token(token, user, EXPIRY), Room::Token);
            bucket.put_token(token, LATER, Some(user));
        }
        assert_eq!(bucket.room_for_token(Uuid::max(), user, EXPIRY), Room::Cutoff);
        assert_eq!(bucket.room_for_token(Uuid::from_u128(1), user, EXPIRY), Room::Token, "a known token takes no room");
        assert_eq!(bucket.room_for_token(Uuid::max(), maker(2, 1), EXPIRY), Room::Token);
    }

    #[test]
    fn a_full_bucket_refuses_only_users_without_entries() {
        let (mut bucket, user) = (Bucket::default(), maker(1, 1));
        bucket.put_token(Uuid::max(), LATER, Some(user));
        // From the store, as after a restart.
        (1..=BUCKET_ENTRIES_MAX as u128).for_each(|number| bucket.put_token(Uuid::from_u128(number), LATER, None));
        assert_eq!(bucket.room_for_token(Uuid::nil(), user, EXPIRY), Room::Cutoff);
        assert!(bucket.has_room_for_cutoff(user, EXPIRY));
        assert_eq!(bucket.room_for_token(Uuid::nil(), maker(2, 2), EXPIRY), Room::Full);
        let all = Expiry { tokens: LATER, users: LATER };
        assert_eq!(bucket.room_for_token(Uuid::nil(), maker(2, 2), all), Room::Token);
    }
}
