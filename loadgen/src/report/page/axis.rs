//! Axes: where their ticks are, and the ticks' labels.
//!
//! Every axis is linear in its own coordinate. Logarithms are taken here, so the drawing code does not use them.

use std::ops::Range;

use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};

use crate::base::words;

/// What an axis measures.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Scale {
    /// Seconds of the run; they may be negative.
    Seconds,
    /// Quantiles, wider towards 1: the coordinate is the number of nines.
    Nines,
    /// Durations in microseconds, on a logarithmic scale.
    Duration,
    /// Any number from zero on.
    Number,
    /// Whole numbers from one on, on a logarithmic scale.
    Count,
    Bytes,
}

/// A range of coordinates with its ticks.
#[derive(Clone, PartialEq, Debug)]
pub struct Axis {
    pub from: f64,
    pub to: f64,
    pub ticks: Vec<(f64, String)>,
}

/// The shortest duration on a logarithmic axis: nothing finer than a microsecond is measured.
const DURATION_US_MIN: f64 = 1.0;
/// The possible steps between ticks of seconds.
const SECONDS: [f64; 14] =
    [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0, 7_200.0];

impl Scale {
    /// The coordinate of a value.
    pub fn place(self, value: f64) -> f64 {
        match self {
            Self::Duration => value.max(DURATION_US_MIN).log10(),
            Self::Count => value.max(1.0).log10(),
            // A quantile of 1 has infinitely many nines; the caller limits it first.
            Self::Nines => -(1.0 - value).max(f64::MIN_POSITIVE).log10(),
            Self::Seconds | Self::Number | Self::Bytes => value,
        }
    }

    /// An axis that contains all of these coordinates, with about this many ticks.
    pub fn axis(self, places: impl Iterator<Item = f64>, ticks: usize) -> Axis {
        let (least, most) = places.fold((f64::MAX, f64::MIN), |(least, most), at| (least.min(at), most.max(at)));
        let (least, most) = if least <= most { (least, most) } else { (0.0, 0.0) };
        let axis = match self {
            Self::Seconds => seconds(least, most, ticks),
            Self::Nines => nines(most, ticks),
            Self::Duration => powers(least, most, ticks, 1, round_duration),
            Self::Count => {
                // The labels are long, and stand side by side on a horizontal axis.
                let every = ((most.ceil() - least.floor()) as usize).div_ceil(ticks).max(1);
                powers(least, most, ticks, every, |count| words::grouped(count.round() as u64))
            }
            Self::Number => linear(most, ticks, 10.0, round_number),
            Self::Bytes => linear(most, ticks, 1024.0, |bytes, _| round_bytes(bytes)),
        };
        debug_assert!(axis.from < axis.to && axis.ticks.is_sorted_by(|one, next| one.0 < next.0), "{axis:?}");
        axis
    }
}

impl Ranged for Axis {
    type ValueType = f64;
    type FormatOption = NoDefaultFormatting;

    fn map(&self, at: &f64, (low, high): (i32, i32)) -> i32 {
        let part = (at - self.from) / (self.to - self.from);
        low + (part * f64::from(high - low)).round() as i32
    }

    /// All ticks have lines of the same weight: the library's lighter lines are left out.
    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.iter().map(|(at, _)| *at).collect() }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, at: &f64) -> String {
        self.ticks.iter().find(|(tick, _)| tick == at).map(|(_, text)| text.clone()).unwrap_or_default()
    }
}

fn seconds(least: f64, most: f64, ticks: usize) -> Axis {
    let (from, to) = (least.floor(), most.ceil().max(least.floor() + 1.0));
    let fits = |step: &&f64| (to - from) / **step <= ticks as f64;
    let step = SECONDS.iter().find(fits).copied().unwrap_or(SECONDS[SECONDS.len() - 1]);
    let first = (from / step).ceil() as i64;
    let ticks = (first..).map(|tick| tick as f64 * step).take_while(|at| *at <= to);
    Axis { from, to, ticks: ticks.map(|at| (at, format!("{at:.0} s"))).collect() }
}

fn nines(most: f64, ticks: usize) -> Axis {
    let to = most.max(1.0);
    // `to` may be slightly below a whole number of nines because of rounding.
    let whole = (to + 1e-6) as u32;
    let step = (whole as usize + 1).div_ceil(ticks);
    let label = |tick: u32| match tick {
        0 => "0 %".to_owned(),
        1 => "90 %".to_owned(),
        2 => "99 %".to_owned(),
        more => format!("99.{} %", "9".repeat(more as usize - 2)),
    };
    let ticks = (0..=whole).step_by(step).map(|tick| (f64::from(tick), label(tick)));
    Axis { from: 0.0, to: to.max(f64::from(whole)), ticks: ticks.collect() }
}

/// Every `every`-th power of ten; if these are too few, also two and five times each power.
fn powers(least: f64, most: f64, ticks: usize, every: usize, label: fn(f64) -> String) -> Axis {
    let (from, to) = (least.floor(), most.ceil().max(least.floor() + 1.0));
    let decades = (from as i32..=to as i32).step_by(every);
    let between: &[f64] = if ((to - from) as usize) * 3 <= ticks { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let places = decades.flat_map(|decade| between.iter().map(move |times| times * 10_f64.powi(decade)));
    let inside = places.map(|value| (value.log10(), value)).filter(|(at, _)| *at <= to + 1e-9);
    Axis { from, to, ticks: inside.map(|(at, value)| (at, label(value))).collect() }
}

/// One, two or five of some unit, without the decimals of a measured duration.
fn round_duration(us: f64) -> String {
    match us {
        _ if us < 1e3 => format!("{us:.0} µs"),
        _ if us < 1e6 => format!("{:.0} ms", us / 1e3),
        _ => format!("{:.0} s", us / 1e6),
    }
}

/// From zero in steps of one, two or five times a power of the base, up to a whole step.
fn linear(most: f64, ticks: usize, base: f64, label: fn(f64, f64) -> String) -> Axis {
    let most = if most > 0.0 { most } else { 1.0 };
    let rough = most / ticks as f64;
    let power = base.powf(rough.log(base).floor());
    let steps: &[f64] = if base == 10.0 { &[1.0, 2.0, 5.0, 10.0] } else { &BINARY_STEPS };
    let step = power * steps.iter().find(|step| **step * power >= rough).unwrap_or(&base);
    // A line along the upper edge would look cut off.
    let count = (most / step * HEADROOM).ceil().max(1.0) as u32;
    let ticks = (0..=count).map(|tick| f64::from(tick) * step);
    Axis { from: 0.0, to: f64::from(count) * step, ticks: ticks.map(|at| (at, label(at, step))).collect() }
}

/// With as many decimals as the step between ticks needs.
fn round_number(number: f64, step: f64) -> String {
    if step >= 1.0 {
        return words::grouped(number.round() as u64);
    }
    format!("{number:.*}", (-step.log10()).ceil() as usize)
}

/// Without the trailing zeros of a measured size.
fn round_bytes(bytes: f64) -> String {
    let text = words::bytes(bytes);
    let (number, unit) = text.split_once(' ').unwrap_or((&text, ""));
    let number = if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number };
    format!("{number} {unit}")
}

const HEADROOM: f64 = 1.02;
const BINARY_STEPS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn an_axis_holds_all_values_and_has_a_bounded_number_of_ticks(
            values in proptest::collection::vec(0.0_f64..1e12, 0..20),
            ticks in 3_usize..13,
        ) {
            for scale in [Scale::Seconds, Scale::Duration, Scale::Number, Scale::Count, Scale::Bytes, Scale::Nines] {
                let of = |value: &f64| match scale {
                    // Two hours at most, and quantiles.
                    Scale::Seconds => value % 7_200.0,
                    Scale::Nines => (value / 1e12).min(0.999_999),
                    _ => *value,
                };
                let places: Vec<f64> = values.iter().map(|value| scale.place(of(value))).collect();
                let axis = scale.axis(places.iter().copied(), ticks);
                assert!(places.iter().all(|at| axis.from <= *at && *at <= axis.to), "{scale:?}: {axis:?}");
                assert!((1..=3 * ticks + 3).contains(&axis.ticks.len()), "{scale:?}: {} ticks", axis.ticks.len());
                let inside = axis.ticks.iter().all(|(at, _)| axis.from - 1e-9 <= *at && *at <= axis.to + 1e-9);
                assert!(inside, "{scale:?}: {axis:?}");
                let labels: std::collections::HashSet<&str> = axis.ticks.iter().map(|(_, text)| text.as_str()).collect();
                assert_eq!(labels.len(), axis.ticks.len(), "{scale:?}: two ticks have one label: {axis:?}");
            }
        }
    }

    #[test]
    fn ticks_are_round_and_hold_everything() {
        let check = |scale: Scale, values: &[f64], ticks, expected: &[&str]| {
            let axis = scale.axis(values.iter().map(|value| scale.place(*value)), ticks);
            assert_eq!(axis.ticks.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>(), expected, "{values:?}");
            let places = values.iter().map(|value| scale.place(*value));
            assert!(places.clone().all(|at| axis.from <= at && at <= axis.to), "{values:?} in {axis:?}");
            assert!(axis.from < axis.to);
        };
        check(Scale::Seconds, &[-4.4, 8.0], 8, &["-4 s", "-2 s", "0 s", "2 s", "4 s", "6 s", "8 s"]);
        check(Scale::Seconds, &[-12.0, 610.0], 8, &["0 s", "120 s", "240 s", "360 s", "480 s", "600 s"]);
        check(Scale::Seconds, &[3.0], 8, &["3 s", "4 s"]);
        check(Scale::Nines, &[0.0, 0.9995], 8, &["0 %", "90 %", "99 %", "99.9 %"]);
        check(Scale::Nines, &[0.999_999], 4, &["0 %", "99 %", "99.99 %", "99.9999 %"]);
        check(Scale::Nines, &[0.5], 8, &["0 %", "90 %"]);
        check(Scale::Duration, &[30.0, 4e6], 6, &["10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s", "10 s"]);
        check(Scale::Duration, &[1_500.0, 9_000.0], 6, &["1 ms", "2 ms", "5 ms", "10 ms"]);
        check(Scale::Duration, &[0.0], 6, &["1 µs", "2 µs", "5 µs", "10 µs"]);
        check(Scale::Count, &[10.0, 18_333.0], 4, &["10", "100", "1,000", "10,000", "100,000"]);
        check(Scale::Count, &[2.0, 5.0], 4, &["1", "2", "5", "10"]);
        check(Scale::Count, &[1.0, 999_999.0], 4, &["1", "100", "10,000", "1,000,000"]);
        check(Scale::Number, &[0.0, 20_050.0], 5, &["0", "5,000", "10,000", "15,000", "20,000", "25,000"]);
        check(Scale::Number, &[20.0], 5, &["0", "5", "10", "15", "20", "25"]);
        check(Scale::Number, &[0.93], 5, &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        check(Scale::Number, &[], 5, &["0.0", "0.2", "0.4", "0.6", "0.8", "1.0", "1.2"]);
        check(Scale::Bytes, &[100e6], 5, &["0 B", "32 MiB", "64 MiB", "96 MiB", "128 MiB"]);
        check(Scale::Bytes, &[5e9], 5, &["0 B", "1 GiB", "2 GiB", "3 GiB", "4 GiB", "5 GiB"]);
        check(Scale::Number, &[0.19], 6, &["0.00", "0.05", "0.10", "0.15", "0.20"]);
    }
}
