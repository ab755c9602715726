//! The budgets that a shard's sessions and HTTP requests share: one for each user, and one for each network that clients
//! come from. So the shard's home and the gateway's handlers of HTTP requests share this table. Both run on the shard's
//! thread, in turn.
//!
//! The rates of the whole process are here too, because both let clients in.
//!
//! Each shard counts for itself. A user whose connections are on several shards has a budget on each of them.

use std::cell::RefCell;
use std::num::{NonZeroU16, NonZeroU32};
use std::rc::Rc;
use std::time::Duration;

use crate::budget::{Budgets, Standing, Work};
use crate::command::RateLimit;
use crate::gate::{Gate, Guest};
use crate::id::{Monotonic, NetworkKey, UserId};
use crate::limits::{CLOSED_OPENINGS_PER_SECOND, Rules};
use crate::process_rates::{PROCESS_RATES, ProcessRate, ProcessRates};

/// Which budget a request is charged to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purse {
    /// Everything that has no purse of its own.
    Requests,
    /// To renew tokens and to log out. So no flood of other requests locks a user in or out.
    Tokens,
}

/// To whose budgets work is charged: those of a user and of a network, as far as they are known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Payer {
    pub user: Option<UserId>,
    pub network: Option<NetworkKey>,
}

/// Work that is charged before it is known how much there is.
#[must_use = "what was not done is taken back"]
pub struct Reserved {
    payer: Payer,
    most: Work,
    charged: Monotonic,
}

/// The budgets of the users and networks of one shard. A clone is the same table.
#[derive(Clone)]
pub struct SharedBudgets(Rc<RefCell<Table>>);

struct Table {
    /// The monotonic clock's reading of this turn. Between turns it is some milliseconds old, which only makes a budget
    /// wait so much longer.
    now: Monotonic,
    requests: Purses,
    tokens: Purses,
    /// This shard's parts of the rates, in the order of `PROCESS_RATES`.
    gates: [Gate; PROCESS_RATES.len()],
    /// Openings that are accepted only to be closed with a reason.
    closed_openings: Gate,
}

/// The budgets of all users and all networks for one kind of requests.
struct Purses {
    users: Budgets<UserId>,
    networks: Budgets<NetworkKey>,
}

impl Purses {
    fn new(per_user: Option<NonZeroU32>, per_network: Option<NonZeroU32>) -> Self {
        Self { users: Budgets::new(per_user), networks: Budgets::new(per_network) }
    }

    fn set_rates(&mut self, per_user: Option<NonZeroU32>, per_network: Option<NonZeroU32>) {
        self.users.set_rate(per_user);
        self.networks.set_rate(per_network);
    }

    fn standings(&self, payer: Payer, now: Monotonic) -> [(RateLimit, Standing); 2] {
        let user = payer.user.map_or(Standing::Within, |user| self.users.standing(&user, now));
        let network = payer.network.map_or(Standing::Within, |network| self.networks.standing(&network, now));
        [(RateLimit::WorkPerUser, user), (RateLimit::WorkPerAddress, network)]
    }

    fn spend(&mut self, payer: Payer, work: Work, now: Monotonic) {
        if let Some(user) = payer.user {
            self.users.spend(user, work, now);
        }
        if let Some(network) = payer.network {
            self.networks.spend(network, work, now);
        }
    }

    fn take_back(&mut self, payer: Payer, work: Work, charged: Monotonic, now: Monotonic) {
        if let Some(user) = payer.user {
            self.users.take_back(&user, work, charged, now);
        }
        if let Some(network) = payer.network {
            self.networks.take_back(&network, work, charged, now);
        }
    }

    fn sweep(&mut self, now: Monotonic) {
        self.users.sweep(now);
        self.networks.sweep(now);
    }

    fn invariants(&self) {
        self.users.invariants();
        self.networks.invariants();
    }
}

impl Table {
    fn purse(&mut self, purse: Purse) -> &mut Purses {
        match purse {
            Purse::Requests => &mut self.requests,
            Purse::Tokens => &mut self.tokens,
        }
    }
}

impl SharedBudgets {
    /// Budgets of so many milliseconds of work a second as the rules give to a user and to a network, for each purse.
    pub fn new(rules: &Rules) -> Self {
        let purses = || Purses::new(rules.work_per_user, rules.work_per_address);
        let (requests, tokens) = (purses(), purses());
        let (gates, closed_openings) = (Default::default(), Gate::new(CLOSED_OPENINGS_PER_SECOND));
        Self(Rc::new(RefCell::new(Table { now: Monotonic::default(), requests, tokens, gates, closed_openings })))
    }

    /// Sets the rates of the whole process, of which so many shards have equal parts.
    pub fn set_rates(&self, rates: &ProcessRates, shards: NonZeroU16) {
        for (gate, rate) in self.0.borrow_mut().gates.iter_mut().zip(PROCESS_RATES) {
            gate.set(rates.of(rate), shards);
        }
    }

    /// Sets how many milliseconds of work a second a user and a network have, in each purse.
    pub fn set_work(&self, per_user: Option<NonZeroU32>, per_network: Option<NonZeroU32>) {
        let table = &mut *self.0.borrow_mut();
        table.requests.set_rates(per_user, per_network);
        table.tokens.set_rates(per_user, per_network);
    }

    /// Lets one in, unless this shard's part of the rate is used up. Then the result is the time after which the client may
    /// try again.
    pub fn let_in(&self, rate: ProcessRate, guest: Guest) -> Result<(), (RateLimit, Duration)> {
        self.at_gate(rate, |gate, now| gate.let_in(Some(guest), now))
    }

    /// Whether one would be let in now. `count` counts it, once it is known to be good.
    pub fn has_room(&self, rate: ProcessRate, guest: Guest) -> Result<(), (RateLimit, Duration)> {
        self.at_gate(rate, |gate, now| gate.has_room(Some(guest), now))
    }

    /// Counts a client that was let in.
    pub fn count(&self, rate: ProcessRate, guest: Guest) {
        let table = &mut *self.0.borrow_mut();
        table.gates[rate as usize].count(Some(guest), table.now);
    }

    fn at_gate(
        &self,
        rate: ProcessRate,
        ask: impl FnOnce(&mut Gate, Monotonic) -> Result<(), Duration>,
    ) -> Result<(), (RateLimit, Duration)> {
        let table = &mut *self.0.borrow_mut();
        ask(&mut table.gates[rate as usize], table.now).map_err(|wait| (RateLimit::Process(rate), wait))
    }

    /// Whether one more refused opening may be accepted and then closed with a reason.
    pub fn may_close_an_opening(&self) -> bool {
        let table = &mut *self.0.borrow_mut();
        table.closed_openings.let_in(None, table.now).is_ok()
    }

    /// How many each rate has refused, in the order of `PROCESS_RATES`.
    pub fn refused_by_rates(&self) -> [u64; PROCESS_RATES.len()] {
        self.0.borrow().gates.each_ref().map(Gate::refused)
    }

    /// Whether networks have budgets. Otherwise the gateway need not find out the network of a client.
    pub fn bounds_networks(&self) -> bool {
        self.0.borrow().requests.networks.is_bounded()
    }

    /// Begins a turn at this reading of the monotonic clock. Forgets some budgets that are full again.
    pub fn begin_turn(&self, now: Monotonic) {
        let table = &mut *self.0.borrow_mut();
        table.now = now;
        table.requests.sweep(now);
        table.tokens.sweep(now);
    }

    /// How the payer's purses stand to their budgets.
    pub fn standings(&self, payer: Payer, purse: Purse) -> [(RateLimit, Standing); 2] {
        let table = &mut *self.0.borrow_mut();
        let now = table.now;
        table.purse(purse).standings(payer, now)
    }

    /// Charges work to the payer's purses.
    pub fn charge(&self, payer: Payer, purse: Purse, work: Work) {
        let table = &mut *self.0.borrow_mut();
        let now = table.now;
        table.purse(purse).spend(payer, work, now);
    }

    /// Charges work before it begins, unless one of the payer's budgets is used up. A refusal is charged too, as so much
    /// work; then the result is the time after which the payer may try again.
    pub fn afford(&self, payer: Payer, purse: Purse, work: Work, refusal: Work) -> Result<(), (RateLimit, Duration)> {
        let exceeded = self.standings(payer, purse).into_iter().find(|(_, standing)| *standing != Standing::Within);
        let Some((limit, _)) = exceeded else {
            self.charge(payer, purse, work);
            return Ok(());
        };
        self.charge(payer, purse, refusal);
        let debts = self.standings(payer, purse).map(|(_, standing)| standing.debt());
        Err((limit, debts.into_iter().max().unwrap_or_default()))
    }

    /// Charges the most work that a request can cost. So requests that are under way at the same time share the budget.
    pub fn reserve(&self, payer: Payer, most: Work) -> Reserved {
        self.charge(payer, Purse::Requests, most);
        Reserved { payer, most, charged: self.0.borrow().now }
    }

    /// Takes in how much work there was.
    pub fn settle(&self, reserved: Reserved, work: Work) {
        let Reserved { payer, most, charged } = reserved;
        let table = &mut *self.0.borrow_mut();
        let now = table.now;
        table.requests.take_back(payer, most.without(work), charged, now);
        table.requests.spend(payer, work.without(most), now);
    }

    /// Asserts what the tables promise.
    pub fn invariants(&self) {
        let table = self.0.borrow();
        table.requests.invariants();
        table.tokens.invariants();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use std::num::NonZeroU64;

    use super::*;

    const ADA: Payer = Payer { user: Some(UserId(Uuid::from_u128(1))), network: Some(VENUE) };
    const BOB: Payer = Payer { user: Some(UserId(Uuid::from_u128(2))), network: Some(VENUE) };
    const VENUE: NetworkKey = NetworkKey(NonZeroU64::MIN);
    /// Less than the work that may come at once, at 100 milliseconds a second.
    const MOST: Work = Work::micros(150_000);

    fn budgets() -> SharedBudgets {
        SharedBudgets::new(&Rules { work_per_user: NonZeroU32::new(100), ..Rules::default() })
    }

    fn is_within(budgets: &SharedBudgets) -> bool {
        budgets.standings(ADA, Purse::Requests).iter().all(|(_, standing)| *standing == Standing::Within)
    }

    #[test]
    fn requests_under_way_share_the_budget() {
        let budgets = budgets();
        let one = budgets.reserve(ADA, MOST);
        assert!(is_within(&budgets));
        let two = budgets.reserve(ADA, MOST);
        assert!(!is_within(&budgets), "a third would not be let in");
        budgets.settle(one, Work::micros(10));
        assert!(is_within(&budgets), "the first was little work");
        budgets.settle(two, MOST + Work::micros(100_000));
        assert!(!is_within(&budgets), "the second was more than was reserved");
    }

    #[test]
    fn what_time_has_given_back_is_not_taken_back_once_more() {
        let budgets = budgets();
        let reserved = budgets.reserve(ADA, MOST);
        // At a hundred milliseconds a second, a second and a half gives it back.
        budgets.begin_turn(Monotonic(0).plus(Duration::from_millis(1500)));
        budgets.charge(ADA, Purse::Requests, Work::micros(250_000));
        assert!(!is_within(&budgets));
        budgets.settle(reserved, Work::default());
        assert!(!is_within(&budgets));
    }

    #[test]
    fn users_of_one_network_share_its_budget_if_it_has_one() {
        for (work_per_address, expected) in [(None, Ok(())), (NonZeroU32::new(100), Err(RateLimit::WorkPerAddress))] {
            let rules = Rules { work_per_user: NonZeroU32::new(150), work_per_address, ..Rules::default() };
            let budgets = SharedBudgets::new(&rules);
            budgets.charge(ADA, Purse::Requests, Work::micros(201_000));
            let afforded =
                |payer, purse| budgets.afford(payer, purse, MOST, Work::micros(1)).map_err(|(limit, _)| limit);
            assert_eq!(afforded(BOB, Purse::Requests), expected, "one pays for the other");
            assert_eq!(afforded(BOB, Purse::Tokens), Ok(()), "tokens have a purse of their own");
            let elsewhere = Payer { network: Some(NetworkKey(NonZeroU64::MAX)), ..BOB };
            let (_, standing) = budgets.standings(elsewhere, Purse::Requests)[1];
            assert_eq!(standing, Standing::Within, "another network has another budget");
            budgets.invariants();
        }
    }

    #[test]
    fn a_budget_that_is_set_later_holds_from_then_on() {
        let budgets = budgets();
        let flood = || budgets.charge(BOB, Purse::Requests, MOST.times(2));
        let is_over = || budgets.standings(BOB, Purse::Requests).map(|(_, standing)| standing != Standing::Within);
        flood();
        assert_eq!(is_over(), [true, false], "networks have no budget");
        budgets.set_work(None, NonZeroU32::new(100));
        assert!(budgets.bounds_networks());
        assert_eq!(is_over(), [false, false], "the debt to a limit that is gone is forgotten");
        flood();
        assert_eq!(is_over(), [false, true]);
        budgets.set_work(None, NonZeroU32::new(200));
        assert_eq!(is_over(), [false, true], "another rate forgives nothing");
        budgets.invariants();
    }

    #[test]
    fn a_refusal_names_the_longest_wait() {
        let rules =
            Rules { work_per_user: NonZeroU32::new(100), work_per_address: NonZeroU32::new(50), ..Rules::default() };
        let budgets = SharedBudgets::new(&rules);
        budgets.charge(ADA, Purse::Requests, Work::micros(201_000));
        let refused = budgets.afford(ADA, Purse::Requests, MOST, Work::micros(1_000));
        // The user's two seconds have 200 ms of work, the network's have 100.
        assert_eq!(refused, Err((RateLimit::WorkPerUser, Duration::from_millis(2040))));
    }
}
