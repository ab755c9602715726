//! The budgets of a shard's users. The sessions of a user and the user's HTTP requests on this shard share one budget, so
//! the shard's home and the gateway's handlers of HTTP requests share this table. Both run on the shard's thread, in turn.
//!
//! Each shard counts for itself. A user whose connections are on several shards has a budget on each of them.

use std::cell::RefCell;
use std::num::NonZeroU32;
use std::rc::Rc;

use crate::budget::{Budgets, Standing, Work};
use crate::id::{Monotonic, UserId};

/// Which budget of a user a request is charged to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purse {
    /// Everything that has no purse of its own.
    Requests,
    /// To renew tokens and to log out. So no flood of other requests locks a user in or out.
    Tokens,
}

/// Work of a user that is charged before it is known how much there is.
#[must_use = "what was not done is taken back"]
pub struct Reserved {
    user: UserId,
    most: Work,
    charged: Monotonic,
}

/// The budgets of the users of one shard. A clone is the same table.
#[derive(Clone)]
pub struct UserBudgets(Rc<RefCell<Table>>);

struct Table {
    /// The monotonic clock's reading of this turn. Between turns it is some milliseconds old, which only makes a budget
    /// wait so much longer.
    now: Monotonic,
    requests: Budgets<UserId>,
    tokens: Budgets<UserId>,
}

impl Table {
    fn purse(&mut self, purse: Purse) -> &mut Budgets<UserId> {
        match purse {
            Purse::Requests => &mut self.requests,
            Purse::Tokens => &mut self.tokens,
        }
    }
}

impl UserBudgets {
    /// Budgets of so many milliseconds of work a second, for each purse. `None`: no limit.
    pub fn new(rate: Option<NonZeroU32>) -> Self {
        let (requests, tokens) = (Budgets::new(rate), Budgets::new(rate));
        Self(Rc::new(RefCell::new(Table { now: Monotonic::default(), requests, tokens })))
    }

    /// Begins a turn at this reading of the monotonic clock. Forgets some budgets that are full again.
    pub fn begin_turn(&self, now: Monotonic) {
        let table = &mut *self.0.borrow_mut();
        table.now = now;
        table.requests.sweep(now);
        table.tokens.sweep(now);
    }

    /// How a purse of the user stands to its budget.
    pub fn standing(&self, user: UserId, purse: Purse) -> Standing {
        let table = &mut *self.0.borrow_mut();
        let now = table.now;
        table.purse(purse).standing(&user, now)
    }

    /// Charges work to a purse of the user.
    pub fn charge(&self, user: UserId, purse: Purse, work: Work) {
        let table = &mut *self.0.borrow_mut();
        let now = table.now;
        table.purse(purse).spend(user, work, now);
    }

    /// Charges the most work that a request can cost. So requests that are under way at the same time share the budget.
    pub fn reserve(&self, user: UserId, most: Work) -> Reserved {
        self.charge(user, Purse::Requests, most);
        Reserved { user, most, charged: self.0.borrow().now }
    }

    /// Takes in how much work there was.
    pub fn settle(&self, reserved: Reserved, work: Work) {
        let Reserved { user, most, charged } = reserved;
        let table = &mut *self.0.borrow_mut();
        let now = table.now;
        table.requests.take_back(&user, most.without(work), charged, now);
        table.requests.spend(user, work.without(most), now);
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
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;

    const ADA: UserId = UserId(Uuid::from_u128(1));
    /// Less than the work that may come at once, at 100 milliseconds a second.
    const MOST: Work = Work::micros(150_000);

    fn budgets() -> UserBudgets {
        UserBudgets::new(NonZeroU32::new(100))
    }

    fn is_within(budgets: &UserBudgets) -> bool {
        budgets.standing(ADA, Purse::Requests) == Standing::Within
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
}
