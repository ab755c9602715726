//! The order in which ready sockets are served while more are ready than a turn has time for.
//!
//! The kernel reports ready sockets in the order in which they became ready, and those that a turn did not get to at the
//! end. So a client with one request would wait for all sockets of a crowd that ask for much. Here clients share the turns:
//! the sockets of networks that have taken least come first, and within a network those of the users that have.

use std::collections::HashMap;
use std::hash::Hash;

use engine::budget::Work;
use engine::id::UserId;
use engine::session::shared_budgets::{NetworkKey, Payer};

/// Turns after which what was taken is forgotten: some seconds. Without that, a client that had much once would have to
/// wait until all others have had as much.
const MEMORY_TURNS: u32 = 64;

/// What networks and users have taken of the last turns, as long as sockets had to wait.
#[derive(Default)]
pub struct FairOrder {
    networks: HashMap<NetworkKey, Work>,
    users: HashMap<UserId, Work>,
    turns: u32,
    /// Whether the last turn left ready sockets to this one.
    crowded: bool,
}

impl FairOrder {
    /// Whether the last turn did not get to all ready sockets.
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Arranges ready sockets: networks take turns, and within a network its users do. Of equals those come first that have
    /// taken least. Sockets without a session come first.
    pub fn arrange<T>(&self, ready: &mut Vec<T>, payer: impl Fn(&T) -> Payer) {
        let with_payer = ready.drain(..).map(|socket| (payer(&socket), socket)).collect();
        let by_user = in_turns(with_payer, |(payer, _)| payer.user, &self.users);
        let by_network = in_turns(by_user, |(payer, _)| payer.network, &self.networks);
        ready.extend(by_network.into_iter().map(|(_, socket)| socket));
    }

    /// Counts work for a payer. The tables have at most an entry for each socket that was served in `MEMORY_TURNS` turns.
    pub fn count(&mut self, Payer { user, network }: Payer, work: Work) {
        if let Some(network) = network {
            let taken = self.networks.entry(network).or_default();
            *taken = *taken + work;
        }
        if let Some(user) = user {
            let taken = self.users.entry(user).or_default();
            *taken = *taken + work;
        }
    }

    /// Ends a turn. `crowded` says whether ready sockets are left.
    pub fn end_turn(&mut self, crowded: bool) {
        self.crowded = crowded;
        self.turns = if crowded { self.turns + 1 } else { 0 };
        if self.turns.is_multiple_of(MEMORY_TURNS) {
            (self.networks, self.users) = (HashMap::new(), HashMap::new());
        }
    }
}

/// Sorts items so that each name has its first item before any name has its second. The order of a name's items stays.
fn in_turns<T, N: Copy + Eq + Hash>(items: Vec<T>, name: impl Fn(&T) -> Option<N>, taken: &HashMap<N, Work>) -> Vec<T> {
    let mut rounds: HashMap<N, u32> = HashMap::new();
    let mut keyed: Vec<_> = items
        .into_iter()
        .map(|item| {
            let key = name(&item).map(|name| {
                let round = rounds.entry(name).or_default();
                *round += 1;
                (*round, taken.get(&name).copied().unwrap_or_default())
            });
            (key, item)
        })
        .collect();
    keyed.sort_by_key(|(key, _)| *key);
    keyed.into_iter().map(|(_, item)| item).collect()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    /// A client by its network and user.
    fn payer(&(network, user): &(u64, u128)) -> Payer {
        let user = Some(UserId(uuid::Uuid::from_u128(user)));
        Payer { user, network: NonZeroU64::new(network).map(NetworkKey) }
    }

    fn arranged(order: &FairOrder, mut ready: Vec<(u64, u128)>) -> Vec<(u64, u128)> {
        order.arrange(&mut ready, payer);
        ready
    }

    #[test]
    fn networks_take_turns_and_within_them_users() {
        let mut order = FairOrder::default();
        for (client, micros) in [((1, 10), 500), ((1, 11), 700), ((2, 20), 300), ((2, 21), 100)] {
            order.count(payer(&client), Work::micros(micros));
        }
        let ready = vec![(1, 11), (1, 10), (1, 10), (2, 20), (3, 30), (2, 21), (1, 12), (0, 40)];
        // Network 3 has taken nothing, network 2 less than network 1.
        let expected = [(0, 40), (3, 30), (2, 21), (1, 12), (2, 20), (1, 10), (1, 11), (1, 10)];
        assert_eq!(arranged(&order, ready), expected);
    }

    #[test]
    fn a_client_with_one_request_waits_for_one_socket_of_each_user_of_a_crowd() {
        let mut order = FairOrder::default();
        let crowd: Vec<_> = (0..990).map(|number| (1, number / 99)).collect();
        let place = |order: &FairOrder, client| {
            let ready = crowd.iter().copied().chain([client]).collect();
            arranged(order, ready).iter().position(|one| *one == client)
        };
        // Behind one proxy all are of one network.
        assert_eq!(place(&order, (1, 77)), Some(10));
        assert_eq!(place(&order, (2, 77)), Some(1));
        for client in &crowd {
            order.count(payer(client), Work::micros(1_200));
        }
        assert_eq!(place(&order, (1, 77)), Some(0));
        assert_eq!(place(&order, (2, 77)), Some(0));
    }

    #[test]
    fn what_was_taken_is_forgotten() {
        let mut order = FairOrder::default();
        order.count(payer(&(1, 10)), Work::micros(9));
        order.end_turn(false);
        assert!(order.users.is_empty() && !order.is_crowded());
        for turn in 1..MEMORY_TURNS {
            order.count(payer(&(1, 10)), Work::micros(9));
            order.end_turn(true);
            assert!(!order.users.is_empty() && order.is_crowded(), "after {turn} turns");
        }
        order.end_turn(true);
        assert!(order.users.is_empty() && order.networks.is_empty());
    }
}
