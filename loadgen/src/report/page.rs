//! `--html`: a run as one page that needs no network and no script.

mod axis;
mod chart;
mod charts;
mod sheet;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde_json::Value as Json;

use super::{Environment, Mark, Report, Section, Timing, Value};
use crate::base::words;
use crate::checks::latency::Latency;
use crate::checks::latency_name::LatencyName;
use chart::Size;

pub use axis::Scale;
pub use chart::{Chart, Line};
pub use sheet::{Grid, Sheet};

const STYLE: &str = include_str!("page/style.css");
/// Every chart is drawn in two sizes: text is readable only when the drawing is not shrunk.
const WIDE: Size = Size { width: 860, height: 290, x_ticks: 12, y_ticks: 6 };
const NARROW: Size = Size { width: 400, height: 280, x_ticks: 4, y_ticks: 5 };
/// How many settings are shown. A run of many rooms has more; they are all in the JSON.
const SETTINGS_MAX: usize = 60;

impl Report {
    pub fn page(&self) -> Result<String, String> {
        let figure = |chart: &Chart| {
            let marks = if chart.marks.is_empty() { &[][..] } else { &self.results.course.marks };
            figure(chart, marks)
        };
        let figures = self.charts().iter().map(figure).collect::<Result<Vec<_>, _>>()?;
        let title = format!("loadgen {}", self.results.scenario);
        let seed = self.results.settings.pointer("/plan/seed");
        let verdicts = html! { (verdict(&self.faults, self.results.promise)) (self.generator_verdict()) };
        Ok(document(
            &title,
            html! { p { (self.results.heading) } (verdicts) },
            html! {
                section {
                    h2 { "Latency" }
                    (self.latencies())
                    p.note {
                        @if self.timings.iter().any(|timing| timing.name == LatencyName::Delivery) { (DELIVERY_NOTE) " " }
                        (GENERATOR_NOTE)
                    }
                }
                @for figure in &figures { (figure) }
                @if self.results.course.series.is_cut() { p.note { (CUT_NOTE) } }
                div.sections { @for section in &self.sections { (section_table(section)) } }
                @if !self.results.samples.is_empty() {
                    section.samples {
                        h2 { "Some of the faults" }
                        ul { @for sample in &self.results.samples { li { (sample) } } }
                    }
                }
                (environment_table(&self.environment, seed))
                (settings_table(&self.results.settings))
            },
        ))
    }

    fn generator_verdict(&self) -> Markup {
        let bound: Vec<_> = self.generator_bound().collect();
        html! {
            @if !bound.is_empty() {
                div.verdict.bound {
                    strong { "GENERATOR-BOUND:" } " these latencies are the generator's own, and are not shown:"
                    ul { @for (name, why) in &bound { li { (name) ": " (why) "." } } }
                }
            }
        }
    }

    /// The latencies measured at the server, and below them the generator's own delays: in two tables, because one
    /// would not fit a narrow page.
    fn latencies<'a>(&'a self) -> Markup {
        let generator = &self.results.generator;
        let own = [("generator lateness", &generator.lateness), ("generator lag", &generator.lag)];
        let own = own.map(|(name, latency)| (name, latency, false));
        let judged = |timing: &'a Timing| (timing.name.name(), &timing.latency, timing.generator_bound.is_some());
        html! { (table(self.timings.iter().map(judged))) (table(own.into_iter())) }
    }
}

/// A whole page: what stands below its title, and what follows.
fn document(title: &str, header: Markup, body: Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                main {
                    header {
                        h1 { (title) }
                        (header)
                    }
                    (body)
                }
            }
        }
    };
    page.into_string()
}

fn verdict(faults: &[String], promise: &str) -> Markup {
    html! {
        @if faults.is_empty() {
            p.verdict.passed { strong { "PASSED:" } " " (promise) "." }
        } @else {
            div.verdict.failed {
                strong { "FAILED:" }
                ul { @for fault in faults { li { (fault) } } }
            }
        }
    }
}

fn figure(chart: &Chart, marks: &[Mark]) -> Result<Markup, String> {
    let (wide, narrow) = (chart.svg(WIDE)?, chart.svg(NARROW)?);
    Ok(html! {
        figure {
            figcaption { h2 { (chart.title) } (chart.caption) "." }
            ul.legend {
                @for (number, line) in (1..).zip(&chart.lines) {
                    li { span class={ "swatch line" (number) } {} (line.name) }
                }
            }
            div.wide role="img" aria-label=(chart.title) { (PreEscaped(wide)) }
            div.narrow role="img" aria-label=(chart.title) { (PreEscaped(narrow)) }
            @if !marks.is_empty() {
                ol.marks { @for mark in marks { li { (mark.what) } } }
            }
        }
    })
}

fn environment_table(environment: &Environment, seed: Option<&Json>) -> Markup {
    html! {
        section {
            h2 { "How it was made" }
            pre { code { (environment.command) } }
            table.wide-pairs {
                tbody {
                    @for (name, value) in environment.rows() { (pair(name, &value)) }
                    @if let Some(seed) = seed { (pair("seed", &seed.to_string())) }
                }
            }
        }
    }
}

fn settings_table(settings: &Json) -> Markup {
    let mut leaves = Vec::new();
    super::diff::leaves("", settings, &mut leaves);
    let (shown, more) = leaves.split_at(leaves.len().min(SETTINGS_MAX));
    let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    html! {
        section {
            h2 { "Settings" }
            table.wide-pairs.settings {
                tbody { @for (name, value) in shown { (pair(name, &text(value))) } }
            }
            @if !more.is_empty() { p.note { "And " (more.len()) " more, in the JSON of this run." } }
        }
    }
}

const DELIVERY_NOTE: &str = "\
Delivery: from the time a message was meant to be sent, whether or not the server let it be sent then, until a member has \
read it; every delivery counts. Ack: from the same time until its publisher has the answer.";
const GENERATOR_NOTE: &str = "\
Generator lateness: how late \
messages were handed to their sockets. Generator lag: how long a frame that had arrived may have waited for the generator \
to read it. Where either lies on the way of a latency and is more than a quarter of its p99 and more than 2 ms, or a \
thread there computed for more than 95 % of the time, that latency is the generator's own, and is not shown.";
const CUT_NOTE: &str = "The run went on for longer than the charts do: they end after two hours, the totals do not.";

fn section_table(section: &Section) -> Markup {
    html! {
        section {
            h2 { (capital(section.title)) }
            table {
                tbody {
                    @for row in &section.rows {
                        tr class=[row.is_faulty().then_some("faulty")] {
                            th scope="row" { (row.name) }
                            td class=[matches!(row.value, Value::Text(_)).then_some("text")] { (row.value.text()) }
                        }
                    }
                }
            }
        }
    }
}

fn pair(name: &str, value: &str) -> Markup {
    html! {
        tr {
            th scope="row" { (name) }
            td { (value) }
        }
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// Percentiles as rows, latencies as columns: each latency with its name, and whether it is the generator's own.
fn table<'a>(latencies: impl Iterator<Item = (&'a str, &'a Latency, bool)>) -> Markup {
    let columns: Vec<_> = latencies.filter(|(_, latency, _)| !latency.is_empty()).collect();
    let rows = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
    html! {
        table.latencies {
            thead {
                tr {
                    th scope="col" { "percentile" }
                    @for (name, ..) in &columns { th scope="col" { (name) } }
                }
            }
            tbody {
                @for (label, quantile) in rows {
                    tr {
                        th scope="row" { (label) }
                        @for (_, latency, bound) in &columns {
                            @if *bound {
                                td { "generator-bound" }
                            } @else {
                                td { (words::duration(latency.at_quantile_us(quantile) as f64)) }
                            }
                        }
                    }
                }
                tr {
                    th scope="row" { "count" }
                    @for (_, latency, _) in &columns { td { (words::grouped(latency.percentiles().count)) } }
                }
            }
        }
    }
}
