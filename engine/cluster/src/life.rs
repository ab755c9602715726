//! Who takes part in a cluster: lives and the addresses of their shards.
//!
//! Nothing between nodes names a configured node. A node that starts again is another life, so what was meant for the
//! life before never reaches it: its connections begin to count anew, and would be taken for those of the life before.

use std::fmt;

use engine::id::ShardId;

/// A number that the database hands out at each start of a node. It does not come again within a day, so nothing that is
/// still under way can be for a later life with the same number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Life(pub u16);

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A shard of a cluster: a life, and the shard's number in that life's process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ShardAddress {
    pub life: Life,
    pub core: ShardId,
}

impl ShardAddress {
    /// The address in four bytes, in which the order of addresses is that of the numbers.
    pub fn to_bits(self) -> u32 {
        u32::from(self.life.0) << 16 | u32::from(self.core.0)
    }

    /// The address in these bits. Every number is one.
    pub fn from_bits(bits: u32) -> Self {
        Self { life: Life((bits >> 16) as u16), core: ShardId(bits as u16) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn addresses_fit_into_four_bytes(bits: u32, other: u32) {
            let address = ShardAddress::from_bits(bits);
            prop_assert_eq!(address.to_bits(), bits);
            prop_assert_eq!(address.cmp(&ShardAddress::from_bits(other)), bits.cmp(&other));
        }
    }

    #[test]
    fn a_life_is_the_upper_half() {
        let address = ShardAddress { life: Life(0x1234), core: ShardId(0x5678) };
        assert_eq!((address.to_bits(), address.life.to_string()), (0x1234_5678, "4660".to_owned()));
    }
}
