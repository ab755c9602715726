//! The configuration as TOML: what is in force, and a template with all defaults.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use toml_writer::{ToTomlValue, TomlStringBuilder};

use crate::options::{Configuration, Key, Kind, Setting, Source, keys};
use crate::version;

/// What stands for a secret.
const SECRET: &str = "\"[secret]\"";

/// All keys with their values, and where each value came from. It can be used as a configuration file: secrets, and keys
/// without a value, are comments.
pub fn printed(configuration: &Configuration) -> String {
    let lines: Vec<(String, String)> =
        configuration.settings.iter().map(|setting| (line(setting), source(setting, configuration))).collect();
    let width =
        lines.iter().map(|(line, _)| line.chars().count()).filter(|width| *width <= WIDTH_MAX).max().unwrap_or(0);
    let mut page =
        format!("# stentor {}: the configuration in force, and where each value comes from.\n", version::TEXT);
    let _ = writeln!(page, "# sha256 of the values: {}\n", sha256(configuration));
    let mut section = None;
    for (setting, (line, source)) in configuration.settings.iter().zip(lines) {
        if setting.key.section != section {
            section = setting.key.section;
            page += &section.map_or_else(String::new, |name| format!("\n[{name}]\n"));
        }
        let _ = writeln!(page, "{line:width$}  # {source}");
    }
    page
}

/// Widest line behind which the sources stand in one column.
const WIDTH_MAX: usize = 60;

/// The hash of the values without secrets, in hexadecimal digits. It does not depend on where the values came from, so
/// servers that are set up alike have the same.
pub fn sha256(configuration: &Configuration) -> String {
    let mut hash = Sha256::new();
    for setting in &configuration.settings {
        hash.update(format!("{}: {}\n", setting.key.path(), line(setting)));
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A configuration file with all keys, their help and their defaults, as comments.
pub fn template() -> String {
    let mut page = "# The configuration file of stentor: all keys with their defaults. To set a key, take away the # before it.\n\
                    # Start with `stentor --config FILE`. A flag wins over its variable, and the variable over this file.\n"
        .to_owned();
    let (mut section, mut heading) = (None, String::new());
    for key in keys() {
        if key.heading() != heading {
            heading = key.heading().to_owned();
            let _ = write!(page, "\n# ---- {heading} ----\n");
        }
        if key.section != section {
            section = key.section;
            page += &section.map_or_else(String::new, |name| format!("\n[{name}]\n"));
        }
        let _ = write!(page, "\n# {}\n", described(&key));
        let _ = writeln!(page, "# ({} or {})", key.flag(), key.variable());
        let default: Vec<String> = key.default();
        let value = if default.is_empty() { placeholder(&key) } else { value(&key, &default) };
        let _ = writeln!(page, "#{} = {value}", key.name);
    }
    page
}

/// The help, with the values that there are.
pub(super) fn described(key: &Key) -> String {
    let choices = key.choices();
    let choices = if choices.is_empty() { String::new() } else { format!(": one of {}", choices.join(", ")) };
    key.help() + &choices
}

/// The line of a key, a comment if it cannot be read back.
fn line(setting: &Setting) -> String {
    let Setting { key, values, source } = setting;
    let texts: Vec<String> = values.iter().map(|value| value.to_string_lossy().into_owned()).collect();
    match source {
        Source::NotGiven => format!("#{} = {}", key.name, placeholder(key)),
        _ if key.is_secret() => format!("#{} = {SECRET}", key.name),
        _ => format!("{} = {}", key.name, value(key, &texts)),
    }
}

/// Where a value came from, for people.
fn source(setting: &Setting, configuration: &Configuration) -> String {
    match setting.source {
        Source::NotGiven => "not given".to_owned(),
        Source::Default => "default".to_owned(),
        Source::File(line) => {
            let file = configuration.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
            format!("file {}:{line}", one_line(&file))
        }
        Source::Environment => format!("environment {}", setting.key.variable()),
        Source::Flag => format!("flag {}", setting.key.flag()),
    }
}

/// A path's name with no character that would end a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// What to write for a key that has no value. It has the syntax of a value, also where a number must take its place: then the
/// mistake of a line that was not filled in is told with its key.
fn placeholder(key: &Key) -> String {
    let name = key.value_name();
    if key.kind() == Kind::Number { format!("{name:?}") } else { value(key, &[name.to_owned()]) }
}

fn value(key: &Key, texts: &[String]) -> String {
    let quoted = |text: &String| TomlStringBuilder::new(text).as_basic().to_toml_value();
    let bare = |text: &String| text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<i64>().is_ok();
    match (key.kind(), texts) {
        (Kind::List, texts) => format!("[{}]", texts.iter().map(quoted).collect::<Vec<_>>().join(", ")),
        (Kind::Boolean, [text]) => text.clone(),
        (Kind::Number, [text]) => text.clone(),
        (Kind::Time, [text]) if bare(text) => text.clone(),
        (_, texts) => quoted(&texts.concat()),
    }
}
