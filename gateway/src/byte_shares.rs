//! A bound on the bytes that the unfinished requests of many clients hold together.
//!
//! Nothing is refused while there is room. When there is none, the holder that began first gives way, among the holders
//! of the network that holds most. So a client gives way only if others of its network hold at least as much, or if it
//! has held its bytes for longer than it takes all others to fill the room. An honest client is done long before that.
//! A client that holds bytes for long, or many holders of one network, cannot keep it out: more of them only give way
//! sooner.
//!
//! This only counts. The owner of the bytes frees them when it is told which holders give way.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use crate::client_network::ClientNetwork;

/// Who holds how many bytes. Every operation takes time in the logarithm of the number of holders, for each holder that
/// gives way.
pub struct ByteShares {
    bytes_max: usize,
    bytes: usize,
    next: u64,
    holders: HashMap<Holder, Held>,
    networks: HashMap<ClientNetwork, NetworkShare>,
    /// The networks in the order in which they give way: the last one is the first to do so.
    ranking: BTreeSet<Rank>,
}

/// One holder. Holders that begin later are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Holder(u64);

struct Held {
    network: ClientNetwork,
    bytes: usize,
}

#[derive(Default)]
struct NetworkShare {
    bytes: usize,
    holders: BTreeSet<Holder>,
}

/// More bytes give way first. Of two networks with equal bytes, the one whose oldest holder began first.
type Rank = (usize, Reverse<Holder>, ClientNetwork);

impl ByteShares {
    /// At most `bytes_max` bytes for all holders together.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            next: 0,
            holders: HashMap::new(),
            networks: HashMap::new(),
            ranking: BTreeSet::new(),
        }
    }

    /// The bytes that are held now.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Begins a holder, which holds nothing yet.
    pub fn enter(&mut self, network: ClientNetwork) -> Holder {
        let holder = Holder(self.next);
        self.next += 1;
        let before = self.holders.insert(holder, Held { network, bytes: 0 });
        assert!(before.is_none(), "a holder's number is given once");
        self.change(network, |share| {
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
        let network = held.network;
        self.change(network, |share| share.bytes += more);
        let mut given_way = Vec::new();
        while self.bytes > self.bytes_max {
            let Some(&(_, Reverse(oldest), _)) = self.ranking.last() else { break };
            self.leave(oldest);
            given_way.push(oldest);
        }
        assert!(self.bytes <= self.bytes_max, "{} bytes are held, of {}", self.bytes, self.bytes_max);
        given_way
    }

    /// Ends a holder. Its bytes are free.
    pub fn leave(&mut self, holder: Holder) {
        let Some(Held { network, bytes }) = self.holders.remove(&holder) else { return };
        self.bytes -= bytes;
        self.change(network, |share| {
            share.bytes -= bytes;
            share.holders.remove(&holder);
        });
    }

    /// Changes what a network holds, and its rank with it.
    fn change(&mut self, network: ClientNetwork, change: impl FnOnce(&mut NetworkShare)) {
        let share = self.networks.entry(network).or_default();
        if let Some(rank) = rank(network, share) {
            self.ranking.remove(&rank);
        }
        change(share);
        match rank(network, share) {
            Some(rank) => {
                self.ranking.insert(rank);
            }
            None => {
                let left = self.networks.remove(&network);
                debug_assert!(left.is_some_and(|left| left.bytes == 0), "bytes of a network without holders");
            }
        }
        debug_assert_eq!(self.ranking.len(), self.networks.len(), "each network has one rank");
        debug_assert!(self.bytes == 0 || !self.holders.is_empty(), "{} bytes without a holder", self.bytes);
    }

    /// Asserts that the sums agree. Looks at every holder.
    pub fn invariants(&self) {
        let held: usize = self.holders.values().map(|held| held.bytes).sum();
        let shared: usize = self.networks.values().map(|share| share.bytes).sum();
        assert_eq!((held, shared), (self.bytes, self.bytes), "bytes of all holders and of all networks");
        let holders: usize = self.networks.values().map(|share| share.holders.len()).sum();
        assert_eq!(holders, self.holders.len(), "each holder belongs to one network");
    }
}

fn rank(network: ClientNetwork, share: &NetworkShare) -> Option<Rank> {
    share.holders.first().map(|oldest| (share.bytes, Reverse(*oldest), network))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(number: u8) -> ClientNetwork {
        ClientNetwork::V6(number.into())
    }

    /// A holder that holds so many bytes. No other holder has to give way for them.
    fn with(shares: &mut ByteShares, number: u8, bytes: usize) -> Holder {
        let holder = shares.enter(network(number));
        assert_eq!(shares.grow(holder, bytes), [], "there is room");
        holder
    }

    #[test]
    fn nobody_gives_way_while_there_is_room() {
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
        let third = shares.enter(network(2));
        assert_eq!(shares.grow(third, 30), [first]);
        assert_eq!(shares.grow(third, 10), [other], "now the other network holds most: its oldest gives way");
        assert_eq!(shares.bytes(), 90);
        let fourth = shares.enter(network(1));
        assert_eq!(shares.grow(fourth, 50), [second]);
    }

    #[test]
    fn of_networks_with_equal_shares_the_one_that_began_first_gives_way() {
        let mut shares = ByteShares::new(3);
        let [first, second, _] = [7, 9, 8].map(|number| with(&mut shares, number, 1));
        let newcomer = shares.enter(network(1));
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
        assert!(shares.networks.is_empty() && shares.ranking.is_empty() && shares.holders.is_empty());
    }

    proptest! {
        #[test]
        fn never_more_than_the_bound(steps in prop::collection::vec((0..4_u8, 0..40_usize, any::<bool>()), 1..200)) {
            let mut shares = ByteShares::new(100);
            let mut model: HashMap<Holder, usize> = HashMap::new();
            for (number, bytes, leaves) in steps {
                let holder = shares.enter(network(number));
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
            }
        }
    }
}
