//! `loadgen diff a.json b.json`: what changed between two runs, and what is only noise.
//!
//! The noise is estimated from the runs themselves. A run's measured seconds are cut into blocks, and the figure is
//! computed many times from blocks drawn at random, with repetition (a block bootstrap). The differences between such
//! draws of the two runs show how far the figures may differ by chance. A run does not show how the machine behaves an
//! hour later. So small changes are not reported as changes, even where the draws agree.

mod noise;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};

use clap::Args;
use comfy_table::Cell;
use serde::Deserialize;
use serde_json::Value;

use super::course::Timeline;
use super::text::{number, table};
use crate::base::words;
use noise::{Change, Sample};

/// Far more than the report of a two-hour run.
const FILE_BYTES_MAX: u64 = 1 << 30;

#[derive(Args)]
pub struct DiffArguments {
    /// The JSON report of the first run
    before: PathBuf,
    /// The JSON report of the second run, which is compared with the first
    after: PathBuf,
}

/// The parts of a report that can be compared.
#[derive(Deserialize)]
struct Read {
    scenario: String,
    verdict: String,
    settings: Value,
    series: Timeline,
    #[serde(flatten)]
    sections: serde_json::Map<String, Value>,
}

/// Compares two reports. Returns the text for people.
pub fn compare(arguments: &DiffArguments) -> Result<String, String> {
    let (before, after) = (read(&arguments.before)?, read(&arguments.after)?);
    let name = |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let names = (name(&arguments.before), name(&arguments.after));
    let mut parts = vec![
        format!("{}: {}", names.0, before.verdict),
        format!("{}: {}", names.1, after.verdict),
        figures(&before, &after, &names),
    ];
    parts.extend(settings(&before, &after));
    parts.extend(counts(&before, &after, &names));
    Ok(parts.join("\n"))
}

fn read(path: &Path) -> Result<Read, String> {
    let shown = path.display();
    let file = File::open(path).map_err(|error| format!("cannot open {shown}: {error}"))?;
    let size = file.metadata().map_err(|error| format!("cannot read {shown}: {error}"))?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{shown} has {size} bytes, and no report of ours is as long"));
    }
    serde_json::from_reader(BufReader::new(file))
        .map_err(|error| format!("{shown} is no report of this version of loadgen (its --json): {error}"))
}

/// The figures that have noise.
fn figures(before: &Read, after: &Read, names: &(String, String)) -> String {
    let samples = (Sample::of(&before.series, 0), Sample::of(&after.series, 1));
    let mut table = table(&["figure", &names.0, &names.1, "change", "by chance", ""]);
    for figure in &noise::FIGURES {
        let Some(change) = Change::between(figure, &samples.0, &samples.1) else { continue };
        let by_chance = change.by_chance.map_or("unknown".to_owned(), |part| format!("±{:.1} %", part * 100.0));
        table.add_row([
            Cell::new(figure.name),
            number((figure.shown)(change.before)),
            number((figure.shown)(change.after)),
            number(change.text()),
            number(by_chance),
            Cell::new(change.verdict()),
        ]);
    }
    table.to_string()
}

/// The options that differ: if there are any, the figures of the two runs mean different things.
fn settings(before: &Read, after: &Read) -> Option<String> {
    let mut differences = Vec::new();
    if before.scenario != after.scenario {
        differences.push(format!("scenario {} and {}", before.scenario, after.scenario));
    }
    let (mut one, mut other) = (Vec::new(), Vec::new());
    leaves("", &before.settings, &mut one);
    leaves("", &after.settings, &mut other);
    // An option that is not set is left out of the report.
    let shown = |value: Option<&Value>| value.map_or("not set".to_owned(), Value::to_string);
    let only_there = other.iter().filter(|(name, _)| leaf(&one, name).is_none());
    for (name, _) in one.iter().chain(only_there) {
        let (before, after) = (leaf(&one, name), leaf(&other, name));
        if before != after && !differs_by_nature(name) {
            differences.push(format!("{name} {} and {}", shown(before), shown(after)));
        }
    }
    let (shown, more) = differences.split_at(differences.len().min(SETTINGS_MAX));
    let more = if more.is_empty() { String::new() } else { format!("; and {} more", more.len()) };
    (!shown.is_empty()).then(|| format!("Not the same run: {}{more}.", shown.join("; ")))
}

fn leaf<'a>(leaves: &[(String, &'a Value)], name: &str) -> Option<&'a Value> {
    leaves.iter().find(|(found, _)| found == name).map(|(_, value)| *value)
}

/// How many differences are listed. More would only repeat that the runs are not the same.
const SETTINGS_MAX: usize = 12;

/// Whether the option always differs between two runs.
fn differs_by_nature(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    ["run", "pid", "room", "server", "seed"].contains(&last)
}

/// Every value that is not an object or a list, by its path.
pub fn leaves<'a>(path: &str, value: &'a Value, found: &mut Vec<(String, &'a Value)>) {
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| leaves(&below(name), value, found)),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(at, value)| leaves(&below(&at.to_string()), value, found));
        }
        leaf => found.push((path.to_owned(), leaf)),
    }
}

/// The counts that differ between the two runs.
fn counts(before: &Read, after: &Read, names: &(String, String)) -> Option<String> {
    let mut table = table(&["count", &names.0, &names.1]);
    for (section, rows) in &before.sections {
        let (Some(rows), Some(others)) = (rows.as_object(), after.sections.get(section).and_then(Value::as_object))
        else {
            continue;
        };
        // Sizes are figures that almost always differ.
        for (row, value) in rows.iter().filter(|(row, _)| !row.ends_with("_bytes")) {
            let pair = value.as_u64().zip(others.get(row).and_then(Value::as_u64));
            if let Some((one, other)) = pair.filter(|(one, other)| one != other) {
                let name = format!("{section}: {}", row.replace('_', " "));
                table.add_row([Cell::new(name), number(words::grouped(one)), number(words::grouped(other))]);
            }
        }
    }
    (!table.is_empty()).then(|| table.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::results;
    use crate::report::{Report, Value as RowValue};

    fn written(change: impl Fn(&mut crate::report::RunResults)) -> Read {
        let mut results = results();
        change(&mut results);
        let text = serde_json::to_string(&Report::new(results, &[])).expect("JSON");
        serde_json::from_str(&text).expect("what was written")
    }

    #[test]
    fn settings_and_counts_that_differ_are_named() {
        let names = ("a".to_owned(), "b".to_owned());
        let one = written(|_| {});
        assert_eq!(settings(&one, &written(|_| {})), None);
        assert_eq!(counts(&one, &written(|_| {}), &names), None);
        let other = written(|results| {
            results.settings = serde_json::json!({"users": 7, "room": "other"});
            results.sections[0] = crate::report::Section::new("messages")
                .count("scheduled", 9)
                .row("name", RowValue::Text("text".into()));
        });
        assert_eq!(settings(&one, &other).as_deref(), Some("Not the same run: users 5 and 7."));
        // A setting that only one of the two runs has is a difference, whichever run has it.
        let more = written(|results| results.settings = serde_json::json!({"users": 5, "threads": 2, "pid": 7}));
        assert_eq!(settings(&one, &more).as_deref(), Some("Not the same run: threads not set and 2."));
        assert_eq!(settings(&more, &one).as_deref(), Some("Not the same run: threads 2 and not set."));
        let counts = counts(&one, &other, &names).expect("a difference");
        assert!(counts.contains("messages: scheduled"), "{counts}");
    }

    #[test]
    fn what_is_no_report_is_refused_with_its_name() {
        let path = std::env::temp_dir().join(format!("loadgen-diff-{}.json", std::process::id()));
        std::fs::write(&path, "{}").expect("a file");
        let missing = path.with_extension("none");
        for (before, said) in [(&path, "is no report"), (&missing, "cannot open")] {
            let arguments = DiffArguments { before: before.clone(), after: path.clone() };
            let refusal = compare(&arguments).expect_err("no report");
            assert!(refusal.contains(said) && refusal.contains(&before.display().to_string()), "{refusal}");
        }
        std::fs::remove_file(path).expect("the file");
    }
}
