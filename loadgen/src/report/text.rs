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
