//! A bound on the bytes that the unfinished requests or the unread answers of many clients hold together.
//!
//! Nothing is refused while there is room. When there is none, the holder that began first gives way: among the holders
//! of the network that holds most, and there of the user that holds most. So a client gives way only if others of its
//! network hold at least as much, or if it has held its bytes for longer than it takes all others to fill the room. An
//! honest client is done long before that. A client that holds bytes for long, or many holders of one network or user,
//! cannot keep it out: more of them only give way sooner.
//!
//! This only counts. The owner of the bytes frees them when it is told which holders give way.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use engine::id::UserId;

use crate::client_network::ClientNetwork;

/// Who holds how many bytes. Every operation takes time in the logarithm of the number of holders, for each holder that
/// gives way.
pub struct ByteShares {
    bytes_max: usize,
    bytes: usize,
    next: u64,
    holders: HashMap<Holder, Held>,
    networks: Ranking<ClientNetwork>,
    /// The users of each network. Requests of no user count together.
    users: HashMap<ClientNetwork, Ranking<Option<UserId>>>,
}

/// One holder. Holders that begin later are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Holder(u64);

struct Held {
    network: ClientNetwork,
    user: Option<UserId>,
    bytes: usize,
}

impl ByteShares {
    /// At most `bytes_max` bytes for all holders together.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            next: 0,
            holders: HashMap::new(),
            networks: Ranking::default(),
            users: HashMap::new(),
        }
    }

    /// The bytes that are held now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins a holder, which holds nothing yet. `user` is `None` where it is not known who asks.
    pub fn enter(&mut self, network: ClientNetwork, user: Option<UserId>) -> Holder {
        let holder = Holder(self.next);
        self.next += 1;
        let before = self.holders.insert(holder, Held { network, user, bytes: 0 });
        assert!(before.is_none(), "a holder's number is given once");
        self.change(network, user, |share| {
            share.holders.insert(holder);
        });
        holder
    }

    /// Lets a holder hold `more` bytes. Returns the holders that give way for it, which have left already. The holder
    /// itself may be among them.
    #[must_use]
    pub fn grow(&mut self, holder: Holder, more: usize) -> Vec<Holder> {
        let Some(held) = self.holders.get_mut(&holder) else { return Vec::new() };
        held.bytes += more;
        self.bytes += more;
        let (network, user) = (held.network, held.user);
        self.change(network, user, |share| share.bytes += more);
        let mut given_way = Vec::new();
        while self.bytes > self.bytes_max {
            let Some(first) = self.first_to_give_way() else { break };
            self.leave(first);
            given_way.push(first);
        }
        assert!(self.bytes <= self.bytes_max, "{} bytes are held, of {}", self.bytes, self.bytes_max);
        given_way
    }

    /// Ends a holder. Its bytes are free.
    pub fn leave(&mut self, holder: Holder) {
        let Some(Held { network, user, bytes }) = self.holders.remove(&holder) else { return };
        self.bytes -= bytes;
        self.change(network, user, |share| {
            share.bytes -= bytes;
            share.holders.remove(&holder);
        });
    }

    fn first_to_give_way(&self) -> Option<Holder> {
        let (network, _) = self.networks.first()?;
        self.users.get(&network)?.first().map(|(_, oldest)| oldest)
    }

    /// Changes what a user of a network holds, and the ranks of both.
    fn change(&mut self, network: ClientNetwork, user: Option<UserId>, change: impl Fn(&mut Share)) {
        self.networks.change(network, &change);
        let users = self.users.entry(network).or_default();
        users.change(user, change);
        if users.shares.is_empty() {
            self.users.remove(&network);
        }
        debug_assert_eq!(self.users.len(), self.networks.shares.len(), "each network has users");
        debug_assert!(self.bytes == 0 || !self.holders.is_empty(), "{} bytes without a holder", self.bytes);
    }

    /// Asserts that the sums agree. Looks at every holder.
    pub fn invariants(&self) {
        let held: usize = self.holders.values().map(|held| held.bytes).sum();
        let by_users = self.users.values().fold((0, 0), |(bytes, holders), users| {
            let (more, further) = users.sums();
            (bytes + more, holders + further)
        });
        assert_eq!(held, self.bytes, "bytes of all holders");
        assert_eq!(self.networks.sums(), (self.bytes, self.holders.len()), "bytes and holders of all networks");
        assert_eq!(by_users, (self.bytes, self.holders.len()), "bytes and holders of all users");
    }
}

/// What the holders of one network, or of one user of it, hold together.
#[derive(Default)]
struct Share {
    bytes: usize,
    holders: BTreeSet<Holder>,
}

/// Shares in the order in which they give way.
struct Ranking<K> {
    shares: HashMap<K, Share>,
    /// More bytes give way first: the last rank. Of two shares with equal bytes, the one whose oldest holder began first.
    order: BTreeSet<(usize, Reverse<Holder>, K)>,
}

impl<K> Default for Ranking<K> {
    fn default() -> Self {
        Self { shares: HashMap::new(), order: BTreeSet::new() }
    }
}

impl<K: Copy + Ord + Hash> Ranking<K> {
    /// The share that gives way first, and its oldest holder.
    fn first(&self) -> Option<(K, Holder)> {
        self.order.last().map(|&(_, Reverse(oldest), key)| (key, oldest))
    }

    /// Changes a share, and its rank with it. A share without holders goes.
    fn change(&mut self, key: K, change: impl Fn(&mut Share)) {
        let share = self.shares.entry(key).or_default();
        if let Some(oldest) = share.holders.first() {
            self.order.remove(&(share.bytes, Reverse(*oldest), key));
        }
        change(share);
        match share.holders.first() {
            Some(oldest) => {
                self.order.insert((share.bytes, Reverse(*oldest), key));
            }
            None => {
                let left = self.shares.remove(&key);
                debug_assert!(left.is_some_and(|left| left.bytes == 0), "bytes without holders");
            }
        }
        debug_assert_eq!(self.order.len(), self.shares.len(), "each share has one rank");
    }

    /// The bytes and the number of holders of all shares.
    fn sums(&self) -> (usize, usize) {
        self.shares
            .values()
            .fold((0, 0), |(bytes, holders), share| (bytes + share.bytes, holders + share.holders.len()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn network(number: u8) -> ClientNetwork {
        ClientNetwork::V6(number.into())
    }

    /// A holder that holds so many bytes. No other holder has to give way for them.
    fn with(shares: &mut ByteShares, number: u8, bytes: usize) -> Holder {
        let holder = shares.enter(network(number), None);
        assert_eq!(shares.grow(holder, bytes), [], "there is room");
        holder
    }

    #[test]
    fn no_holder_gives_way_while_there_is_room() {
        let mut shares = ByteShares::new(100);
        let one = with(&mut shares, 1, 90);
        with(&mut shares, 2, 10);
        assert_eq!(shares.bytes(), 100);
        shares.leave(one);
        with(&mut shares, 3, 90);
    }

    #[test]
    fn the_network_that_holds_most_gives_way_oldest_first() {
        let mut shares = ByteShares::new(100);
        let other = with(&mut shares, 2, 20);
        let [first, second] = [10, 50].map(|bytes| with(&mut shares, 1, bytes));
        let third = shares.enter(network(2), None);
        assert_eq!(shares.grow(third, 30), [first]);
        assert_eq!(shares.grow(third, 10), [other], "now the other network holds most: its oldest gives way");
        assert_eq!(shares.bytes(), 90);
        let fourth = shares.enter(network(1), None);
        assert_eq!(shares.grow(fourth, 50), [second]);
    }

    #[test]
    fn of_networks_with_equal_shares_the_one_that_began_first_gives_way() {
        let mut shares = ByteShares::new(3);
        let [first, second, _] = [7, 9, 8].map(|number| with(&mut shares, number, 1));
        let newcomer = shares.enter(network(1), None);
        assert_eq!(shares.grow(newcomer, 1), [first]);
        assert_eq!(shares.grow(newcomer, 1), [newcomer], "it holds most");
        let next = with(&mut shares, 2, 1);
        assert_eq!(shares.grow(next, 2), [next], "it holds most");
        assert_eq!(shares.grow(second, 0), []);
    }

    #[test]
    fn a_holder_that_has_left_holds_nothing() {
        let mut shares = ByteShares::new(2);
        let holder = with(&mut shares, 1, 2);
        shares.leave(holder);
        shares.leave(holder);
        assert_eq!(shares.grow(holder, 5), []);
        assert_eq!(shares.bytes(), 0);
        assert!(shares.networks.order.is_empty() && shares.users.is_empty() && shares.holders.is_empty());
        shares.invariants();
    }

    #[test]
    fn of_one_network_the_user_that_holds_most_gives_way() {
        let mut shares = ByteShares::new(100);
        let user = |number| Some(UserId(Uuid::from_u128(number)));
        let mut with = |number, bytes| {
            let holder = shares.enter(network(1), user(number));
            (holder, shares.grow(holder, bytes))
        };
        let (quiet, _) = with(1, 30);
        let greedy = [(2, 40), (2, 30)].map(|(number, bytes)| with(number, bytes).0);
        assert_eq!(with(2, 40).1, [greedy[0]], "the user's oldest, though another user began first");
        assert_eq!(with(3, 90).1.len(), 1, "a user that asks for most gives way itself");
        assert_eq!(shares.bytes(), 100);
        shares.leave(quiet);
        assert_eq!(shares.bytes(), 70);
        shares.invariants();
    }

    proptest! {
        #[test]
        fn never_more_than_the_bound(steps in prop::collection::vec((0..4_u8, 0..40_usize, any::<bool>()), 1..200)) {
            let mut shares = ByteShares::new(100);
            let mut model: HashMap<Holder, usize> = HashMap::new();
            for (number, bytes, leaves) in steps {
                let holder = shares.enter(network(number), None);
                let given_way = shares.grow(holder, bytes);
                model.insert(holder, bytes);
                model.retain(|holder, _| !given_way.contains(holder));
                if leaves {
                    let oldest = model.keys().min().copied();
                    oldest.iter().for_each(|holder| {
                        shares.leave(*holder);
                        model.remove(holder);
                    });
                }
                prop_assert!(shares.bytes() <= 100);
                prop_assert_eq!(shares.bytes(), model.values().sum::<usize>());
                prop_assert_eq!(shares.holders.len(), model.len());
                shares.invariants();
            }
        }
    }
}
