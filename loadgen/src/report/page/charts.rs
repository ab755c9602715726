//! The charts of a run: which charts there are, and what they show.

use super::axis::Scale;
use super::chart::{Chart, Line};
use crate::checks::latency::Latency;
use crate::costs::closes::Closes;
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
            closes(&timeline),
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

/// The closes in each second by their code, and the even spread of a drain over the time that was asked.
fn closes(timeline: &Timeline) -> Chart {
    let of_code = |name, count: fn(&Closes) -> u64| Line {
        name,
        points: timeline.seconds.iter().map(|point| (middle(point), count(&point.second.closes) as f64)).collect(),
    };
    let even = timeline.drain.as_ref().and_then(|drain| {
        let rate = drain.even_per_second()?;
        Some(Line {
            name: "even spread",
            points: vec![(drain.from_secs, rate), (drain.from_secs + drain.asked_secs, rate)],
        })
    });
    let codes = [
        of_code("1012, restart", |closes| closes.restart),
        of_code("1013, try again later", |closes| closes.try_later),
        of_code("1006, no close frame", |closes| closes.no_frame),
        of_code("1001 and other codes", |closes| closes.going_away + closes.other),
    ];
    let codes = codes.into_iter().filter(|line| line.points.iter().any(|(_, y)| *y > 0.0));
    Chart {
        title: "Closes",
        caption: "Connections in each second that ended although their clients had not ended them, by close code"
            .to_owned(),
        ..over_time(codes.chain(even).collect(), Scale::Number)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::SECOND_NS;
    use crate::costs::series::{Second, Series, ServerSecond};
    use crate::report::course::{Course, Mark};
    use crate::report::tests::results;

    /// A second that all processes have reported, with one delivery.
    fn second(at: u64) -> Second {
        let mut second = Second::new(at);
        second.generator_resident_bytes = 1 << 20;
        second.progress.delivered = 1;
        second.delivery.record_ns(3_000_000);
        second
    }

    fn charts(seconds: impl IntoIterator<Item = Second>) -> Vec<Chart> {
        let mut series = Series::default();
        seconds.into_iter().for_each(|second| series.add(second));
        let mut results = results();
        results.course = Course { series, marks: Vec::new(), window: 10 * SECOND_NS..20 * SECOND_NS, drain_secs: None };
        Report::new(results, &[]).charts()
    }

    fn chart<'a>(charts: &'a [Chart], title: &str) -> Option<&'a Chart> {
        charts.iter().find(|chart| chart.title == title)
    }

    /// The points of a line of a chart; none if there is no such chart or no such line.
    fn points(charts: &[Chart], title: &str, name: &str) -> Vec<(f64, f64)> {
        let lines = chart(charts, title).map_or(&[][..], |chart| &chart.lines);
        lines.iter().filter(|line| line.name == name).flat_map(|line| line.points.clone()).collect()
    }

    #[test]
    fn a_run_without_figures_has_no_charts_and_still_a_page() {
        let mut results = results();
        results.latencies = Vec::new();
        let report = Report::new(results, &[]);
        assert!(report.charts().is_empty());
        assert!(report.page().expect("a page").contains("PASSED"));
    }

    #[test]
    fn a_figure_stands_at_its_second_and_a_second_without_it_has_a_gap() {
        let server = |cpu_us, resident_bytes| Some(ServerSecond { cpu_us, resident_bytes });
        let mut seconds: Vec<Second> = (9..13).map(second).collect();
        (seconds[0].progress.joined, seconds[2].progress.disconnected) = (5, 2);
        (seconds[1].server, seconds[3].server) = (server(1_500_000, 1 << 30), server(500_000, 0));
        (seconds[1].progress.sent, seconds[2].progress.refused) = (7, 3);
        seconds[2].lag_max_us = 40;
        seconds[2].delivery = Latency::coarse();
        let charts = charts(seconds);
        let check = |title, name, expected: &[(f64, f64)]| assert_eq!(points(&charts, title, name), expected, "{name}");
        // The measured time begins with second 10, at which the axis has its zero.
        check("Deliveries", "deliveries/s", &[(-0.5, 1.0), (0.5, 1.0), (1.5, 1.0), (2.5, 1.0)]);
        check("Messages", "sent/s", &[(-0.5, 0.0), (0.5, 7.0), (1.5, 0.0), (2.5, 0.0)]);
        check("Messages", "refused/s", &[(-0.5, 0.0), (0.5, 0.0), (1.5, 3.0), (2.5, 0.0)]);
        check("Messages", "accepted/s", &[]);
        // Who is there at the end of each second, and nobody before the first.
        check("Present", "users present", &[(-1.0, 0.0), (0.0, 5.0), (1.0, 5.0), (2.0, 3.0), (3.0, 3.0)]);
        check("CPU", "server", &[(0.5, 1.5), (2.5, 0.5)]);
        check("Memory", "server", &[(0.5, 1_073_741_824.0), (2.5, 0.0)]);
        check("Memory", "generator", &[-0.5, 0.5, 1.5, 2.5].map(|at| (at, 1_048_576.0)));
        check("Latency over time", "generator lag, longest", &[(1.5, 40.0)]);
        check("Latency over time", "generator lateness, longest", &[]);
        for quantile in ["p50", "p99", "max"] {
            let at: Vec<f64> = points(&charts, "Latency over time", quantile).iter().map(|(at, _)| *at).collect();
            assert_eq!(at, [-0.5, 0.5, 2.5], "{quantile}: no delivery came in second 11");
        }
        assert!(chart(&charts, "Faults").is_none(), "a chart of zeros is not shown");
    }

    #[test]
    fn closes_are_drawn_by_their_code_beside_the_even_spread() {
        let mut results = results();
        results.course = Course { window: 10 * SECOND_NS..20 * SECOND_NS, drain_secs: Some(2.0), ..Course::default() };
        for (at, codes) in [(10, &[1012, 1012][..]), (11, &[1012, 1012, 1006]), (12, &[])] {
            let mut second = second(at);
            codes.iter().for_each(|code| second.closes.count(*code, 5));
            results.course.series.add(second);
        }
        let charts = Report::new(results, &[]).charts();
        let check = |name, expected: &[(f64, f64)]| assert_eq!(points(&charts, "Closes", name), expected, "{name}");
        check("1012, restart", &[(0.5, 2.0), (1.5, 2.0), (2.5, 0.0)]);
        check("1006, no close frame", &[(0.5, 0.0), (1.5, 1.0), (2.5, 0.0)]);
        check("1013, try again later", &[]);
        check("even spread", &[(0.5, 2.0), (2.5, 2.0)]);
        assert!(chart(&self::charts((10..13).map(second)), "Closes").is_none(), "no connection was closed");
    }

    #[test]
    fn the_last_second_counts_only_when_it_is_whole() {
        let cut = |at| Second { generator_resident_bytes: 0, ..second(at) };
        let delivered = |seconds: Vec<Second>| points(&charts(seconds), "Deliveries", "deliveries/s").len();
        for (seconds, expected) in [
            (vec![second(10)], 1),
            (vec![cut(10)], 0),
            (vec![second(10), cut(11)], 1),
            (vec![second(10), second(11)], 2),
            // A process that has reported nothing is missing in the middle too, but the second is over.
            (vec![second(10), cut(11), second(12)], 3),
            // The seconds between are empty, and are drawn.
            (vec![second(10), second(15)], 6),
        ] {
            let ats: Vec<u64> = seconds.iter().map(|second| second.at).collect();
            assert_eq!(delivered(seconds), expected, "seconds {ats:?}");
        }
    }

    #[test]
    fn charts_over_time_have_one_axis_with_marks_and_the_measured_time() {
        let mut results = results();
        (8..12).for_each(|at| results.course.series.add(second(at)));
        results.course.window = 9 * SECOND_NS + SECOND_NS / 2..11 * SECOND_NS;
        results.course.marks = vec![Mark::new(8 * SECOND_NS, "joining"), Mark::new(19 * SECOND_NS / 2, "measured")];
        let charts = Report::new(results, &[]).charts();
        let (over_time, others): (Vec<&Chart>, Vec<&Chart>) =
            charts.iter().partition(|chart| chart.x == Scale::Seconds);
        assert!(over_time.len() >= 3);
        for chart in over_time {
            assert_eq!(chart.stretch, Some((-1.0, 3.0)), "{}", chart.title);
            assert_eq!(chart.marks, [-1.0, 0.5], "{}", chart.title);
            assert_eq!(chart.measured, Some((0.5, 2.0)), "{}", chart.title);
        }
        for chart in others {
            assert_eq!((chart.marks.len(), chart.stretch, chart.measured), (0, None, None), "{}", chart.title);
        }
    }

    #[test]
    fn latencies_of_the_generator_itself_are_not_drawn() {
        let mut results = results();
        (10..13).for_each(|at| results.course.series.add(Second { lag_max_us: 9_000, ..second(at) }));
        results.course.window = 10 * SECOND_NS..13 * SECOND_NS;
        (0..100).for_each(|_| results.generator.lag.record_ns(9_000_000));
        let charts = Report::new(results, &[]).charts();
        assert!(chart(&charts, "Latency over time").is_none());
        let own = chart(&charts, "The generator's own delays over time").expect("its delays");
        assert_eq!(own.lines.iter().map(|line| line.name).collect::<Vec<_>>(), ["generator lag, longest"]);
        assert_eq!(points(&charts, "Latency over percentiles", "delivery"), []);
        assert!(!points(&charts, "Latency over percentiles", "generator lag").is_empty());
    }

    #[test]
    fn quantiles_end_where_the_samples_do() {
        let nines = |count: u64| {
            let mut latency = Latency::default();
            (0..count).for_each(|at| latency.record_ns((1 + at % 1_000) * 1_000));
            let line = quantiles("any", &latency);
            assert!(line.points.is_sorted_by(|one, next| one.0 <= next.0 && one.1 <= next.1), "{count} samples");
            line.points.last().map(|(quantile, us)| (Scale::Nines.place(*quantile), *us))
        };
        assert_eq!(nines(0), None);
        for (count, expected, longest) in [(1, 0.0, 1.0), (10, 1.0, 10.0), (1_000, 3.0, 1_000.0)] {
            let (most, us) = nines(count).expect("a point");
            assert!((most - expected).abs() < 1e-9, "{count} samples reach {most} nines");
            assert_eq!(us, longest, "{count} samples");
        }
        let mut many = Latency::default();
        (0..40).for_each(|_| many.record_ns(1_000));
        // Adding a histogram to itself doubles its count: here to far more than a hundred million.
        (0..30).for_each(|_| many.add(&many.clone()));
        let most = quantiles("any", &many).points.last().map(|(quantile, _)| Scale::Nines.place(*quantile));
        assert!(most.is_some_and(|most| (most - NINES_MAX).abs() < 1e-3), "{most:?}");
    }
}
