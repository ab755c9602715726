//! How far the figures of two runs may differ by chance alone.

use crate::base::words::{self, ratio};
use crate::checks::latency::Latency;
use crate::plan::draws::Draws;
use crate::report::course::{Point, Timeline};

/// The most blocks into which a run is cut. Neighbouring seconds are alike, so a block is drawn as a whole.
const BLOCKS_MAX: usize = 60;
/// With fewer blocks, chance and change cannot be told apart.
const BLOCKS_MIN: usize = 5;
/// How many times a run is drawn again.
const DRAWS: u64 = 400;
/// The middle part of the draws' differences that counts as chance.
const CONFIDENCE: f64 = 0.95;
/// The figures of two equal runs on a quiet machine still differ by this much.
const PART_MIN: f64 = 0.05;
/// The seed of the draws: the same reports always give the same result.
const SEED: u64 = 1;

/// A figure that is computed from seconds.
pub struct Figure {
    pub name: &'static str,
    pub shown: fn(f64) -> String,
    of: fn(&Block) -> Option<f64>,
    more_is: Better,
}

#[derive(Clone, Copy, PartialEq)]
enum Better {
    Better,
    Worse,
}

pub const FIGURES: [Figure; 8] = [
    Figure { name: "deliveries/s", shown: words::number, of: Block::deliveries_a_second, more_is: Better::Better },
    Figure { name: "p50", shown: words::duration, of: |block| block.latency(0.5), more_is: Better::Worse },
    Figure { name: "p90", shown: words::duration, of: |block| block.latency(0.9), more_is: Better::Worse },
    Figure { name: "p99", shown: words::duration, of: |block| block.latency(0.99), more_is: Better::Worse },
    Figure { name: "p99.9", shown: words::duration, of: |block| block.latency(0.999), more_is: Better::Worse },
    Figure { name: "max", shown: words::duration, of: |block| block.latency(1.0), more_is: Better::Worse },
    Figure {
        name: "server CPU per delivery",
        shown: words::duration,
        of: Block::server_cpu_a_delivery,
        more_is: Better::Worse,
    },
    Figure { name: "server memory, most", shown: words::bytes, of: Block::server_resident, more_is: Better::Worse },
];

/// Some measured seconds taken together.
#[derive(Clone)]
struct Block {
    seconds: u64,
    delivered: u64,
    delivery: Latency,
    server_cpu_us: Option<u64>,
    server_resident_bytes: Option<u64>,
}

impl Block {
    fn empty() -> Self {
        Self {
            seconds: 0,
            delivered: 0,
            delivery: Latency::coarse(),
            server_cpu_us: Some(0),
            server_resident_bytes: Some(0),
        }
    }

    fn add_second(&mut self, point: &Point) {
        let server = point.second.server;
        self.add(&Self {
            seconds: 1,
            delivered: point.second.progress.delivered,
            delivery: point.second.delivery.clone(),
            server_cpu_us: server.map(|server| server.cpu_us),
            server_resident_bytes: server.map(|server| server.resident_bytes),
        });
    }

    fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.delivered += other.delivered;
        self.delivery.add(&other.delivery);
        // If the server was not read in one second, the sum has no figure of the server.
        self.server_cpu_us = self.server_cpu_us.zip(other.server_cpu_us).map(|(one, more)| one + more);
        self.server_resident_bytes =
            self.server_resident_bytes.zip(other.server_resident_bytes).map(|(one, more)| one.max(more));
    }

    fn deliveries_a_second(&self) -> Option<f64> {
        Some(ratio(self.delivered as f64, self.seconds as f64))
    }

    /// `None` when the run had no latency to show.
    fn latency(&self, quantile: f64) -> Option<f64> {
        (!self.delivery.is_empty()).then(|| self.delivery.at_quantile_us(quantile) as f64)
    }

    fn server_cpu_a_delivery(&self) -> Option<f64> {
        let cpu_us = self.server_cpu_us.filter(|_| self.delivered > 0)?;
        Some(ratio(cpu_us as f64, self.delivered as f64))
    }

    fn server_resident(&self) -> Option<f64> {
        self.server_resident_bytes.map(|bytes| bytes as f64)
    }
}

/// A run's measured time in blocks, and many random draws of these blocks.
pub struct Sample {
    whole: Block,
    draws: Vec<Block>,
}

impl Sample {
    /// `side` is another number for each run, so that the two runs have independent draws.
    pub fn of(timeline: &Timeline, side: u64) -> Self {
        let measured: Vec<&Point> = timeline.seconds.iter().filter(|point| point.measured).collect();
        let blocks: Vec<Block> = measured.chunks(measured.len().div_ceil(BLOCKS_MAX).max(1)).map(block).collect();
        let mut whole = Block::empty();
        blocks.iter().for_each(|block| whole.add(block));
        let draws = if blocks.len() < BLOCKS_MIN { 0 } else { DRAWS };
        Self { whole, draws: (0..draws).map(|number| draw(&blocks, side, number)).collect() }
    }
}

fn block(points: &[&Point]) -> Block {
    let mut block = Block::empty();
    points.iter().for_each(|point| block.add_second(point));
    block
}

/// As many blocks as there are, each drawn at random from all of them.
fn draw(blocks: &[Block], side: u64, number: u64) -> Block {
    let mut chance = Draws::new(SEED, side, number);
    let mut drawn = Block::empty();
    for _ in blocks {
        drawn.add(&blocks[chance.below(blocks.len() as u64) as usize]);
    }
    drawn
}

/// The change of one figure.
pub struct Change {
    pub before: f64,
    pub after: f64,
    /// Half the width of the differences by chance, as a part of the figure; `None` for short runs.
    pub by_chance: Option<f64>,
    /// Whether the change is larger than chance explains.
    is_real: bool,
    more_is: Better,
}

impl Change {
    /// `None` when one of the runs does not have the figure.
    pub fn between(figure: &Figure, before: &Sample, after: &Sample) -> Option<Self> {
        let (one, other) = ((figure.of)(&before.whole)?, (figure.of)(&after.whole)?);
        let drawn = |sample: &Sample| sample.draws.iter().map(|block| (figure.of)(block)).collect::<Option<Vec<f64>>>();
        // If even one draw of a run lacks the figure, as it has too few deliveries, chance is not known.
        let (draws_before, draws_after) = drawn(before).zip(drawn(after)).unwrap_or_default();
        let mut differences: Vec<f64> =
            draws_before.iter().zip(&draws_after).map(|(before, after)| after - before).collect();
        differences.sort_by(f64::total_cmp);
        let mut change = Self { before: one, after: other, by_chance: None, is_real: false, more_is: figure.more_is };
        if let Some((lowest, highest)) = middle(&differences) {
            change.by_chance = Some(ratio((highest - lowest) / 2.0, one.abs()));
            change.is_real = (lowest > 0.0 || highest < 0.0) && change.part().abs() > PART_MIN;
        }
        Some(change)
    }

    /// The change as a part of the value before; infinite if that was zero and this is not.
    pub fn part(&self) -> f64 {
        match self.after - self.before {
            change if self.before == 0.0 && change != 0.0 => f64::INFINITY.copysign(change),
            change => ratio(change, self.before.abs()),
        }
    }

    /// The change for people.
    pub fn text(&self) -> String {
        let part = self.part();
        if part.is_finite() { format!("{:+.1} %", part * 100.0) } else { "from zero".to_owned() }
    }

    pub fn verdict(&self) -> &'static str {
        let more = self.after > self.before;
        match (self.by_chance, self.is_real) {
            (None, _) => "too short to tell",
            (Some(_), false) => "no change",
            (Some(_), true) if more == (self.more_is == Better::Better) => "better",
            (Some(_), true) => "worse",
        }
    }
}

/// The lowest and the highest value of the middle part of the sorted values.
fn middle(sorted: &[f64]) -> Option<(f64, f64)> {
    debug_assert!(sorted.is_sorted_by(|one, next| one <= next), "the draws are sorted");
    let outside = ((1.0 - CONFIDENCE) / 2.0 * sorted.len() as f64) as usize;
    Some((*sorted.get(outside)?, *sorted.get(sorted.len().checked_sub(1 + outside)?)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::costs::series::{Second, Series, ServerSecond};
    use crate::report::Course;

    const SECOND_NS: u64 = 1_000_000_000;

    /// A run of `seconds` seconds, each with deliveries at these latencies in milliseconds, varied a little at random.
    fn sample(seconds: u64, seed: u64, latencies_ms: &[u64], cpu_us: u64) -> Sample {
        let mut series = Series::default();
        for at in 0..seconds {
            let mut chance = Draws::new(seed, 7, at);
            let mut second = Second::new(at);
            second.progress.delivered = 1_000 + chance.below(100);
            for _ in 0..10 {
                let jitter = |ms: &u64| ms * 1_000_000 + chance.below(ms * 200_000);
                let moved: Vec<u64> = latencies_ms.iter().map(jitter).collect();
                moved.into_iter().for_each(|ns| second.delivery.record_ns(ns));
            }
            second.server = Some(ServerSecond { cpu_us, resident_bytes: 1 << 20 });
            series.add(second);
        }
        let course = Course { series, window: 0..seconds * SECOND_NS, ..Course::default() };
        Sample::of(&course.timeline(true), seed)
    }

    fn verdicts(before: &Sample, after: &Sample) -> Vec<(&'static str, &'static str)> {
        let verdict = |figure: &Figure| Some((figure.name, Change::between(figure, before, after)?.verdict()));
        FIGURES.iter().filter_map(verdict).filter(|(_, verdict)| *verdict != "no change").collect()
    }

    #[test]
    fn the_same_again_is_no_change_and_a_real_one_is() {
        let one = sample(30, 1, &[5, 6, 7, 8, 40], 9_000);
        assert_eq!(verdicts(&one, &sample(30, 2, &[5, 6, 7, 8, 40], 9_000)), []);
        let slower = sample(30, 3, &[10, 12, 14, 16, 40], 9_000);
        assert_eq!(verdicts(&one, &slower), [("p50", "worse")]);
        assert_eq!(verdicts(&slower, &one), [("p50", "better")]);
        let dearer = sample(200, 4, &[5, 6, 7, 8, 40], 18_000);
        assert_eq!(verdicts(&one, &dearer), [("server CPU per delivery", "worse")]);
    }

    #[test]
    fn a_short_run_cannot_tell() {
        let short = sample(4, 1, &[5], 9_000);
        let long = sample(30, 1, &[50], 9_000);
        assert!(verdicts(&short, &long).iter().all(|(_, verdict)| *verdict == "too short to tell"));
        assert_eq!(verdicts(&short, &long).len(), FIGURES.len());
    }

    #[test]
    fn a_figure_that_was_zero_has_changed_when_it_is_not() {
        let silent = {
            let mut series = Series::default();
            (0..30).for_each(|at| series.add(Second::new(at)));
            let course = Course { series, window: 0..30 * SECOND_NS, ..Course::default() };
            Sample::of(&course.timeline(true), 1)
        };
        let busy = sample(30, 2, &[5], 9_000);
        let change = Change::between(&FIGURES[0], &silent, &busy).expect("deliveries a second");
        assert_eq!((change.text().as_str(), change.verdict()), ("from zero", "better"));
        let back = Change::between(&FIGURES[0], &busy, &silent).expect("deliveries a second");
        assert_eq!((back.text().as_str(), back.verdict()), ("-100.0 %", "worse"));
        let same = Change::between(&FIGURES[0], &silent, &silent).expect("deliveries a second");
        assert_eq!((same.text().as_str(), same.verdict()), ("+0.0 %", "no change"));
    }

    /// With a delivery in few seconds only, some draws have none, and a latency of nothing is no figure.
    #[test]
    fn a_run_with_too_few_deliveries_cannot_tell_its_latencies() {
        let sparse = |side| {
            let mut series = Series::default();
            for at in 0..30 {
                let mut second = Second::new(at);
                if at == 7 {
                    second.progress.delivered = 1;
                    second.delivery.record_ns(5_000_000);
                }
                series.add(second);
            }
            let course = Course { series, window: 0..30 * SECOND_NS, ..Course::default() };
            Sample::of(&course.timeline(true), side)
        };
        let change = Change::between(&FIGURES[1], &sparse(1), &sparse(2)).expect("both have a latency");
        assert_eq!((change.by_chance, change.verdict()), (None, "too short to tell"));
    }

    #[test]
    fn the_middle_leaves_out_as_many_on_both_sides() {
        let numbers = |count: u32| (0..count).map(f64::from).collect::<Vec<f64>>();
        for (count, expected) in [
            (0, None),
            (1, Some((0.0, 0.0))),
            (2, Some((0.0, 1.0))),
            (40, Some((1.0, 38.0))),
            (400, Some((10.0, 389.0))),
        ] {
            assert_eq!(middle(&numbers(count)), expected, "{count} draws");
        }
    }

    #[test]
    fn what_one_run_does_not_have_is_left_out() {
        let mut one = sample(30, 1, &[5], 9_000);
        one.whole.delivery = Latency::coarse();
        let names: Vec<_> = FIGURES
            .iter()
            .filter(|figure| Change::between(figure, &one, &sample(30, 2, &[5], 9_000)).is_some())
            .map(|figure| figure.name)
            .collect();
        assert_eq!(names, ["deliveries/s", "server CPU per delivery", "server memory, most"]);
    }
}
