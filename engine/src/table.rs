//! Memory of tables that have become empty.

use std::collections::HashMap;
use std::hash::Hash;

/// Gives a table's memory back when most of it is unused: after many channels have gone. Moves what is left, an eighth at
/// most, so over time each removal pays for less than one entry.
pub fn give_back<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    const KEPT: usize = 1024;
    if table.capacity() > KEPT && table.len() < table.capacity() / 8 {
        table.shrink_to((2 * table.len()).max(KEPT));
    }
}
