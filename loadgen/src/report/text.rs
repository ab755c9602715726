//! A report on a terminal: tables, with the verdict below them.

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::{Report, Section, Timing};
use crate::base::words;
use crate::checks::latency::Latency;
use crate::team::machine::MachineFigures;

impl Report {
    /// The tables and the verdict, for people.
    pub fn text(&self) -> String {
        let mut parts = vec![self.results.heading.clone()];
        parts.extend(self.sections.chunks(2).map(|pair| side_by_side(pair).to_string()));
        parts.push(self.latency_table().to_string());
        parts.extend(self.results.generator.machines.iter().map(MachineFigures::text));
        parts.extend(self.results.samples.iter().map(|sample| format!("  {sample}")));
        parts.push(self.verdict());
        parts.join("\n")
    }

    fn latency_table(&self) -> Table {
        let mut table = table(&["milliseconds", "p50", "p90", "p99", "p99.9", "max", "count"]);
        for Timing { name, latency, generator_bound } in &self.timings {
            match generator_bound {
                None => add_latency(&mut table, name.name(), latency),
                Some(_) => {
                    let cells = [name.name(), "generator-bound", "", "", "", ""].map(Cell::new);
                    table.add_row(cells.into_iter().chain([number(words::grouped(latency.percentiles().count))]));
                }
            }
        }
        add_latency(&mut table, "generator lateness", &self.results.generator.lateness);
        add_latency(&mut table, "generator lag", &self.results.generator.lag);
        table
    }
}

fn add_latency(table: &mut Table, name: &str, latency: &Latency) {
    let found = latency.percentiles();
    let times = [found.p50_us, found.p90_us, found.p99_us, found.p999_us, found.max_us].map(words::milliseconds);
    let count = [words::grouped(found.count)];
    table.add_row(std::iter::once(Cell::new(name)).chain(times.into_iter().chain(count).map(number)));
}

/// One section, or two side by side, as one table.
fn side_by_side(sections: &[Section]) -> Table {
    assert!(sections.len() <= 2, "a terminal has room for two sections");
    let header: Vec<&str> = sections.iter().flat_map(|section| [section.title, ""]).collect();
    let mut table = table(&header);
    let height = sections.iter().map(|section| section.rows.len()).max().unwrap_or_default();
    for at in 0..height {
        let cells = sections.iter().flat_map(|section| match section.rows.get(at) {
            Some(row) => [Cell::new(&row.name), number(row.value.text())],
            None => [Cell::new(""), Cell::new("")],
        });
        table.add_row(cells);
    }
    table
}

pub fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header(header.iter().map(Cell::new));
    table
}

pub fn number(text: String) -> Cell {
    Cell::new(text).set_alignment(CellAlignment::Right)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::results;

    /// The cells of the row with this name; none if there is no such row.
    fn cells(text: &str, name: &str) -> Vec<String> {
        let row = text.lines().map(|line| line.split(['│', '┆']).map(|cell| cell.trim().to_owned()));
        let mut rows = row.map(Iterator::collect::<Vec<_>>);
        rows.find(|cells| cells.iter().any(|cell| cell == name)).unwrap_or_default()
    }

    #[test]
    fn every_row_of_every_section_is_shown_beside_a_shorter_one_too() {
        let mut results = results();
        let long = Section::new("long").count("one", 1_234_567).count("two", 2).count("three", 3);
        results.sections = vec![long, Section::new("short").count("alone", 4), Section::new("last").count("odd", 5)];
        results.samples = vec!["user 3 heard something".to_owned()];
        let text = Report::new(results, &[]).text();
        assert_eq!(cells(&text, "one")[1..5], ["one", "1,234,567", "alone", "4"]);
        assert_eq!(cells(&text, "three")[1..5], ["three", "3", "", ""]);
        // The section of the generator itself stands beside the last one.
        assert_eq!(cells(&text, "odd")[1..3], ["odd", "5"]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines[0], lines[lines.len() - 2]), ("a small run", "  user 3 heard something"));
        assert_eq!(lines[lines.len() - 1], "PASSED: all is well.");
    }

    #[test]
    fn a_latency_of_the_generator_itself_has_a_count_and_no_time() {
        let text = Report::new(results(), &[]).text();
        let [delivery, lag] = ["delivery", "generator lag"].map(|name| cells(&text, name));
        assert_eq!(delivery[1..8], ["delivery", "10.007", "10.007", "10.007", "10.007", "10.007", "1,000"]);
        assert_eq!(lag[7], "0", "nothing was late");
        let mut results = results();
        (0..100).for_each(|_| results.generator.lag.record_ns(9_000_000));
        let text = Report::new(results, &[]).text();
        assert_eq!(cells(&text, "delivery")[1..8], ["delivery", "generator-bound", "", "", "", "", "1,000"]);
        assert_eq!(cells(&text, "generator lag")[2], "9.007");
    }
}
