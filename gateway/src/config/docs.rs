//! The documentation page of the configuration, in Markdown. docs/configuration.md is what this prints.

use std::fmt::Write;

use super::toml::described;
use crate::live::LIVE_KEYS;
use crate::options::{Key, Kind, keys};

/// The page up to the tables.
const HEAD: &str = include_str!("docs.md");

/// The page.
pub fn page() -> String {
    let live: Vec<String> = LIVE_KEYS.iter().map(|key| format!("`{key}`")).collect();
    let mut page = HEAD.replace("LIVE_KEYS", &listed(&live));
    let mut heading = String::new();
    for key in keys() {
        if key.heading() != heading {
            heading = key.heading().to_owned();
            let _ = write!(page, "\n### {heading}\n\n");
            if let Some(section) = key.section {
                let _ = write!(page, "In the file these keys stand in the section `[{section}]`.\n\n");
            }
            page += "| key | flag | variable | default | what it does |\n| --- | --- | --- | --- | --- |\n";
        }
        page += &row(&key);
    }
    page
}

/// Names with commas between them, and an `and` before the last.
fn listed(names: &[String]) -> String {
    match names {
        [] => "No keys".to_owned(),
        [name] => name.clone(),
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    }
}

fn row(key: &Key) -> String {
    let default = key.default().join(",");
    let default = if default.is_empty() { "none".to_owned() } else { format!("`{default}`") };
    let text = described(key).replace('|', "\\|");
    let (flag, value, variable) = (key.flag(), key.value_name(), key.variable());
    let value = if key.kind() == Kind::Boolean { format!("[={value}]") } else { format!(" {value}") };
    format!("| `{}` | `{flag}{value}` | `{variable}` | {default} | {text} |\n", key.name)
}

#[cfg(test)]
mod tests {
    #[cfg(feature = "scylla")]
    #[test]
    fn the_committed_page_is_the_printed_one() {
        let committed = include_str!("../../../docs/configuration.md");
        assert!(committed == super::page(), "run `stentor config docs > docs/configuration.md`");
    }
}
