//! Decides which tables of a large tree are merged next, from the contents of its levels.
//!
//! A message's key begins with its channel. So messages of many channels do not arrive in the order of keys, and every
//! new run overlaps all existing ones. Merging each run with all older ones would rewrite a message again and again. So
//! a run is first merged with runs of its own age, and only later with older ones:
//!
//! ```text
//! level 0      runs as memtables leave them
//!   | RUNS_0_MAX of them, merged by way of level 1
//! level 2      runs side by side
//!   | RUNS_2_MAX of them, merged with all of the base level
//! base         one run, of 2 GiB at most; level 6 at first, then 5, then 4
//!   | in parts, as lsm-tree's `Leveled` chooses them
//! below it     one run a level, each level LEVEL_RATIO times the one above
//! ```
//!
//! So a read looks into a bounded number of runs, a merge needs a bounded amount of room on the disk, and the result of
//! a merge is kept even if the program is killed during the next. Tables only pass through level 1, and through level 3
//! of a store that an earlier program merged.

use std::sync::Arc;

use fjall::compaction::Leveled;
use fjall::{AbstractTree, Keyspace};
use lsm_tree::compaction::{CompactionStrategy, MoveDown, PullDown};

/// Levels of a tree.
pub const LEVELS: usize = 7;

/// Level 0 is merged when it has this many runs. fjall makes writers wait at 30.
const RUNS_0_MAX: usize = 4;
/// When level 0 has this many runs, they are moved down unmerged: a server under more load than it can merge, or one
/// that is killed again and again before it has merged anything, must not make writers wait.
const RUNS_0_CROWDED: usize = 16;
/// When level 2 has this many runs, moving more down does not help, because reads would have to look into too many.
/// Writers then wait.
const RUNS_2_CROWDED: usize = 64;
/// A single run of level 0 with this many tables, as one channel makes, is moved down.
const TABLES_0_MAX: usize = 16;
/// Level 2 is merged with the base level when it has this many runs. A page of history must look into each run; a
/// higher bound would save writes.
const RUNS_2_MAX: usize = 8;
/// How many times the size of the level above it a level below the base may have.
const LEVEL_RATIO: u64 = 8;
/// The levels that can be the base.
const BASE_LEVELS: std::ops::RangeInclusive<usize> = 4..=LAST;
const LAST: usize = LEVELS - 1;

/// What one level of a tree holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Level {
    pub runs: usize,
    pub tables: usize,
    pub bytes: u64,
}

/// The levels of a keyspace's tree.
pub fn levels_of(keyspace: &Keyspace) -> [Level; LEVELS] {
    let version = keyspace.tree.current_version();
    let mut levels = [Level::default(); LEVELS];
    for (level, found) in levels.iter_mut().zip(version.iter_levels()) {
        *level = Level { runs: found.run_count(), tables: found.table_count(), bytes: found.size() };
    }
    levels
}

/// The steps that a thread takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// The steps near the top of a tree, and all steps of small tables.
    Shallow,
    /// The steps from level 2 on, of large tables.
    Deep,
}

/// Whether a level below the first has several runs, which no strategy but this file's knows.
pub fn is_tiered(levels: &[Level; LEVELS]) -> bool {
    levels[1..].iter().any(|level| level.runs > 1)
}

/// The next step in a tree.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Tables become part of a lower level unchanged.
    Move { from: u8, to: u8 },
    /// All tables of two levels become one run of the lower level.
    Merge { from: u8, to: u8 },
    /// A part of a level that is too large is merged with the tables of the next level that it overlaps.
    Push { from: u8 },
}

/// The sizes to which tables and levels may grow.
#[derive(Clone, Copy, Debug)]
pub struct Tiers {
    pub table_bytes: u64,
    /// The number of tables that fill the base level. The same size fills level 2, whatever the number of its runs.
    pub base_tables: u8,
}

impl Default for Tiers {
    fn default() -> Self {
        Self { table_bytes: 64 << 20, base_tables: 32 }
    }
}

impl Tiers {
    /// The next step near the top. It is short, and runs beside a long step further down, so that writers never wait
    /// for the long one.
    pub fn next_shallow(self, levels: &[Level; LEVELS]) -> Option<Step> {
        if levels[1].tables > 0 {
            return Some(Step::Move { from: 1, to: 2 });
        }
        if levels[0].runs >= RUNS_0_CROWDED
            && levels[2].runs < RUNS_2_CROWDED
            && let Some(step) = move_down(levels)
        {
            return Some(step);
        }
        if levels[0].runs >= RUNS_0_MAX {
            return Some(Step::Merge { from: 0, to: 1 });
        }
        (levels[0].runs == 1 && levels[0].tables >= TABLES_0_MAX).then_some(Step::Move { from: 0, to: 2 })
    }

    /// The next step by which all runs near the top are moved to level 2 unmerged, however many are there: past a damaged
    /// block that no merge can read. `None` when none is left, or they cannot be moved in order.
    pub fn next_set_aside(self, levels: &[Level; LEVELS]) -> Option<Step> {
        match (levels[1].tables, levels[0].runs) {
            (0, 0) => None,
            (0, 1) => Some(Step::Move { from: 0, to: 2 }),
            (0, _) => move_down(levels),
            _ => Some(Step::Move { from: 1, to: 2 }),
        }
    }

    /// The next step from level 2 on.
    pub fn next_deep(self, levels: &[Level; LEVELS]) -> Option<Step> {
        if levels[3].tables > 0 {
            return Some(Step::Merge { from: 3, to: 4 });
        }
        let base = base(levels);
        let above = |times: u64| {
            let too_large = |&level: &usize| levels[level].bytes > self.bytes_max(level, base) * times;
            (base..LAST).find(too_large).map(|level| Step::Push { from: level as u8 })
        };
        let full = levels[2].runs >= RUNS_2_MAX || levels[2].bytes > self.base_bytes();
        let to = if self.is_over(levels, base) { base - 1 } else { base };
        // If a level is far too large, shrink it first: the merge into it would be too large.
        above(2).or(full.then_some(Step::Merge { from: 2, to: to as u8 })).or(above(1))
    }

    fn base_bytes(self) -> u64 {
        self.table_bytes * u64::from(self.base_tables)
    }

    fn bytes_max(self, level: usize, base: usize) -> u64 {
        debug_assert!(base <= level, "the levels above the base have no size of their own");
        (base..level).fold(self.base_bytes(), |bytes, _| bytes * LEVEL_RATIO)
    }

    /// Whether the base level and all below it are full, so that the base must move one level up.
    fn is_over(self, levels: &[Level; LEVELS], base: usize) -> bool {
        base > *BASE_LEVELS.start() && (base..=LAST).all(|level| levels[level].bytes > self.bytes_max(level, base))
    }

    /// The lsm-tree strategy that takes this step.
    pub fn strategy(self, step: Step, levels: &[Level; LEVELS]) -> Arc<dyn CompactionStrategy + Send + Sync> {
        match step {
            Step::Move { from, to } => {
                assert!(from != to && usize::from(from.max(to)) <= LAST, "tables move to another level");
                Arc::new(MoveDown(from, to))
            }
            Step::Merge { from, to } => {
                assert!(from < to && usize::from(to) <= LAST, "tables are merged into a lower level");
                Arc::new(PullDown(from, to))
            }
            Step::Push { from } => {
                assert!(usize::from(from) < LAST, "there is no level below the last");
                Arc::new(self.push(usize::from(from), levels))
            }
        }
    }

    /// `Leveled` with sizes by which only this level is too large.
    ///
    /// `Leveled` counts levels from the first one that is not empty. The first size is a number of tables; each further
    /// size is a ratio to the one before.
    fn push(self, level: usize, levels: &[Level; LEVELS]) -> Leveled {
        const ENDLESS: f32 = 1e6;
        let bytes_max = self.bytes_max(level, base(levels));
        let first = (1..LEVELS).find(|&level| levels[level].tables > 0).unwrap_or(level);
        if first == level {
            let leveled = Leveled::default().with_l0_threshold(self.base_tables);
            return leveled.with_table_target_size(self.table_bytes).with_level_ratio_policy(vec![ENDLESS]);
        }
        assert!(first < level, "level {level} is too large, so it is not empty: {levels:?}");
        // By these sizes the levels above it are never too large.
        let above = self.table_bytes * u64::from(u8::MAX);
        let mut ratios = vec![1.0; level - first];
        ratios[level - first - 1] = bytes_max as f32 / above as f32;
        ratios.push(ENDLESS);
        Leveled::default()
            .with_l0_threshold(u8::MAX)
            .with_table_target_size(self.table_bytes)
            .with_level_ratio_policy(ratios)
    }

    /// The most bytes that a step reads, and therefore writes.
    pub fn input_max(self, step: Step, levels: &[Level; LEVELS]) -> u64 {
        match step {
            Step::Move { .. } => 0,
            Step::Merge { from, to } => levels[usize::from(from)].bytes + levels[usize::from(to)].bytes,
            // lsm-tree takes at most 50 tables of the next level, and from this level the tables within their key
            // range.
            Step::Push { from } => {
                let from = usize::from(from);
                let part = self.table_bytes * 50;
                part.min(levels[from + 1].bytes) + part.min(levels[from].bytes)
            }
        }
    }
}

/// The step that moves all runs of level 0 to level 2, or makes that possible. lsm-tree orders the moved runs only if level 2
/// has a run already. The next level's run is older, and can serve as that.
fn move_down(levels: &[Level; LEVELS]) -> Option<Step> {
    match (2..LEVELS).find(|&level| levels[level].tables > 0)? {
        2 => Some(Step::Move { from: 0, to: 2 }),
        next if levels[next].runs == 1 => Some(Step::Move { from: next as u8, to: 2 }),
        _ => None,
    }
}

/// The highest level that is one run, or will become one.
fn base(levels: &[Level; LEVELS]) -> usize {
    BASE_LEVELS.clone().find(|&level| levels[level].tables > 0).unwrap_or(LAST)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use fjall::{AbstractTree, Database, Keyspace, KeyspaceCreateOptions};
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore, SeedableRng};

    use super::super::kept_options::inert;
    use super::*;

    const TIERS: Tiers = Tiers { table_bytes: 25, base_tables: 4 };

    /// Levels with this many runs each, every run one table of this many bytes.
    fn levels(runs: [(usize, u64); LEVELS]) -> [Level; LEVELS] {
        runs.map(|(runs, bytes)| Level { runs, tables: runs, bytes: runs as u64 * bytes })
    }

    #[test]
    fn near_the_top() {
        let check = |zero, one, expected: Option<Step>| {
            let levels = levels([zero, one, (7, 9), (0, 0), (0, 0), (0, 0), (1, 90)]);
            assert_eq!(TIERS.next_shallow(&levels), expected);
        };
        check((0, 0), (0, 0), None);
        check((3, 2), (0, 0), None);
        check((4, 2), (0, 0), Some(Step::Merge { from: 0, to: 1 }));
        check((4, 2), (1, 8), Some(Step::Move { from: 1, to: 2 }));
        check((15, 2), (0, 0), Some(Step::Merge { from: 0, to: 1 }));
        check((16, 2), (0, 0), Some(Step::Move { from: 0, to: 2 }));
        for (others, last) in [(0, 0), (RUNS_2_CROWDED, 1)] {
            let levels = levels([(16, 2), (0, 0), (others, 9), (0, 0), (0, 0), (0, 0), (last, 90)]);
            assert_eq!(TIERS.next_shallow(&levels), Some(Step::Merge { from: 0, to: 1 }));
        }
        let of_an_earlier_program = levels([(36, 20), (0, 0), (0, 0), (0, 0), (0, 0), (1, 50), (1, 90)]);
        assert_eq!(TIERS.next_shallow(&of_an_earlier_program), Some(Step::Move { from: 5, to: 2 }));
        let in_disorder = levels([(36, 20), (0, 0), (0, 0), (0, 0), (0, 0), (2, 50), (1, 90)]);
        assert_eq!(TIERS.next_shallow(&in_disorder), Some(Step::Merge { from: 0, to: 1 }));
        let mut side_by_side = levels([(1, 32), (0, 0), (1, 9), (0, 0), (0, 0), (0, 0), (1, 90)]);
        side_by_side[0].tables = TABLES_0_MAX - 1;
        assert_eq!(TIERS.next_shallow(&side_by_side), None);
        side_by_side[0].tables = TABLES_0_MAX;
        assert_eq!(TIERS.next_shallow(&side_by_side), Some(Step::Move { from: 0, to: 2 }));
    }

    #[test]
    fn further_down() {
        let check = |two, [four, five, six]: [u64; 3], expected: Option<Step>| {
            let one = |bytes| (usize::from(bytes > 0), bytes);
            let levels = levels([(3, 2), (0, 0), two, (0, 0), one(four), one(five), one(six)]);
            assert_eq!(TIERS.next_deep(&levels), expected, "{two:?} over {four}, {five}, {six}");
        };
        let merge = |to| Some(Step::Merge { from: 2, to });
        let push = |from| Some(Step::Push { from });
        check((7, 9), [0, 0, 0], None);
        check((8, 9), [0, 0, 0], merge(6));
        check((2, 60), [0, 0, 0], merge(6));
        check((8, 9), [0, 0, 100], merge(6));
        // The base level is full: the next level above becomes the base, and fills.
        check((8, 9), [0, 0, 101], merge(5));
        check((7, 9), [0, 0, 5000], None);
        check((8, 9), [0, 60, 101], merge(5));
        check((7, 9), [0, 101, 101], push(5));
        check((8, 9), [0, 101, 101], merge(5));
        check((8, 9), [0, 201, 101], push(5));
        check((8, 9), [0, 101, 801], merge(4));
        // Then the middle level may hold more.
        check((7, 9), [60, 800, 801], None);
        check((7, 9), [60, 801, 801], push(5));
        check((7, 9), [101, 801, 801], push(4));
        check((8, 9), [101, 900, 9000], merge(4));
        check((8, 9), [201, 900, 9000], push(4));
    }

    #[test]
    fn runs_are_set_aside_past_damage_in_order() {
        let check = |zero: usize, one: usize, two: usize, six: usize, expected: Option<Step>| {
            let run = |runs| (runs, 9);
            let levels = levels([run(zero), run(one), run(two), run(0), run(0), run(0), run(six)]);
            assert_eq!(TIERS.next_set_aside(&levels), expected, "{zero} {one} {two} {six}");
        };
        check(0, 0, 3, 1, None);
        check(4, 1, 3, 1, Some(Step::Move { from: 1, to: 2 }));
        check(4, 0, 3, 1, Some(Step::Move { from: 0, to: 2 }));
        check(4, 0, RUNS_2_CROWDED, 1, Some(Step::Move { from: 0, to: 2 }));
        check(4, 0, 0, 1, Some(Step::Move { from: 6, to: 2 }));
        check(1, 0, 0, 0, Some(Step::Move { from: 0, to: 2 }));
        // Several runs, and none below: lsm-tree would take them for one.
        check(4, 0, 0, 0, None);
    }

    #[test]
    fn levels_of_an_earlier_program_are_passed_through() {
        let levels = levels([(1, 2), (1, 9), (1, 30), (1, 90), (1, 90), (1, 90), (1, 90)]);
        assert_eq!(TIERS.next_shallow(&levels), Some(Step::Move { from: 1, to: 2 }));
        assert_eq!(TIERS.next_deep(&levels), Some(Step::Merge { from: 3, to: 4 }));
    }
    fn open(directory: &tempfile::TempDir) -> (Database, Keyspace) {
        let database = Database::builder(directory.path()).worker_threads(1).open().unwrap();
        let options = || KeyspaceCreateOptions::default().compaction_strategy(Arc::new(inert()));
        let rows = database.keyspace("rows", options).unwrap();
        (database, rows)
    }

    /// Takes steps until there are none; returns the steps taken.
    fn settle(tiers: Tiers, database: &Database, rows: &Keyspace) -> Vec<Step> {
        let mut steps = Vec::new();
        loop {
            let levels = levels_of(rows);
            let Some(step) = tiers.next_shallow(&levels).or(tiers.next_deep(&levels)) else { return steps };
            let version = rows.tree.current_version().id();
            let readable_from = database.supervisor.snapshot_tracker.get_seqno_safe_to_gc();
            rows.tree.compact(tiers.strategy(step, &levels), readable_from).unwrap();
            if rows.tree.current_version().id() == version {
                // `Leveled` takes only tables whose keys lie within those of the next level. A level's only table may
                // not meet this.
                assert!(
                    matches!(step, Step::Push { from } if levels[usize::from(from)].tables < 3),
                    "{step:?} in {levels:?}"
                );
                return steps;
            }
            assert!((base(&levels_of(rows))..LEVELS).all(|level| levels_of(rows)[level].runs <= 1), "after {step:?}");
            steps.push(step);
        }
    }

    fn check(rows: &Keyspace, expected: &BTreeMap<Vec<u8>, Vec<u8>>) {
        let found = rows.iter().map(|row| row.into_inner().unwrap());
        let found: Vec<_> = found.map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert!(found.iter().map(|(key, value)| (key, value)).eq(expected));
        let found: Vec<_> = rows.iter().rev().map(|row| row.key().unwrap().to_vec()).collect();
        assert!(found.iter().eq(expected.keys().rev()));
    }

    #[test]
    fn rows_stay_as_they_are_and_removed_ones_stay_removed() {
        let tiers = Tiers { table_bytes: 16 << 10, base_tables: 8 };
        let directory = tempfile::tempdir().unwrap();
        let (mut database, mut rows) = open(&directory);
        let (mut expected, mut draws) = (BTreeMap::new(), ChaCha8Rng::seed_from_u64(7));
        let (mut base_most, mut crowded) = (0, false);
        for round in 0..160u32 {
            for _ in 0..400 {
                let random = draws.next_u64();
                let key = ((random >> 33) % 30_000).to_be_bytes().repeat(2);
                match random >> 61 {
                    0 => {
                        rows.remove(&key[..]).unwrap();
                        expected.remove(&key);
                    }
                    _ => {
                        let value = [random.to_le_bytes(), u64::from(round).to_le_bytes()].concat().repeat(3);
                        rows.insert(&key[..], &value[..]).unwrap();
                        expected.insert(key, value);
                    }
                }
            }
            rows.rotate_memtable_and_wait().unwrap();
            // For a while nothing is merged.
            let steps = if (60..79).contains(&round) { Vec::new() } else { settle(tiers, &database, &rows) };
            crowded |= steps.first() == Some(&Step::Move { from: 0, to: 2 });
            base_most = base_most.max(LAST - base(&levels_of(&rows)));
            if round % 20 == 19 {
                check(&rows, &expected);
                drop((rows, database));
                (database, rows) = open(&directory);
                check(&rows, &expected);
                for key in 0..300u64 {
                    let key = (key * 100).to_be_bytes().repeat(2);
                    assert_eq!(rows.get(&key).unwrap().as_deref(), expected.get(&key).map(Vec::as_slice));
                }
            }
        }
        assert!(crowded, "runs were moved as they were");
        assert!(base_most > 0, "the base level has moved up: {:?}", levels_of(&rows));
    }

    #[test]
    fn a_full_level_is_pushed_down_in_parts() {
        let tiers = Tiers { table_bytes: 8 << 20, base_tables: 4 };
        let directory = tempfile::tempdir().unwrap();
        let (database, rows) = open(&directory);
        let (mut random, mut pushed) = (ChaCha8Rng::seed_from_u64(7), 0);
        // lsm-tree makes tables of 64 MB when it merges whole levels, and the test needs a level with several of them.
        while pushed == 0 {
            for _ in 0..2000 {
                let mut value = vec![0; 4096];
                random.fill_bytes(&mut value);
                rows.insert(random.next_u32().to_be_bytes(), value).unwrap();
            }
            rows.rotate_memtable_and_wait().unwrap();
            for _ in 0..9 {
                let levels = levels_of(&rows);
                let Some(step) = tiers.next_shallow(&levels).or(tiers.next_deep(&levels)) else { break };
                let readable_from = database.supervisor.snapshot_tracker.get_seqno_safe_to_gc();
                rows.tree.compact(tiers.strategy(step, &levels), readable_from).unwrap();
                let after = levels_of(&rows);
                if let Step::Push { from } = step
                    && after != levels
                {
                    let (level, input) = (usize::from(from), tiers.input_max(step, &levels));
                    assert!(
                        after[level].bytes < levels[level].bytes && after[level + 1].bytes > levels[level + 1].bytes
                    );
                    assert!(after[level].tables == 0 || levels[level].bytes - after[level].bytes < input);
                    pushed += 1;
                }
            }
            assert!(levels_of(&rows).iter().map(|level| level.bytes).sum::<u64>() < 1 << 29, "{:?}", levels_of(&rows));
        }
    }

    /// The state of a store whose server is killed again and again before its first merge is done.
    #[test]
    fn runs_that_pile_up_above_a_lower_level_are_moved_and_stay_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let (database, rows) = open(&directory);
        let mut expected = BTreeMap::new();
        let mut write = |round: u32| {
            for key in (0..1000u32).filter(|key| round == 0 || key % (round + 1) == 0) {
                let (key, value) = (key.to_be_bytes().to_vec(), round.to_be_bytes().repeat(9));
                match round % 5 {
                    4 => {
                        rows.remove(&key[..]).unwrap();
                        expected.remove(&key);
                    }
                    _ => {
                        rows.insert(&key[..], &value[..]).unwrap();
                        expected.insert(key, value);
                    }
                }
            }
            rows.rotate_memtable_and_wait().unwrap();
        };
        write(0);
        let levels = levels_of(&rows);
        rows.tree.compact(TIERS.strategy(Step::Merge { from: 0, to: 6 }, &levels), 0).unwrap();
        (1..=18).for_each(&mut write);
        let mut runs = Vec::new();
        for step in [Step::Move { from: 6, to: 2 }, Step::Move { from: 0, to: 2 }] {
            let levels = levels_of(&rows);
            assert_eq!(TIERS.next_shallow(&levels), Some(step), "{levels:?}");
            rows.tree.compact(TIERS.strategy(step, &levels), 0).unwrap();
            check(&rows, &expected);
            runs.push(levels_of(&rows).map(|level| level.runs));
        }
        assert_eq!(runs, [[18, 0, 1, 0, 0, 0, 0], [0, 0, 19, 0, 0, 0, 0]]);
        settle(TIERS, &database, &rows);
        check(&rows, &expected);
    }

    #[test]
    fn one_channel_s_tables_are_never_written_again() {
        let directory = tempfile::tempdir().unwrap();
        let (database, rows) = open(&directory);
        let tiers = Tiers { table_bytes: 16 << 10, base_tables: 8 };
        for round in 0..60u32 {
            for number in 0..100u32 {
                rows.insert((round * 100 + number).to_be_bytes(), [7; 100]).unwrap();
            }
            rows.rotate_memtable_and_wait().unwrap();
            let steps = settle(tiers, &database, &rows);
            assert!(steps.iter().all(|step| matches!(step, Step::Move { .. })), "{steps:?}");
        }
        assert_eq!(rows.iter().count(), 6000);
    }
}
