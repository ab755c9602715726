//! A page for several runs together: charts and tables under one verdict.

use maud::{Markup, html};
use serde_json::Value as Json;

use super::chart::Chart;
use super::{document, environment_table, figure, pair, settings_table, verdict};
use crate::report::Environment;

pub struct Sheet<'a> {
    pub title: &'static str,
    /// What was done, in one sentence.
    pub heading: String,
    /// What the runs have shown if there are no faults.
    pub promise: &'static str,
    pub faults: Vec<String>,
    pub charts: Vec<Chart>,
    pub grids: Vec<Grid>,
    pub environment: &'a Environment,
    /// Without secrets.
    pub settings: Json,
}

/// A table with a title, and notes below it.
pub struct Grid {
    pub title: String,
    /// The names of the columns; empty where each row is a name and a value.
    pub header: Vec<&'static str>,
    /// The head of each row, and its cells.
    pub rows: Vec<(String, Vec<String>)>,
    pub notes: Vec<String>,
}

impl Sheet<'_> {
    pub fn page(&self) -> Result<String, String> {
        let charts = self.charts.iter().filter(|chart| chart.has_points());
        let figures = charts.map(|chart| figure(chart, &[])).collect::<Result<Vec<_>, _>>()?;
        Ok(document(
            self.title,
            html! { p { (self.heading) } (verdict(&self.faults, self.promise)) },
            html! {
                @for figure in &figures { (figure) }
                @for grid in &self.grids { (grid.section()) }
                (environment_table(self.environment, None))
                (settings_table(&self.settings))
            },
        ))
    }
}

impl Grid {
    fn section(&self) -> Markup {
        html! {
            section {
                h2 { (self.title) }
                @if self.header.is_empty() {
                    table.wide-pairs { tbody { @for (name, cells) in &self.rows { (pair(name, &cells.join(" "))) } } }
                } @else {
                    table.latencies {
                        thead { tr { @for name in &self.header { th scope="col" { (name) } } } }
                        tbody {
                            @for (name, cells) in &self.rows {
                                tr {
                                    th scope="row" { (name) }
                                    @for cell in cells { td { (cell) } }
                                }
                            }
                        }
                    }
                }
                @for note in &self.notes { p.note { (note) } }
            }
        }
    }
}
