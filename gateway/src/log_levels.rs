//! Which log lines are written: a level for all, and other levels for some parts of the program.
//!
//! The text is a list with commas: `info,gateway::sockets=debug`. An element without `=` is the level for all. A part is a
//! crate or a module of it, with all that is in it.

use std::fmt;
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// Most elements of a list.
const ELEMENTS_MAX: usize = 32;

/// The parts that there are. `stentor` is the program's own beginning and end.
const PARTS: [&str; 7] = ["engine", "gateway", "runtime", "scylla", "stentor", "storage", "storage_scylla"];

/// The driver of the database repeats the same message once a second while a node is away. The server says that once
/// itself, so the driver is silent unless it is named.
const SILENT: &str = "scylla";

const LEVELS: &str = "off, error, warn, info, debug or trace";

/// The levels that an operator wants.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogLevels {
    all: LevelFilter,
    parts: Vec<(String, LevelFilter)>,
}

impl LogLevels {
    /// The filter that lets these lines through.
    pub fn filter(&self) -> Targets {
        let parts = self.parts.iter().map(|(part, level)| (part.as_str(), *level));
        Targets::new().with_default(self.all).with_target(SILENT, LevelFilter::OFF).with_targets(parts)
    }
}

impl Default for LogLevels {
    fn default() -> Self {
        Self { all: LevelFilter::INFO, parts: Vec::new() }
    }
}

impl FromStr for LogLevels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.split(',').count() > ELEMENTS_MAX {
            return Err(format!("write at most {ELEMENTS_MAX} levels"));
        }
        let (mut levels, mut is_said) = (Self::default(), false);
        for element in text.split(',').map(str::trim) {
            match element.split_once('=') {
                None if is_said => return Err("write one level for all, and the others as PART=LEVEL".into()),
                None => {
                    levels.all = level(element)?;
                    is_said = true;
                }
                Some((part, of_part)) => levels.parts.push((known(part.trim())?, level(of_part.trim())?)),
            }
        }
        Ok(levels)
    }
}

impl fmt::Display for LogLevels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.all)?;
        self.parts.iter().try_for_each(|(part, level)| write!(f, ",{part}={level}"))
    }
}

fn level(text: &str) -> Result<LevelFilter, String> {
    // The library takes numbers for levels, too.
    let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    text.parse().ok().filter(|_| is_word).ok_or_else(|| format!("{text:?} is no level; write {LEVELS}"))
}

fn known(part: &str) -> Result<String, String> {
    let beginning = part.split("::").next().unwrap_or_default();
    let is_path = part.split("::").all(|name| !name.is_empty() && name.bytes().all(is_of_name));
    if is_path && PARTS.contains(&beginning) {
        return Ok(part.to_owned());
    }
    Err(format!(
        "there is no part {part:?}; write one of {}, or a module of it such as gateway::sockets",
        PARTS.join(", ")
    ))
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn levels_are_for_all_and_for_parts() {
        let check = |text: &str, target: &str, level: Level, expected: bool| {
            let filter = text.parse::<LogLevels>().unwrap().filter();
            assert_eq!(filter.would_enable(target, &level), expected, "{text} {target} {level}");
        };
        check("info", "gateway::sockets", Level::INFO, true);
        check("info", "gateway::sockets", Level::DEBUG, false);
        check("info,gateway::sockets=debug", "gateway::sockets::accept", Level::DEBUG, true);
        check("info,gateway::sockets=debug", "gateway::http", Level::DEBUG, false);
        check("warn , storage = off", "storage::embedded", Level::ERROR, false);
        check("storage=trace", "gateway", Level::INFO, true);
        check("trace", "scylla", Level::ERROR, false);
        check("off,scylla=warn", "scylla::cluster", Level::WARN, true);
        check("off", "stentor", Level::ERROR, false);
    }

    #[test]
    fn a_text_can_be_read_back() {
        for text in ["info", "off", "warn,gateway::sockets=debug,storage=off", "INFO,gateway=TRACE"] {
            let levels: LogLevels = text.parse().unwrap();
            assert_eq!(levels.to_string(), text.to_lowercase());
            assert_eq!(levels.to_string().parse(), Ok(levels));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let check = |text: &str, expected: &str| {
            let said = text.parse::<LogLevels>().unwrap_err();
            assert!(said.contains(expected), "{expected:?} is not in {said}");
        };
        check("", "\"\" is no level");
        check("loud", "\"loud\" is no level; write off, error");
        check("3", "is no level");
        check("info,warn", "one level for all");
        check("info,gatway=debug", "there is no part \"gatway\"");
        check("gateway::=debug", "there is no part");
        check("gateway=", "\"\" is no level");
        check(&vec!["gateway=info"; ELEMENTS_MAX + 1].join(","), "at most 32");
    }
}
