//! The results of a run: judged, and written for people and for programs.
//!
//! A scenario passes its results to this module: sections of counts, latencies, and its course in time. The code here
//! is the same for all scenarios; what only one scenario reports is in `scenarios/`.

mod condition;
mod course;
pub mod diff;
mod environment;
mod honesty;
mod page;
mod section;
mod spread;
mod text;

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use serde::ser::SerializeMap;

use crate::checks::latency::Latency;
use crate::checks::latency_name::LatencyName;

pub use course::{Course, Mark};
pub use environment::{Environment, KEY_SHOWN};
pub use honesty::{Generator, Route, Timing};
pub use page::{Chart, Grid, Line, Scale, Sheet};
pub use section::{Row, Section, Value};
pub use spread::Spread;
pub use text::{number, table};

pub use condition::Condition;
#[cfg(test)]
pub use condition::names as condition_names;
use course::Timeline;

/// A finished run of any scenario, before it is judged.
pub struct RunResults {
    /// The scenario's name on the command line.
    pub scenario: &'static str,
    /// What was run, in one sentence.
    pub heading: String,
    /// The run's options, without secrets.
    pub settings: serde_json::Value,
    pub sections: Vec<Section>,
    /// The latencies measured at the server, the most important first.
    pub latencies: Vec<(LatencyName, Route, Latency)>,
    /// Reasons why the run is not faultless, besides the counts that are faults themselves.
    pub faults: Vec<String>,
    /// What a faultless run has shown, for the verdict.
    pub promise: &'static str,
    /// A few of the faults, as the clients saw them.
    pub samples: Vec<String>,
    pub generator: Generator,
    pub course: Course,
}

/// The ending of the names of files with percentile distributions.
const HGRM: &str = "hgrm";

/// Where a report goes besides the terminal.
#[derive(Args, Clone, Default, Debug)]
pub struct Outputs {
    /// Write all figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page with charts to this file, as HTML
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the percentile distribution of each latency, in the format of HdrHistogram: all into this directory, or only
    /// the first into this file if the name ends with .hgrm
    #[arg(long, value_name = "DIR|FILE")]
    hgrm: Option<PathBuf>,
    /// Fail the run if this condition is true, as in 'p99>250ms', 'last member max>2s', 'missing>0', 'deliveries/s<10000';
    /// the flag may be given several times
    #[arg(long, value_name = "CONDITION")]
    fail_if: Vec<Condition>,
}

impl Outputs {
    /// Checks before a run that the files can be written after it.
    pub fn check(&self) -> Result<(), String> {
        [&self.json, &self.html, &self.hgrm].into_iter().flatten().try_for_each(|path| check_folder(path))
    }
}

/// Fails if the folder of a file to be written does not exist.
pub fn check_folder(path: &Path) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    written(path, std::fs::metadata(folder).map(drop))
}

/// All figures of a run, and the verdict.
pub struct Report {
    results: RunResults,
    timings: Vec<Timing>,
    faults: Vec<String>,
    /// The sections of the scenario and of the generator.
    sections: Vec<Section>,
    environment: Environment,
}

/// Prints a text on standard output. The reader may have closed it, as `head` does; then the text is lost, and the run
/// still writes its files and its verdict.
pub fn show(text: &dyn fmt::Display) {
    let _ = writeln!(io::stdout(), "{text}");
}

/// Judges a run, prints it and writes the requested files. Returns whether the run passed.
pub fn publish(results: RunResults, outputs: &Outputs) -> Result<bool, String> {
    let report = Report::new(results, &outputs.fail_if);
    show(&report.text());
    if let Some(path) = &outputs.json {
        written(path, report.write_json(path))?;
    }
    if let Some(path) = &outputs.html {
        written(path, std::fs::write(path, report.page()?))?;
    }
    if let Some(path) = &outputs.hgrm {
        written(path, report.write_distributions(path))?;
    }
    Ok(report.passed())
}

/// Adds the path of the file to a write error.
pub fn written(path: &Path, outcome: io::Result<()>) -> Result<(), String> {
    outcome.map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// The settings that are set: an option without a value is left out.
pub fn set_only(settings: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match settings {
        Value::Object(members) => {
            let members = members.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(members.map(|(name, value)| (name, set_only(value))).collect())
        }
        Value::Array(values) => Value::Array(values.into_iter().map(set_only).collect()),
        other => other,
    }
}

impl Report {
    pub fn new(mut results: RunResults, conditions: &[Condition]) -> Self {
        results.settings = set_only(results.settings);
        let timings = results.latencies.iter();
        let timings = timings.map(|(name, route, latency)| Timing::judged(*name, *route, latency, &results.generator));
        let timings = timings.collect();
        let sections: Vec<Section> = results.sections.iter().cloned().chain([results.generator.section()]).collect();
        let keys: std::collections::HashSet<String> = sections.iter().map(Section::key).collect();
        assert_eq!(keys.len(), sections.len(), "no section hides another in the JSON");
        let counted = sections.iter().flat_map(Section::faults);
        let faults = counted.chain(results.faults.iter().cloned()).collect();
        let mut report = Self { timings, faults, environment: Environment::here(), sections, results };
        let broken: Vec<String> = conditions.iter().filter_map(|condition| condition.broken_by(&report)).collect();
        report.faults.extend(broken);
        report
    }

    /// The reasons why the run is not faultless, in words.
    pub fn faults(&self) -> &[String] {
        &self.faults
    }

    /// Why a latency is the generator's own, if it is.
    pub fn generator_bound_of(&self, name: LatencyName) -> Option<&str> {
        self.generator_bound().find(|(bound, _)| *bound == name).map(|(_, why)| why)
    }

    pub fn passed(&self) -> bool {
        self.faults.is_empty()
    }

    /// The verdict in words: first whether the server kept its promise, then whether the figures are the server's own.
    fn verdict(&self) -> String {
        let mut verdict = if self.passed() {
            format!("PASSED: {}.", self.results.promise)
        } else {
            format!("FAILED: {}.", self.faults.join("; "))
        };
        let bound: Vec<_> = self.generator_bound().collect();
        let reasons = bound.chunk_by(|(_, one), (_, other)| one == other).map(|latencies| {
            let names = latencies.iter().map(|(name, _)| name.name()).collect::<Vec<_>>().join(" and ");
            format!("for {names}, as {}", latencies[0].1)
        });
        let reasons = reasons.collect::<Vec<_>>().join("; ");
        if !reasons.is_empty() {
            verdict += &format!(" GENERATOR-BOUND: no latency is shown {reasons}.");
        }
        verdict
    }

    /// The latencies that are the generator's own, and why.
    fn generator_bound(&self) -> impl Iterator<Item = (LatencyName, &str)> {
        self.timings.iter().filter_map(|timing| Some((timing.name, timing.generator_bound.as_deref()?)))
    }

    fn timeline(&self) -> Timeline {
        let shown =
            self.timings.iter().all(|timing| timing.name != LatencyName::Delivery || timing.generator_bound.is_none());
        self.results.course.timeline(shown)
    }

    /// Writes the first latency into one file, or each latency into a file of a directory. A generator-bound latency is
    /// not written.
    fn write_distributions(&self, path: &Path) -> io::Result<()> {
        let generator = &self.results.generator;
        let of_server = self.timings.iter().filter(|timing| timing.generator_bound.is_none());
        let of_server = of_server.map(|timing| (timing.name.name(), &timing.latency));
        if path.extension().is_some_and(|extension| extension == HGRM) {
            return match of_server.take(1).last() {
                Some((_, latency)) => std::fs::write(path, latency.distribution()),
                None => Err(io::Error::other("every latency of this run is generator-bound")),
            };
        }
        std::fs::create_dir_all(path)?;
        let own = [("generator lateness", &generator.lateness), ("generator lag", &generator.lag)];
        for (name, latency) in of_server.chain(own) {
            std::fs::write(path.join(name.replace(' ', "-")).with_extension(HGRM), latency.distribution())?;
        }
        Ok(())
    }

    fn write_json(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(path, text)
    }
}

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { results, timings, faults, environment, .. } = self;
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("scenario", results.scenario)?;
        members.serialize_entry("passed", &self.passed())?;
        members.serialize_entry("verdict", &self.verdict())?;
        members.serialize_entry(
            "generator_bound",
            &self.generator_bound().map(|(name, _)| name.name()).collect::<Vec<_>>(),
        )?;
        members.serialize_entry("faults", faults)?;
        members.serialize_entry("samples", &results.samples)?;
        members.serialize_entry("environment", environment)?;
        members.serialize_entry("settings", &results.settings)?;
        for section in &self.sections {
            members.serialize_entry(&section.key(), section)?;
        }
        members.serialize_entry("latency", &Latencies(timings, &results.generator))?;
        members.serialize_entry("threads", &results.generator.threads)?;
        members.serialize_entry("machines", &results.generator.machines)?;
        members.serialize_entry("series", &self.timeline())?;
        members.end()
    }
}

/// Each latency by name, and the generator's own delays beside them.
struct Latencies<'a>(&'a [Timing], &'a Generator);

impl Serialize for Latencies<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(timings, generator) = self;
        let mut members = serializer.serialize_map(None)?;
        for timing in *timings {
            let figures = LatencyFigures::of(&timing.latency, timing.generator_bound.as_deref());
            members.serialize_entry(&timing.name.name().replace(' ', "_"), &figures)?;
        }
        members.serialize_entry("generator_lateness", &LatencyFigures::of(&generator.lateness, None))?;
        members.serialize_entry("generator_lag", &LatencyFigures::of(&generator.lag, None))?;
        if !generator.reads_lateness.is_empty() {
            let of_reads = LatencyFigures::of(&generator.reads_lateness, None);
            members.serialize_entry("generator_lateness_of_reads", &of_reads)?;
        }
        if !generator.publishers_lag.is_empty() {
            let of_publishers = LatencyFigures::of(&generator.publishers_lag, None);
            members.serialize_entry("generator_lag_of_publishers", &of_publishers)?;
        }
        members.end()
    }
}

/// The figures of a latency, or why there are none.
#[derive(Serialize)]
#[serde(untagged)]
enum LatencyFigures<'a> {
    Measured {
        #[serde(flatten)]
        percentiles: crate::checks::latency::Percentiles,
        histogram: &'a Latency,
    },
    GeneratorBound {
        count: u64,
        generator_bound: &'a str,
    },
}

impl<'a> LatencyFigures<'a> {
    fn of(latency: &'a Latency, generator_bound: Option<&'a str>) -> Self {
        let percentiles = latency.percentiles();
        match generator_bound {
            None => Self::Measured { percentiles, histogram: latency },
            Some(generator_bound) => Self::GeneratorBound { count: percentiles.count, generator_bound },
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A small run without faults: every latency is 10 ms, with 500 deliveries a second.
    pub fn results() -> RunResults {
        let mut latency = Latency::default();
        (0..1_000).for_each(|_| latency.record_ns(10_000_000));
        RunResults {
            scenario: "room",
            heading: "a small run".to_owned(),
            settings: serde_json::json!({"users": 5}),
            sections: vec![
                Section::new("messages").count("scheduled", 4).fault("unanswered", 0, "without an answer"),
                Section::new("deliveries").fault("missing", 0, "missing").row("per second", Value::Number(500.0)),
            ],
            latencies: vec![
                (LatencyName::Delivery, Route::ToMembers, latency.clone()),
                (LatencyName::Ack, Route::BackToPublisher, latency),
            ],
            faults: Vec::new(),
            promise: "all is well",
            samples: Vec::new(),
            generator: Generator::default(),
            course: Course::default(),
        }
    }

    #[test]
    fn a_run_fails_for_a_fault_and_for_a_condition() {
        let check = |change: fn(&mut RunResults), conditions: &[&str], expected: &str| {
            let mut results = results();
            change(&mut results);
            let conditions: Vec<Condition> = conditions.iter().map(|text| text.parse().expect("valid")).collect();
            let report = Report::new(results, &conditions);
            assert_eq!(report.passed(), expected.starts_with("PASSED"), "{}", report.verdict());
            assert_eq!(report.verdict(), expected);
        };
        check(|_| {}, &["p99>20ms"], "PASSED: all is well.");
        check(|_| {}, &["p99>5ms"], "FAILED: --fail-if 'p99>5ms': it is 10.0 ms.");
        check(|results| results.faults.push("odd".into()), &[], "FAILED: odd.");
        let lose =
            |results: &mut RunResults| results.sections[1] = Section::new("deliveries").fault("missing", 3, "missing");
        check(lose, &[], "FAILED: 3 missing.");
    }

    #[test]
    fn settings_that_are_not_set_are_left_out() {
        let mut results = results();
        results.settings = serde_json::json!({
            "pid": null, "plan": {"threads": null, "rooms": [{"users": 0, "conduct": null}], "seed": 0}, "name": "",
        });
        let json = serde_json::to_value(Report::new(results, &[])).expect("JSON");
        let expected = serde_json::json!({"plan": {"rooms": [{"users": 0}], "seed": 0}, "name": ""});
        assert_eq!(json["settings"], expected, "zero, an empty text and an empty list are settings");
    }

    #[test]
    fn a_report_holds_every_section_once_and_every_row_under_its_own_name() {
        let report = Report::new(results(), &[]);
        let text = serde_json::to_string(&report).expect("JSON");
        let json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).expect("an object");
        for section in &report.sections {
            let rows = json[&section.key()].as_object().expect("a section is an object");
            assert_eq!(rows.len(), section.rows.len(), "{}: no row hides another", section.title);
        }
        for member in ["scenario", "passed", "verdict", "faults", "environment", "settings", "latency", "series"] {
            assert_eq!(text.matches(&format!("\"{member}\":")).count(), 1, "{member}");
        }
    }

    #[test]
    fn a_generator_that_was_slow_itself_shows_no_latency() {
        let mut results = results();
        (0..100).for_each(|_| results.generator.lag.record_ns(6_000_000));
        results.generator.lateness = results.generator.lag.clone();
        let report = Report::new(results, &["p99>20ms".parse().expect("valid")]);
        assert!(report.verdict().contains("FAILED: --fail-if 'p99>20ms' cannot be decided"), "{}", report.verdict());
        assert!(report.verdict().contains("GENERATOR-BOUND"), "{}", report.verdict());
        let json = serde_json::to_value(&report).expect("JSON");
        assert_eq!(json["latency"]["delivery"]["count"], 1_000);
        assert_eq!(json["latency"]["delivery"].get("p99_us"), None);
        assert_eq!(json["generator_bound"], serde_json::json!(["delivery", "ack"]));
        assert!(!report.text().contains("10.0"), "{}", report.text());
    }
}
