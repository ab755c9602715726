//! The counts of a scenario, as a titled list of names and values. The same list becomes a table on the terminal, a
//! table on the page, and an object in the JSON.

use std::borrow::Cow;

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::base::words;

/// Figures that belong together.
#[derive(Clone, Debug)]
pub struct Section {
    pub title: &'static str,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug)]
pub struct Row {
    pub name: Cow<'static, str>,
    pub value: Value,
    /// The verdict's words for this count when it is not zero; `None` when the count is not a fault.
    pub fault: Option<&'static str>,
}

/// A figure and its unit.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Count(u64),
    Number(f64),
    Seconds(f64),
    Milliseconds(f64),
    Microseconds(f64),
    Bytes(f64),
    /// A part of 1, shown in percent.
    Share(f64),
    Text(String),
}

impl Section {
    pub fn new(title: &'static str) -> Self {
        Self { title, rows: Vec::new() }
    }

    pub fn row(self, name: impl Into<Cow<'static, str>>, value: Value) -> Self {
        self.push(Row { name: name.into(), value, fault: None })
    }

    pub fn count(self, name: &'static str, count: u64) -> Self {
        self.row(name, Value::Count(count))
    }

    /// A count that fails the run when it is not zero.
    pub fn fault(self, name: &'static str, count: u64, what: &'static str) -> Self {
        self.push(Row { name: name.into(), value: Value::Count(count), fault: Some(what) })
    }

    fn push(mut self, row: Row) -> Self {
        debug_assert!(
            self.rows.iter().all(|other| other.key() != row.key()),
            "two rows of {} are {}",
            self.title,
            row.name
        );
        self.rows.push(row);
        self
    }

    /// The reasons why the run is not faultless, in words.
    pub fn faults(&self) -> impl Iterator<Item = String> {
        self.rows.iter().filter_map(|row| match (row.fault, &row.value) {
            (Some(what), Value::Count(count)) if *count > 0 => Some(format!("{} {what}", words::grouped(*count))),
            _ => None,
        })
    }

    /// The title as a JSON member's name.
    pub fn key(&self) -> String {
        self.title.to_lowercase().replace(' ', "_")
    }
}

impl Row {
    /// Whether this row is a fault count above zero.
    pub fn is_faulty(&self) -> bool {
        self.fault.is_some() && matches!(self.value, Value::Count(1..))
    }

    /// The name as a JSON member's name, with the unit at the end.
    pub fn key(&self) -> String {
        let unit = match self.value {
            Value::Seconds(_) => "_secs",
            Value::Milliseconds(_) => "_ms",
            Value::Microseconds(_) => "_us",
            Value::Bytes(_) => "_bytes",
            Value::Count(_) | Value::Number(_) | Value::Share(_) | Value::Text(_) => "",
        };
        self.name.to_lowercase().replace([' ', '-'], "_").replace(',', "") + unit
    }
}

impl Value {
    /// The value for people, followed by its unit.
    pub fn text(&self) -> String {
        match self {
            Value::Count(count) => words::grouped(*count),
            Value::Number(number) => words::number(*number),
            Value::Seconds(secs) => format!("{} s", words::number(*secs)),
            Value::Milliseconds(ms) => format!("{} ms", words::number(*ms)),
            Value::Microseconds(us) => format!("{} µs", words::number(*us)),
            Value::Bytes(bytes) => words::bytes(*bytes),
            Value::Share(share) => format!("{:.1} %", share * 100.0),
            Value::Text(text) => text.clone(),
        }
    }

    /// The value as a number in its unit; `None` for text.
    pub fn number(&self) -> Option<f64> {
        match self {
            Value::Count(count) => Some(*count as f64),
            Value::Number(number)
            | Value::Seconds(number)
            | Value::Milliseconds(number)
            | Value::Microseconds(number)
            | Value::Bytes(number)
            | Value::Share(number) => Some(*number),
            Value::Text(_) => None,
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Count(count) => serializer.serialize_u64(*count),
            Value::Text(text) => serializer.serialize_str(text),
            // A byte has no fractions.
            Value::Bytes(bytes) => serializer.serialize_i64(bytes.round() as i64),
            other => other.number().serialize(serializer),
        }
    }
}

impl Serialize for Section {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(self.rows.len()))?;
        for row in &self.rows {
            members.serialize_entry(&row.key(), &row.value)?;
        }
        members.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_an_object_with_units_in_its_names() {
        let section = Section::new("Server costs")
            .count("scheduled", 7)
            .fault("out of order", 0, "out of order")
            .row("CPU, user", Value::Seconds(0.5))
            .row("last delivery after end", Value::Milliseconds(1.5))
            .row("name", Value::Text("a \"b\"".into()));
        let json = serde_json::to_string(&section).expect("text");
        assert_eq!(section.key(), "server_costs");
        let expected =
            r#"{"scheduled":7,"out_of_order":0,"cpu_user_secs":0.5,"last_delivery_after_end_ms":1.5,"name":"a \"b\""}"#;
        assert_eq!(json, expected);
    }

    #[test]
    fn only_counts_of_faults_that_are_not_zero_are_faults() {
        let section =
            Section::new("s").count("a", 3).fault("b", 0, "of b").fault("c", 1234, "of c").row("d", Value::Number(1.0));
        assert_eq!(section.faults().collect::<Vec<_>>(), ["1,234 of c"]);
    }

    #[test]
    fn values_read_well() {
        for (value, expected) in [
            (Value::Count(1_234_567), "1,234,567"),
            (Value::Number(1234.56), "1,235"),
            (Value::Number(0.034_56), "0.0346"),
            (Value::Milliseconds(12.345), "12.3 ms"),
            (Value::Bytes(1536.0), "1.50 KiB"),
            (Value::Share(0.1234), "12.3 %"),
        ] {
            assert_eq!(value.text(), expected);
        }
    }
}
