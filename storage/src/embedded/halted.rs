//! Which merges are not tried again until the next start, because they have failed at a damaged block.

use parking_lot::Mutex;

use super::tiers::Part;
use crate::keys::Table;

/// The parts of all trees that are not merged.
#[derive(Default)]
pub struct Halted([Mutex<HaltedParts>; Table::COUNT]);

/// The parts of one tree that are not merged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HaltedParts {
    /// The runs near the top are moved down as they are, until none is left there.
    pub shallow: bool,
    /// Nothing is merged further down, until the next start.
    pub deep: bool,
    /// Runs were moved down past damage. They are merged, if at all, by the deep part.
    was_set_aside: bool,
}

impl HaltedParts {
    /// Whether a merge of this tree has failed.
    pub fn any(self) -> bool {
        self.shallow || self.deep || self.was_set_aside
    }
}

impl Halted {
    /// What is halted of this table's tree.
    pub fn parts(&self, table: Table) -> HaltedParts {
        *self.0[table as usize].lock()
    }

    /// Takes in that a merge has failed.
    pub fn halt(&self, table: Table, part: Part) {
        let mut parts = self.0[table as usize].lock();
        match part {
            Part::Shallow => parts.shallow = true,
            Part::Deep => parts.deep = true,
        }
    }

    /// Takes in that no run is left near the top that was there when a merge failed.
    pub fn set_aside(&self, table: Table) {
        let mut parts = self.0[table as usize].lock();
        (parts.shallow, parts.was_set_aside) = (false, true);
    }
}
