//! The order in which ready sockets are served while more are ready than a turn has time for.
//!
//! The kernel reports ready sockets in the order in which they became ready, and those that a turn did not get to at the
//! end. So a client with one request would wait for all sockets of a crowd that ask for much. Here clients share the turns
//! by work: the sockets of the network that has taken least come first, and within a network those of the user that has.
//! Sockets with a session and newcomers without one share a turn as two networks would: a crowd that comes back keeps no
//! session waiting, and sessions that ask for much keep no newcomer out.
//! A user's next socket is expected to cost as much as the user's sockets did on average. So twenty sockets of one user
//! that only ping are all served before the second socket of a user whose sockets are dear.

use std::collections::HashMap;
use std::hash::Hash;

use engine::budget::Work;
use engine::id::{NetworkKey, UserId};
use engine::session::costs::PING;
use engine::session::shared_budgets::Payer;

/// Turns after which what was taken is forgotten: some seconds. Without that, a client that had much once would have to
/// wait until all others have had as much.
const MEMORY_TURNS: u32 = 64;

/// What networks and users have taken of the last turns, as long as sockets had to wait.
#[derive(Default)]
pub struct FairOrder {
    /// At most two entries.
    kinds: HashMap<Kind, Taken>,
    networks: HashMap<NetworkKey, Taken>,
    users: HashMap<UserId, Taken>,
    turns: u32,
    /// Whether more sockets were ready in the last turn than it took.
    crowded: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Newcomer,
    Session,
}

impl Kind {
    fn of(payer: &Payer) -> Self {
        if payer.user.is_none() { Self::Newcomer } else { Self::Session }
    }
}

/// What sockets of one kind, network or user have taken.
#[derive(Clone, Copy, Default)]
struct Taken {
    work: Work,
    sockets: usize,
}

impl Taken {
    fn count(&mut self, work: Work) {
        self.work = self.work + work;
        self.sockets += 1;
    }

    /// What will have been taken when so many more sockets are served, if they cost as much as the others did.
    fn after(&self, sockets: usize) -> Work {
        let each = if self.sockets == 0 { PING } else { self.work.shared_by(self.sockets) };
        self.work + each.times(sockets)
    }
}

impl FairOrder {
    /// Whether more sockets were ready in the last turn than it took.
    pub fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Arranges ready sockets: newcomers and sessions share the turn by work, the networks of the sessions do, and within a
    /// network its users do.
    pub fn arrange<T>(&self, ready: &mut Vec<T>, payer: impl Fn(&T) -> Payer) {
        let with_payer = ready.drain(..).map(|socket| (payer(&socket), socket)).collect();
        let by_user = shared(with_payer, |(payer, _)| payer.user, &self.users);
        let by_network = shared(by_user, |(payer, _)| payer.network, &self.networks);
        let by_kind = shared(by_network, |(payer, _)| Some(Kind::of(payer)), &self.kinds);
        ready.extend(by_kind.into_iter().map(|(_, socket)| socket));
    }

    /// Counts the work of one socket for its payer. The tables have at most an entry for each socket that was served in
    /// `MEMORY_TURNS` turns.
    pub fn count(&mut self, payer: Payer, work: Work) {
        self.kinds.entry(Kind::of(&payer)).or_default().count(work);
        let Payer { user, network } = payer;
        if let Some(network) = network {
            self.networks.entry(network).or_default().count(work);
        }
        if let Some(user) = user {
            self.users.entry(user).or_default().count(work);
        }
    }

    /// Ends a turn. `crowded` says whether ready sockets are or may be left.
    pub fn end_turn(&mut self, crowded: bool) {
        self.crowded = crowded;
        self.turns = if crowded { self.turns + 1 } else { 0 };
        if self.turns.is_multiple_of(MEMORY_TURNS) {
            *self = Self { turns: self.turns, crowded, ..Self::default() };
        }
    }
}

/// Sorts items so that the name that will have taken least has its item first. The order of a name's items stays.
fn shared<T, N: Copy + Eq + Hash>(items: Vec<T>, name: impl Fn(&T) -> Option<N>, taken: &HashMap<N, Taken>) -> Vec<T> {
    let mut counts: HashMap<N, usize> = HashMap::new();
    let mut keyed: Vec<_> = items
        .into_iter()
        .map(|item| {
            let key = name(&item).map(|name| {
                let count = counts.entry(name).or_default();
                let will_have = taken.get(&name).copied().unwrap_or_default().after(*count);
                *count += 1;
                will_have
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

    /// A client by its network and user. User 0 stands for a newcomer.
    fn payer(&(network, user): &(u64, u128)) -> Payer {
        let user = (user > 0).then(|| UserId(uuid::Uuid::from_u128(user)));
        Payer { user, network: NonZeroU64::new(network).map(NetworkKey) }
    }

    fn arranged(order: &FairOrder, mut ready: Vec<(u64, u128)>) -> Vec<(u64, u128)> {
        order.arrange(&mut ready, payer);
        ready
    }

    #[test]
    fn networks_share_a_turn_and_within_them_users() {
        let mut order = FairOrder::default();
        for (client, micros) in [((1, 10), 500), ((1, 11), 700), ((2, 20), 300), ((2, 21), 100)] {
            order.count(payer(&client), Work::micros(micros));
        }
        let ready = vec![(1, 11), (1, 10), (1, 10), (2, 20), (3, 30), (2, 21), (1, 12)];
        // Network 3 has taken nothing, and network 2 will have taken less with both sockets than network 1 has now.
        let expected = [(3, 30), (2, 21), (2, 20), (1, 12), (1, 10), (1, 11), (1, 10)];
        assert_eq!(arranged(&order, ready), expected);
    }

    #[test]
    fn a_client_with_one_request_waits_for_one_socket_of_each_user_of_a_crowd() {
        let mut order = FairOrder::default();
        let crowd: Vec<_> = (0..990).map(|number| (1, 1 + number / 99)).collect();
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
    fn many_cheap_sockets_of_one_user_come_before_dear_ones_of_many() {
        let mut order = FairOrder::default();
        let dear: Vec<_> = (100..220).map(|user| (1, user)).collect();
        for client in &dear {
            order.count(payer(client), Work::micros(400));
        }
        for _ in 0..20 {
            order.count(payer(&(1, 77)), PING);
        }
        let ready = dear.iter().copied().chain([(1, 77); 20]).collect();
        assert!(arranged(&order, ready)[..20].iter().all(|client| *client == (1, 77)));
    }

    #[test]
    fn newcomers_and_sessions_do_not_wait_for_each_other() {
        const NEWCOMER: (u64, u128) = (0, 0);
        let mut order = FairOrder::default();
        for _ in 0..100 {
            order.count(payer(&NEWCOMER), Work::micros(50));
            order.count(payer(&(1, 77)), PING);
        }
        let crowd = [NEWCOMER; 1000];
        let sessions: Vec<_> = (1..=100).map(|user| (1, user)).collect();
        let ready = crowd.iter().chain(&sessions).copied().collect();
        assert!(!arranged(&order, ready)[..100].contains(&NEWCOMER), "a crowd comes back");
        for client in &sessions {
            order.count(payer(client), Work::micros(1_200));
        }
        let ready = sessions.iter().copied().chain(crowd).collect();
        assert!(arranged(&order, ready)[..1000] == crowd, "sessions ask for much");
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
