//! The figures of a run beside those of the bare server: the bare server's values, and the real server's as a share of
//! them.

use super::room_results::RoomOutcome;
use crate::base::words;
use crate::report::{Row, RunResults, Section, Timing, Value};

/// The rows about speed and cost, by section.
const COMPARED: [(&str, &str); 11] = [
    ("deliveries", "per second"),
    ("deliveries", "last after end"),
    ("server", "cores busy"),
    ("server", "CPU per delivery"),
    ("server", "CPU per delivery, user"),
    ("server", "CPU per delivery, system"),
    ("server", "resident per connection"),
    ("network", "weight of frames per delivery"),
    ("network", "TCP segments per delivery"),
    ("network", "on the wire per delivery"),
    ("generator costs", "CPU per delivery"),
];
const QUANTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

/// One figure of both runs, or why there is none.
struct Pair {
    name: String,
    real: Result<Value, &'static str>,
    bare: Result<Value, &'static str>,
}

/// If the bare run was not faultless, no shares are shown: its figures are no limit.
pub fn sections(real: &RunResults, bare: &RunResults) -> Vec<Section> {
    let pairs: Vec<Pair> = rows(real, bare).into_iter().chain(latencies(real, bare)).collect();
    let (mut values, mut shares) = (Section::new("baseline"), Section::new("share of the baseline"));
    let faults = faults(bare);
    values = values.row("the bare run was", Value::Text(faults.clone().unwrap_or_else(|| "faultless".to_owned())));
    for Pair { name, real, bare } in pairs {
        let share = match (&real, &bare) {
            (Ok(real), Ok(bare)) => share(real, bare),
            (Err(why), _) | (_, Err(why)) => Value::Text((*why).to_owned()),
        };
        values = values.row(name.clone(), bare.unwrap_or_else(|why| Value::Text(why.to_owned())));
        shares = shares.row(name, share);
    }
    if faults.is_none() { vec![values, shares] } else { vec![values] }
}

/// What a delivery costs the generator, beside the same run with members that only read. Those members do not count
/// deliveries, so one of their deliveries is taken to have as many bytes as one of the checked run.
pub fn beside_reading(checked: &RoomOutcome, read: &RoomOutcome) -> Section {
    let delivered = checked.figures.delivered_in_window as f64;
    let delivery_bytes = words::ratio(checked.figures.heard.bytes as f64, delivered);
    let read_deliveries = words::ratio(read.figures.heard.bytes as f64, delivery_bytes);
    let cost_us = |outcome: &RoomOutcome, deliveries| words::ratio(outcome.course.generator().0 * 1e6, deliveries);
    let (checked_us, read_us) = (cost_us(checked, delivered), cost_us(read, read_deliveries));
    Section::new("checking beside reading")
        .row("CPU per delivery, checked", Value::Microseconds(checked_us))
        .row("CPU per delivery, only read", Value::Microseconds(read_us))
        .row("checked, in times of only read", Value::Number(words::ratio(checked_us, read_us)))
        .row("checked deliveries per second and core", Value::Number(words::ratio(1e6, checked_us)))
}

/// The faults of the bare server itself.
fn faults(bare: &RunResults) -> Option<String> {
    let faults: Vec<String> =
        bare.sections.iter().flat_map(Section::faults).chain(bare.faults.iter().cloned()).collect();
    (!faults.is_empty()).then(|| format!("not faultless: {}", faults.join("; ")))
}

fn rows(real: &RunResults, bare: &RunResults) -> Vec<Pair> {
    let value = |results: &RunResults, (section, row): (&str, &str)| {
        let section = results.sections.iter().find(|found| found.title == section)?;
        section.rows.iter().find(|found| found.name == row).map(|Row { value, .. }| value.clone())
    };
    let pair = |at: (&'static str, &'static str)| {
        let name = if at.0 == "generator costs" { format!("generator's {}", at.1) } else { at.1.to_owned() };
        let name = if at.0 == "deliveries" { format!("deliveries, {}", at.1) } else { name };
        Some(Pair { name, real: Ok(value(real, at)?), bare: Ok(value(bare, at)?) })
    };
    COMPARED.into_iter().filter_map(pair).collect()
}

fn latencies(real: &RunResults, bare: &RunResults) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for (name, route, latency) in &real.latencies {
        let Some((.., other)) = bare.latencies.iter().find(|(found, ..)| found == name) else { continue };
        let timings = [(latency, &real.generator), (other, &bare.generator)]
            .map(|(of, by)| Timing::judged(*name, *route, of, by));
        for (percentile, quantile) in QUANTILES {
            let [real, bare] = timings.each_ref().map(|timing| match &timing.generator_bound {
                Some(_) => Err("generator-bound"),
                None => Ok(Value::Milliseconds(timing.latency.at_quantile_us(quantile) as f64 / 1e3)),
            });
            pairs.push(Pair { name: format!("{name} {percentile}"), real, bare });
        }
    }
    pairs
}

fn share(real: &Value, bare: &Value) -> Value {
    match (real.number(), bare.number()) {
        (Some(real), Some(bare)) if bare > 0.0 => Value::Share(words::ratio(real, bare)),
        _ => Value::Text("nothing to compare with".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::latency::Latency;
    use crate::report::tests::results;

    /// A run with this many deliveries a second, at this latency.
    fn run(per_second: f64, ms: u64) -> RunResults {
        let mut results = results();
        let mut latency = Latency::default();
        (0..100).for_each(|_| latency.record_ns(ms * 1_000_000));
        results.latencies.iter_mut().for_each(|(.., of)| *of = latency.clone());
        results.sections[1] = Section::new("deliveries")
            .fault("missing", 0, "missing")
            .row("per second", Value::Number(per_second))
            .row("last after end", Value::Milliseconds(0.0));
        results
    }

    fn value(section: &Section, name: &str) -> Value {
        section.rows.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no {name}")).value.clone()
    }

    #[test]
    fn a_share_is_the_real_servers_part_of_the_bare_ones() {
        let [values, shares] = &sections(&run(500.0, 30), &run(1_000.0, 20))[..] else { panic!("two sections") };
        assert_eq!(value(values, "the bare run was"), Value::Text("faultless".to_owned()));
        assert_eq!(value(values, "deliveries, per second"), Value::Number(1_000.0));
        assert_eq!(value(shares, "deliveries, per second"), Value::Share(0.5));
        assert_eq!(value(shares, "deliveries, last after end"), Value::Text("nothing to compare with".to_owned()));
        let Value::Share(p50) = value(shares, "delivery p50") else { panic!("a share") };
        assert!((p50 - 1.5).abs() < 0.01, "{p50}");
    }

    #[test]
    fn a_bare_run_with_faults_is_no_limit() {
        let mut bare = run(1_000.0, 20);
        bare.sections[1] =
            Section::new("deliveries").fault("missing", 3, "missing").row("per second", Value::Number(1.0));
        bare.faults.push("odd".to_owned());
        let [values] = &sections(&run(500.0, 30), &bare)[..] else { panic!("no shares") };
        assert_eq!(value(values, "the bare run was"), Value::Text("not faultless: 3 missing; odd".to_owned()));
    }

    #[test]
    fn a_latency_of_the_generator_itself_has_no_share() {
        let mut bare = run(1_000.0, 20);
        (0..100).for_each(|_| bare.generator.lag.record_ns(30_000_000));
        let [values, shares] = &sections(&run(500.0, 30), &bare)[..] else { panic!("two sections") };
        let bound = Value::Text("generator-bound".to_owned());
        assert_eq!((value(values, "delivery p99"), value(shares, "delivery p99")), (bound.clone(), bound));
    }

    #[test]
    fn a_figure_that_one_run_lacks_is_left_out() {
        let mut real = run(500.0, 30);
        real.latencies.truncate(1);
        real.sections.truncate(1);
        let [values, shares] = &sections(&real, &run(1_000.0, 20))[..] else { panic!("two sections") };
        for section in [values, shares] {
            assert!(section.rows.iter().all(|row| !row.name.starts_with("ack") && !row.name.contains("per second")));
        }
    }
}
