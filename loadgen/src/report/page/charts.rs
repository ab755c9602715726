//! The charts of a run: which charts there are, and what they show.

use super::axis::Scale;
use super::chart::{Chart, Line};
use crate::checks::latency::Latency;
use crate::report::Report;
use crate::report::course::{Point, Timeline};

/// A chart of quantiles stops at this many nines: one delivery in a hundred million.
const NINES_MAX: f64 = 8.0;

impl Report {
    /// All charts that have something to show.
    pub fn charts(&self) -> Vec<Chart> {
        let timeline = self.timeline();
        let over_time = [
            self.latency_over_time(&timeline),
            rates(&timeline, "Deliveries", "Deliveries heard in each second", &[("deliveries/s", |p| p.delivered)]),
            rates(
                &timeline,
                "Messages",
                "Messages handed over and answered in each second",
                &[("sent/s", |p| p.sent), ("accepted/s", |p| p.accepted), ("refused/s", |p| p.refused)],
            ),
            rates(&timeline, "Faults", "Faults found in each second", &[("faults/s", |p| p.faults)]),
            connections(&timeline),
            cpu(&timeline),
            memory(&timeline),
        ];
        let over_time = over_time.into_iter().map(|chart| with_marks(chart, &timeline));
        std::iter::once(self.latency_over_percentiles()).chain(over_time).filter(Chart::has_points).collect()
    }

    fn latency_over_percentiles(&self) -> Chart {
        let shown = self.timings.iter().filter(|timing| timing.generator_bound.is_none());
        let mut lines: Vec<Line> = shown.map(|timing| quantiles(timing.name.name(), &timing.latency)).collect();
        lines.push(quantiles("generator lag", &self.results.generator.lag));
        lines.push(quantiles("generator lateness", &self.results.generator.lateness));
        Chart {
            title: "Latency over percentiles",
            caption: "How long the slowest parts took; each step to the right is ten times rarer".to_owned(),
            x: Scale::Nines,
            y: Scale::Duration,
            lines: drawn(lines),
            marks: Vec::new(),
            stretch: None,
            measured: None,
        }
    }

    fn latency_over_time(&self, timeline: &Timeline) -> Chart {
        let quantile = |name, quantile: f64| Line {
            name,
            points: whole(timeline)
                .filter(|point| !point.second.delivery.is_empty())
                .map(|point| (middle(point), point.second.delivery.at_quantile_us(quantile) as f64))
                .collect(),
        };
        let own = |name, of: fn(&Point) -> u64| Line {
            name,
            // A second without a send has no lateness, and zero has no place on a logarithmic axis.
            points: whole(timeline)
                .map(|point| (middle(point), of(point) as f64))
                .filter(|(_, us)| *us > 0.0)
                .collect(),
        };
        let delivery = drawn(vec![quantile("p50", 0.5), quantile("p99", 0.99), quantile("max", 1.0)]);
        let own = [
            own("generator lag, longest", |point| point.second.lag_max_us),
            own("generator lateness, longest", |point| point.second.lateness_max_us),
        ];
        // If deliveries are generator-bound, their seconds are not in the timeline either.
        let (title, caption) = if delivery.is_empty() {
            ("The generator's own delays over time", "How late the generator was by itself in each second")
        } else {
            (
                "Latency over time",
                "Deliveries by the second in which they arrived, and how late the generator was by itself",
            )
        };
        let lines = drawn(delivery.into_iter().chain(own).collect());
        Chart { title, caption: caption.to_owned(), ..over_time(lines, Scale::Duration) }
    }
}

fn quantiles(name: &'static str, latency: &Latency) -> Line {
    if latency.is_empty() {
        return Line { name, points: Vec::new() };
    }
    // The last point stands for a single value out of all recorded values.
    let most = (1.0 - 1.0 / latency.percentiles().count.max(1) as f64).min(1.0 - 10_f64.powf(-NINES_MAX));
    let points = latency.quantiles().map(|(quantile, us)| (quantile.min(most), us as f64));
    Line { name, points: points.collect() }
}

fn over_time(lines: Vec<Line>, y: Scale) -> Chart {
    Chart {
        title: "",
        caption: String::new(),
        x: Scale::Seconds,
        y,
        lines,
        marks: Vec::new(),
        stretch: None,
        measured: None,
    }
}

fn with_marks(chart: Chart, timeline: &Timeline) -> Chart {
    let measured = timeline.measured_secs.map(|[begin, end]| (begin, end));
    let (first, last) = (whole(timeline).next(), whole(timeline).last());
    let stretch = first.zip(last).map(|(first, last)| (first.at_secs as f64, last.at_secs as f64 + 1.0));
    Chart { marks: timeline.marks.iter().map(|mark| mark.at_secs).collect(), stretch, measured, ..chart }
}

/// The seconds that all processes have reported. The last one is left out, as the end of the run may have cut it short.
fn whole(timeline: &Timeline) -> impl Iterator<Item = &Point> {
    let last = timeline.seconds.len().saturating_sub(1);
    timeline
        .seconds
        .iter()
        .enumerate()
        .filter(move |(at, point)| *at < last || point.is_whole())
        .map(|(_, point)| point)
}

/// The position of a second's figure on the time axis.
fn middle(point: &Point) -> f64 {
    point.at_secs as f64 + 0.5
}

type Count = fn(&crate::costs::progress::Progress) -> u64;

fn rates(timeline: &Timeline, title: &'static str, caption: &str, counts: &[(&'static str, Count)]) -> Chart {
    let line = |(name, count): &(&'static str, Count)| Line {
        name,
        points: whole(timeline).map(|point| (middle(point), count(&point.second.progress) as f64)).collect(),
    };
    let lines = counts.iter().map(line).filter(|line| line.points.iter().any(|(_, y)| *y > 0.0)).collect();
    Chart { title, caption: caption.to_owned(), ..over_time(lines, Scale::Number) }
}

fn connections(timeline: &Timeline) -> Chart {
    let before = timeline.seconds.first().map(|point| (point.at_secs as f64, 0.0));
    let points = whole(timeline).map(|point| (point.at_secs as f64 + 1.0, point.present as f64));
    let line = Line { name: "users present", points: before.into_iter().chain(points).collect() };
    Chart {
        title: "Present",
        caption: "Users in their rooms at the end of each second".to_owned(),
        ..over_time(vec![line], Scale::Number)
    }
}

fn cpu(timeline: &Timeline) -> Chart {
    let cores = |us: u64| us as f64 / 1e6;
    let server = whole(timeline).filter_map(|point| Some((middle(point), cores(point.second.server?.cpu_us))));
    let generator = whole(timeline).map(|point| (middle(point), cores(point.second.generator_cpu_us)));
    let thread = whole(timeline).map(|point| (middle(point), cores(point.second.thread_cpu_us)));
    let lines = vec![
        Line { name: "server", points: server.collect() },
        Line { name: "generator", points: generator.collect() },
        Line { name: "generator's busiest thread", points: thread.collect() },
    ];
    Chart {
        title: "CPU",
        caption: "Cores kept busy in each second".to_owned(),
        ..over_time(drawn(lines), Scale::Number)
    }
}

fn memory(timeline: &Timeline) -> Chart {
    let server = whole(timeline).filter_map(|point| Some((middle(point), point.second.server?.resident_bytes as f64)));
    let generator = whole(timeline).filter(|point| point.is_whole());
    let generator = generator.map(|point| (middle(point), point.second.generator_resident_bytes as f64));
    let lines = vec![
        Line { name: "server", points: server.collect() },
        Line { name: "generator", points: generator.collect() },
    ];
    Chart {
        title: "Memory",
        caption: "Resident memory of all processes at the end of each second".to_owned(),
        ..over_time(drawn(lines), Scale::Bytes)
    }
}

/// The lines that have points; the others were not measured.
fn drawn(lines: Vec<Line>) -> Vec<Line> {
    lines.into_iter().filter(|line| !line.points.is_empty()).collect()
}
