//! Spreads the rows of large lists over partitions. The same hash always: it says where rows are.

use storage::group::Group;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// A group has one more shard of members per this many seats.
const SEATS_PER_SHARD: u32 = 10_000;
/// Most shards of a group: a page of its members reads all of them.
const MEMBER_SHARDS_MAX: u32 = 128;

/// How many partitions a group's members are in.
pub fn shards_of(group: &Group) -> i32 {
    let shards = group.max_count.div_ceil(SEATS_PER_SHARD).clamp(1, MEMBER_SHARDS_MAX);
    i32::try_from(shards).unwrap_or(1)
}

/// The shard of an id, among `shards` shards.
pub fn shard_of(value: Uuid, shards: i32) -> i32 {
    assert!(shards > 0, "a list has at least one shard");
    (xxh3_64(value.as_bytes()) % shards as u64) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows lie where these numbers say: if one of them changes, stored rows are no longer found.
    #[test]
    fn shards_stay_as_they_are() {
        let of = |number, shards| shard_of(Uuid::from_u128(number), shards);
        assert_eq!([of(0, 1), of(7, 1)], [0, 0]);
        assert_eq!([0, 1, 7, u128::MAX].map(|number| of(number, 16)), [8, 11, 0, 3]);
        assert_eq!([0, 1, 7, u128::MAX].map(|number| of(number, 128) % 16), [8, 11, 0, 3]);
    }
}
