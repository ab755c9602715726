//! What members take with them when they leave an audience: the part of its log that they were still owed.
//!
//! Many members may leave at once, each some MiB behind. So they share their tails: a part of a log is copied once for all
//! of them, and the copy is freed when the last of them has read it. Copies count as bytes of logs.

use std::ops::{Deref, Range};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::fanout::log::{FrameLog, Position};

/// The most copies of one log that members share. A log of which more copies are alive is copied for each member.
const COPIES_MAX: usize = 64;

/// Bytes of all copies of a shard that are alive.
#[derive(Clone, Default)]
pub struct TailBytes(Arc<AtomicU64>);

impl TailBytes {
    /// The memory that the copies hold.
    pub fn held(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A copy of a part of a log.
struct Copy {
    bytes: Box<[u8]>,
    all: TailBytes,
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

/// A piece of a copy, which members share. It begins and ends between two frames.
pub struct TailPiece {
    copy: Arc<Copy>,
    range: Range<usize>,
}

impl Deref for TailPiece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.copy.bytes[self.range.clone()]
    }
}

/// The copies of one log that are alive, in the order of the log. They do not overlap.
#[derive(Default)]
pub struct Tails(Vec<(Position, Position, Weak<Copy>)>);

impl Tails {
    /// The log between two positions, which must be in it, in pieces. Copies what was not copied yet.
    pub fn take(&mut self, log: &FrameLog, from: Position, to: Position, all: &TailBytes) -> Vec<TailPiece> {
        self.0.retain(|(_, _, copy)| copy.strong_count() > 0);
        let mut pieces = Vec::new();
        let (mut at, mut index) = (from, self.0.partition_point(|&(_, end, _)| end <= from));
        while at < to {
            let known = self.0.get(index).map(|(start, end, copy)| (*start, *end, copy.upgrade()));
            let (start, end, copy) = match known {
                Some((start, end, Some(copy))) if start <= at => (start, end.min(to), copy),
                _ => {
                    let end = known.map_or(to, |(start, _, _)| start.min(to));
                    let bytes: Box<[u8]> = log.range(at, end).into();
                    all.0.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                    let copy = Arc::new(Copy { bytes, all: all.clone() });
                    if self.0.len() < COPIES_MAX {
                        self.0.insert(index, (at, end, Arc::downgrade(&copy)));
                    } else {
                        index = index.wrapping_sub(1);
                    }
                    (at, end, copy)
                }
            };
            let range = (at.0 - start.0) as usize..(end.0 - start.0) as usize;
            pieces.push(TailPiece { copy, range });
            at = end;
            index = index.wrapping_add(1);
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fanout::log::Run;

    fn log_of(bytes: usize) -> FrameLog {
        let mut log = FrameLog::default();
        log.append(&Run { bytes: (0..bytes).map(|number| number as u8).collect(), marks: Vec::new() });
        log
    }

    #[test]
    fn members_that_leave_together_share_one_copy() {
        let (log, all, mut tails) = (log_of(1000), TailBytes::default(), Tails::default());
        let held: Vec<_> = (0..400).map(|from| tails.take(&log, Position(from), Position(1000), &all)).collect();
        // The first copy begins at the first member's position, and covers all others.
        assert_eq!(all.held(), 1000);
        assert!(held.iter().all(|pieces| pieces.len() == 1));
        drop(held);
        assert_eq!(all.held(), 0, "the last reader frees it");
        assert!(tails.take(&log, Position(7), Position(7), &all).is_empty());
    }

    #[test]
    fn more_copies_than_are_shared_are_copied_again() {
        let (log, all, mut tails) = (log_of(1000), TailBytes::default(), Tails::default());
        // Single bytes, every second one, so that each is a copy of its own.
        let held: Vec<_> = (0..COPIES_MAX as u64 + 1)
            .map(|number| tails.take(&log, Position(2 * number), Position(2 * number + 1), &all))
            .collect();
        assert_eq!(all.held(), COPIES_MAX as u64 + 1);
        let again = tails.take(&log, Position(0), Position(3), &all);
        assert_eq!(again.iter().flat_map(|piece| piece.to_vec()).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(all.held(), COPIES_MAX as u64 + 2, "the byte between two copies is copied");
        drop((held, again));
        assert_eq!(all.held(), 0);
    }

    proptest! {
        #[test]
        fn pieces_are_the_log_and_no_part_is_copied_twice(
            ranges in prop::collection::vec((0u64..300, 0u64..300, any::<bool>()), 1..40)
        ) {
            let (log, all, mut tails) = (log_of(300), TailBytes::default(), Tails::default());
            let mut held = Vec::new();
            for (one, other, keep) in ranges {
                let (from, to) = (Position(one.min(other)), Position(one.max(other)));
                let pieces = tails.take(&log, from, to, &all);
                let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
                prop_assert_eq!(&bytes[..], log.range(from, to));
                prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
                if keep {
                    held.push(pieces);
                }
                prop_assert!(all.held() <= 300, "{} bytes of 300", all.held());
            }
            drop(held);
            prop_assert_eq!(all.held(), 0);
        }
    }
}
