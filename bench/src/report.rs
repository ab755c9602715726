//! What all reports of the bench share: the conditions of the run, tables, and medians.

use std::fmt;
use std::process::Command;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::cpu;
use crate::goals::shown;

/// What a reader must know to repeat a run.
#[derive(Serialize)]
pub struct Conditions {
    command: String,
    machine: String,
    commit: String,
}

impl Conditions {
    /// The conditions of this run.
    pub fn here() -> Conditions {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let git = Command::new("git").args(["describe", "--always", "--dirty"]).output();
        let said = git.ok().filter(|output| output.status.success()).map(|output| output.stdout);
        Conditions {
            command: format!("cargo run --release -p bench -- {}", arguments.join(" ")),
            machine: cpu::machine(),
            commit: said.map_or("unknown".into(), |text| String::from_utf8_lossy(&text).trim().to_owned()),
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}\n{}, commit {}", self.command, self.machine, self.commit)
    }
}

/// A table in Markdown. The header's cells are separated by ` | `. The first column has names, the others have figures.
pub fn table(header: &str, rows: impl IntoIterator<Item = Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    let header: Vec<&str> = header.split(" | ").collect();
    let columns = header.len();
    table.set_header(header);
    for row in rows {
        assert_eq!(row.len(), columns, "a cell for each column: {row:?}");
        table.add_row(row);
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// A row of a table: a name, and figures of any size.
pub fn row(name: impl ToString, figures: impl IntoIterator<Item = Option<f64>>) -> Vec<String> {
    std::iter::once(name.to_string()).chain(figures.into_iter().map(shown)).collect()
}

/// A row of a table: a name, and counts.
pub fn counts(name: impl ToString, counts: impl IntoIterator<Item = u64>) -> Vec<String> {
    std::iter::once(name.to_string()).chain(counts.into_iter().map(|count| count.to_string())).collect()
}

/// The median, if there are any figures.
pub fn median(mut figures: Vec<f64>) -> Option<f64> {
    assert!(figures.iter().all(|figure| figure.is_finite()), "no median of {figures:?}");
    figures.sort_by(f64::total_cmp);
    let (low, high) = (figures.get(figures.len().checked_sub(1)? / 2)?, figures.get(figures.len() / 2)?);
    Some((low + high) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_needs_a_figure() {
        let check = |figures: &[f64], expected| assert_eq!(median(figures.to_vec()), expected, "{figures:?}");
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[3.0, 1.0], Some(2.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
        check(&[4.0, 1.0, 2.0, 3.0], Some(2.5));
    }
}
