//! The configuration file: TOML whose keys are those of `Settings`. All mistakes are collected, each with its line and key.
//! No value of the file is repeated in a message about its syntax, because the value may be a secret.

use std::ffi::OsString;
use std::ops::Range;
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::declared::{Key, Kind};
use super::nearest::nearest;
use crate::database;

/// Most mistakes that are told: after a wrong quote all lines are wrong.
const MISTAKES_MAX: usize = 20;

/// A key's values in the file.
#[derive(Debug)]
pub(super) struct Written {
    /// The key's place among the declared keys.
    pub key: usize,
    /// The line, from 1.
    pub line: usize,
    pub values: Vec<OsString>,
}

/// Reads the file. Returns what is written there and can be understood, and a line for each mistake.
pub(super) fn read(path: &Path, keys: &[Key]) -> (Vec<Written>, Vec<String>) {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text, keys),
        Err(error) => (Vec::new(), vec![format!("cannot read the configuration file {}: {error}", path.display())]),
    }
}

fn parse(path: &Path, text: &str, keys: &[Key]) -> (Vec<Written>, Vec<String>) {
    let (table, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        return (Vec::new(), errors.iter().take(MISTAKES_MAX).map(|error| of_syntax(path, text, error)).collect());
    }
    let mut reader = Reader { path, text, keys, written: Vec::new(), mistakes: Vec::new() };
    reader.take_table(table.get_ref(), None);
    reader.mistakes.truncate(MISTAKES_MAX);
    (reader.written, reader.mistakes)
}

/// A mistake of syntax, with the key on its line.
fn of_syntax(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = line_at(text, at);
    let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map_or("", |(key, _)| key.trim());
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    let key = if is_key { format!("{key}: ") } else { String::new() };
    format!("{}:{line}: {key}{}", path.display(), error.message())
}

fn line_at(text: &str, at: usize) -> usize {
    text.as_bytes()[..at.min(text.len())].iter().filter(|byte| **byte == b'\n').count() + 1
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    keys: &'a [Key],
    written: Vec<Written>,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn take_table(&mut self, table: &DeTable<'_>, section: Option<&str>) {
        for (name, value) in table {
            let (name, line) = (name.get_ref().as_ref(), self.line(name.span()));
            match value.get_ref() {
                DeValue::Table(inner) if section.is_none() && name == database::SECTION => match database::ABSENT {
                    None => self.take_table(inner, Some(name)),
                    Some(advice) => self.mistake(line, &format!("[{name}]: {advice}")),
                },
                value => self.take(section, name, line, value),
            }
        }
    }

    fn take(&mut self, section: Option<&str>, name: &str, line: usize, value: &DeValue<'_>) {
        let Some(key) = self.keys.iter().position(|key| key.section == section && key.name == name) else {
            let mistake = self.unknown(section, name, value.is_table());
            return self.mistake(line, &mistake);
        };
        match values(value, self.keys[key].kind()) {
            Ok(values) => self.written.push(Written { key, line, values }),
            Err(expected) => {
                let path = self.keys[key].path();
                self.mistake(line, &format!("{path} is of the type {}; write {expected}", value.type_str()));
            }
        }
    }

    fn unknown(&self, section: Option<&str>, name: &str, is_table: bool) -> String {
        let path = section.map_or_else(|| name.to_owned(), |section| format!("{section}.{name}"));
        let kind = if is_table { "section" } else { "key" };
        let paths: Vec<String> = self.keys.iter().map(Key::path).collect();
        // Flags of a section have other names than its keys, and many users write them into the file.
        let by_flag = self.keys.iter().find(|key| key.id() == name.replace('-', "_")).map(Key::path);
        let by_name = || {
            let candidates = paths.iter().map(String::as_str).chain(is_table.then_some(database::SECTION));
            let in_section = self.keys.iter().find(|key| key.name == name).map(Key::path);
            let near = || nearest(&path, candidates).map(str::to_owned);
            in_section.or_else(near).or_else(|| self.nearest_elsewhere(name))
        };
        match by_flag.or_else(by_name) {
            Some(meant) => format!("there is no {kind} {path}; did you mean {meant}?"),
            None => format!("there is no {kind} {path}; `stentor config default` lists all keys"),
        }
    }

    /// The key whose name is nearest, in any section, as it is written outside of sections.
    fn nearest_elsewhere(&self, name: &str) -> Option<String> {
        let meant = nearest(name, self.keys.iter().map(|key| key.name.as_str()))?;
        self.keys.iter().find(|key| key.name == meant).map(Key::path)
    }

    fn line(&self, span: Range<usize>) -> usize {
        line_at(self.text, span.start)
    }

    fn mistake(&mut self, line: usize, what: &str) {
        self.mistakes.push(format!("{}:{line}: {what}", self.path.display()));
    }
}

/// The values as texts. Fails with what to write if the type is wrong.
fn values(value: &DeValue<'_>, kind: Kind) -> Result<Vec<OsString>, &'static str> {
    let one = |text: &str| Ok(vec![OsString::from(text)]);
    match (kind, value) {
        (Kind::Text | Kind::Time, DeValue::String(text)) => one(text),
        (Kind::Number | Kind::Time, DeValue::Integer(number)) => {
            match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => one(&number.to_string()),
                Err(_) => Err("a smaller number"),
            }
        }
        (Kind::Boolean, DeValue::Boolean(value)) => one(&value.to_string()),
        (Kind::List, DeValue::String(text)) => one(text),
        (Kind::List, DeValue::Array(elements)) => {
            let element = |element: &DeValue<'_>| element.as_str().map(OsString::from);
            elements.iter().map(|value| element(value.get_ref())).collect::<Option<_>>().ok_or(expected(kind))
        }
        _ => Err(expected(kind)),
    }
}

/// What to write for a key of this kind.
fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Text => "a string",
        Kind::Number => "a whole number",
        Kind::Boolean => "true or false",
        Kind::Time => "a string such as \"90s\", or a number of seconds",
        Kind::List => "an array of strings, or one string",
    }
}

#[cfg(test)]
mod tests {
    use super::super::declared::keys;
    use super::*;

    fn mistakes(text: &str) -> Vec<String> {
        parse(Path::new("s.toml"), text, &keys()).1
    }

    #[test]
    fn values_have_their_line() {
        let keys = keys();
        let text = "# a comment\nlisten = '[::1]:1'\n\nshards = 0x10\nadmin_host = ['a', 'b']\nproxy_protocol = true\nsession_ttl = 90\n";
        let (written, _) = parse(Path::new("s.toml"), text, &keys);
        let mut seen: Vec<_> =
            written.iter().map(|one| (one.line, keys[one.key].path(), one.values.join(" ".as_ref()))).collect();
        seen.sort();
        let expected = [
            (2, "listen", "[::1]:1"),
            (4, "shards", "16"),
            (5, "admin_host", "a b"),
            (6, "proxy_protocol", "true"),
            (7, "session_ttl", "90"),
        ];
        assert_eq!(seen, expected.map(|(line, path, value)| (line, path.to_owned(), value.into())));
    }

    #[test]
    fn each_mistake_has_its_line_and_key() {
        let check = |text: &str, expected: &[&str]| assert_eq!(mistakes(text), expected, "{text}");
        check("\nlistne = 1", &["s.toml:2: there is no key listne; did you mean listen?"]);
        check("colour = 1", &["s.toml:1: there is no key colour; `stentor config default` lists all keys"]);
        check("trusted-proxies = []", &["s.toml:1: there is no key trusted-proxies; did you mean trusted_proxies?"]);
        check("shards = 'many'", &["s.toml:1: shards is of the type string; write a whole number"]);
        check(
            "admin_host = 7",
            &["s.toml:1: admin_host is of the type integer; write an array of strings, or one string"],
        );
        check("listen.port = 1", &["s.toml:1: listen is of the type table; write an array of strings, or one string"]);
        check("shards = 99999999999999999999", &["s.toml:1: shards is of the type integer; write a smaller number"]);
        check("shards = 1\nstore = 'memory'\nshards = 2", &["s.toml:3: shards: duplicate key"]);
        let two = mistakes("lisen = 1\nshards = true");
        assert_eq!(two.len(), 2, "{two:?}");
    }

    #[cfg(feature = "scylla")]
    #[test]
    fn keys_of_the_database_are_found_in_their_section() {
        let check = |text: &str, meant: &str| {
            let mistakes = mistakes(text);
            assert!(mistakes.len() == 1 && mistakes[0].ends_with(&format!("did you mean {meant}?")), "{mistakes:?}");
        };
        check("scylla = []", "database.nodes");
        check("scylla-user = ''", "database.user");
        check("[database]\nscylla_user = ''", "database.user");
        check("[database]\nnode = []", "database.nodes");
        check("[databse]\nnodes = []", "database");
        check("[database]\nlisten = ''", "listen");
        check("keyspce = ''", "database.keyspace");
        check("nodes = []", "database.nodes");
    }

    #[test]
    fn a_mistake_of_syntax_does_not_repeat_a_secret() {
        for text in
            ["session_key = 'sesame", "session_key = sesame", "session_key = ['sesame'", "session_key = 'a'sesame"]
        {
            let said = mistakes(text).join("\n");
            assert!(said.starts_with("s.toml:1: session_key: ") && !said.contains("sesame"), "{said}");
        }
        assert!(mistakes("this is no TOML")[0].starts_with("s.toml:1: "));
    }
}
