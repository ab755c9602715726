//! Frees the memory of tables that have become nearly empty.

use std::collections::HashMap;
use std::hash::Hash;

/// Frees a table's memory if most of it is unused, such as after many channels have ended. This moves the remaining
/// entries, which fill at most an eighth of the table. So over time, each removal pays for moving less than one entry.
pub fn give_back<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    const KEPT: usize = 1024;
    if table.capacity() > KEPT && table.len() < table.capacity() / 8 {
        table.shrink_to((2 * table.len()).max(KEPT));
    }
}
