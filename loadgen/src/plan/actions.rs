//! Which of a publisher's numbers are new messages, and which update or remove an earlier message of the same
//! publisher. This is computed, so every process knows it without communication.
//!
//! Numbers go in cycles. Some positions of a cycle are updates and some are removals, spread evenly. Each one changes a
//! message of the cycle before, and no message is changed twice.

use serde::{Deserialize, Serialize};

/// How many of a hundred numbers are updates, and how many are removals.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ActionShares {
    pub updates: u32,
    pub removals: u32,
}

impl ActionShares {
    /// There must be at least as many new messages as changed ones.
    pub const TOGETHER_MAX: u32 = 50;
}

/// The action of a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Say,
    Update { target: u32 },
    Remove { target: u32 },
}

/// The actions of one cycle.
#[derive(Clone, Debug)]
pub struct Actions {
    roles: Vec<Role>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Say {
        touched: Option<Touch>,
    },
    /// Changes the message at this position of the cycle before.
    Update(u32),
    Remove(u32),
}

/// How a message is changed in the next cycle, and at which position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Touch {
    Update(u32),
    Removal(u32),
}

impl Actions {
    pub fn new(shares: ActionShares) -> Self {
        let ActionShares { updates, removals } = shares;
        let common = [updates, removals].into_iter().fold(100, greatest_common_divisor);
        let cycle = 100 / common;
        let actions = (updates + removals).min(ActionShares::TOGETHER_MAX) / common;
        // The actions are spread evenly over the positions, and the removals evenly over the actions.
        let is_action = |position: u32| (position + 1) * actions / cycle != position * actions / cycle;
        assert!(2 * actions <= cycle, "a message for each of {actions} actions in {cycle}");
        let removals = removals / common;
        let is_removal = |action: u32| actions > 0 && (action + 1) * removals / actions != action * removals / actions;
        let mut said = (0..cycle).filter(|position| !is_action(*position)).collect::<Vec<u32>>().into_iter();
        let mut roles = vec![Role::Say { touched: None }; cycle as usize];
        for (action, position) in (0..).zip((0..cycle).filter(|position| is_action(*position))) {
            // There are at least as many new messages as actions.
            let Some(target) = said.next() else { break };
            let (role, touch) = if is_removal(action) {
                (Role::Remove(target), Touch::Removal(position))
            } else {
                (Role::Update(target), Touch::Update(position))
            };
            roles[position as usize] = role;
            roles[target as usize] = Role::Say { touched: Some(touch) };
        }
        Self { roles }
    }

    fn cycle(&self) -> u32 {
        self.roles.len() as u32
    }

    pub fn of(&self, number: u32) -> Action {
        let (cycle, position) = (number / self.cycle(), number % self.cycle());
        let target = |target| cycle.checked_sub(1).map(|before| before * self.cycle() + target);
        let action = match self.roles[position as usize] {
            Role::Update(position) => target(position).map_or(Action::Say, |target| Action::Update { target }),
            Role::Remove(position) => target(position).map_or(Action::Say, |target| Action::Remove { target }),
            Role::Say { .. } => Action::Say,
        };
        if let Action::Update { target } | Action::Remove { target } = action {
            debug_assert!(target < number && self.is_target(target), "{number} changes {target}, said before");
        }
        action
    }

    /// The number that removes the message with this number, if any does.
    pub fn removal_of(&self, number: u32) -> Option<u32> {
        match self.roles[(number % self.cycle()) as usize] {
            Role::Say { touched: Some(Touch::Removal(position)) } => self.in_next_cycle(number, position),
            _ => None,
        }
    }

    /// Whether the message with this number is updated or removed later, so that its id must be kept.
    pub fn is_target(&self, number: u32) -> bool {
        matches!(self.roles[(number % self.cycle()) as usize], Role::Say { touched: Some(_) })
    }

    fn in_next_cycle(&self, number: u32, position: u32) -> Option<u32> {
        (number / self.cycle() + 1).checked_mul(self.cycle())?.checked_add(position)
    }
}

fn greatest_common_divisor(one: u32, other: u32) -> u32 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_action_is_about_an_earlier_message_that_nothing_else_touches() {
        for (updates, removals) in [(0, 0), (4, 2), (5, 5), (25, 25), (50, 0), (0, 50), (1, 1), (7, 3), (0, 1)] {
            let actions = Actions::new(ActionShares { updates, removals });
            let (mut touched, mut counts) = (HashSet::new(), (0, 0));
            for number in 0..1100 {
                let target = match actions.of(number) {
                    Action::Say => continue,
                    Action::Update { target } => {
                        counts.0 += u32::from(number >= 100);
                        assert_eq!(actions.removal_of(target), None, "{updates}/{removals}: {number}");
                        target
                    }
                    Action::Remove { target } => {
                        counts.1 += u32::from(number >= 100);
                        assert_eq!(actions.removal_of(target), Some(number), "{updates}/{removals}: {number}");
                        target
                    }
                };
                assert!(target < number && actions.of(target) == Action::Say && actions.is_target(target));
                assert!(touched.insert(target), "{updates}/{removals}: {target} is touched twice");
            }
            assert_eq!(counts, (10 * updates, 10 * removals));
        }
    }

    #[test]
    fn a_message_is_touched_well_after_it_was_said() {
        let actions = Actions::new(ActionShares { updates: 4, removals: 2 });
        for number in 0..500 {
            if let Action::Update { target } | Action::Remove { target } = actions.of(number) {
                assert!(number - target >= 25, "{number} is about {target}");
            }
        }
    }
}
