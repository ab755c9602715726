//! Recorded conversations. They are replayed on a real server and compared byte for byte, in either format or in both
//! at once.
//!
//! A transcript is a text file with envelopes as JSON. For protobuf, another implementation decodes the server's bytes
//! to JSON for the comparison, and the bytes must be what that implementation makes of the JSON (`socket.rs`). Each
//! line is one of
//!
//! ```text
//! # a remark
//! A signs in as alice          (an account; created when it is new)
//! A connects                   (opens A's socket)
//! A comes online               (opens A's socket, and is seen by followers)
//! A> {"cid":"1","ping":{}}     (A sends this)
//! A< {"cid":"1","pong":{}}     (the next thing A hears is exactly this)
//! A? GET /v2/channel/...       (A asks over HTTP)
//! A? POST /v2/group {"name":"x"}
//! A= 200 {}                    (and is answered so)
//! A is cut off                 (A's connection ends without a close frame)
//! ```
//!
//! `{{name}}` stands for a value that only the run knows. It is bound where it is first read, and must be the same
//! everywhere after that. The end of the name tells its type: `.user`, `.session` and `.id` are a UUID, `.created` and
//! `.updated` a time, `.cursor` a cursor. `{{AB.one}}` and `{{AB.two}}` are the ids of the users A and B, the smaller
//! first, as in the id of their direct channel. `{{any}}` is any text and is never bound. At the end every open
//! connection is pinged, and must receive nothing but the answer.

use std::collections::HashMap;

use serde_json::json;

use super::{Account, Format, Server, Socket};

/// Which actor uses which format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cast {
    All(Format),
    /// The actors that sign in first, third and so on use JSON, the others protobuf.
    Mixed,
}

impl Cast {
    /// All casts: every transcript is replayed with each of them.
    pub const EVERY: [Self; 3] = [Self::All(Format::Json), Self::All(Format::Protobuf), Self::Mixed];

    fn format_of(self, place: usize) -> Format {
        match self {
            Self::All(format) => format,
            Self::Mixed => Format::ALL[place % Format::ALL.len()],
        }
    }
}

/// Replays a transcript. Panics with the first line that differs.
pub fn replay(server: &Server, cast: Cast, name: &str, text: &str) {
    let mut stage = Stage { server, cast, actors: HashMap::new(), bound: HashMap::new() };
    for (index, line) in text.lines().enumerate() {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Err(complaint) = stage.play(line) {
            panic!("{name}:{}: {complaint}\n  line:  {line}", index + 1);
        }
    }
    stage.finish(name);
}

struct Stage<'a> {
    server: &'a Server,
    cast: Cast,
    actors: HashMap<String, Actor>,
    bound: HashMap<String, String>,
}

struct Actor {
    account: Account,
    format: Format,
    socket: Option<Socket>,
    answer: Option<String>,
}

impl Stage<'_> {
    fn play(&mut self, line: &str) -> Result<(), String> {
        let (label, rest) = line.split_at(1);
        if let Some(name) = rest.strip_prefix(" signs in as ") {
            let account = self.server.sign_in(name);
            for (other, actor) in &self.actors {
                let (pair, mut users) = (format!("{other}{label}"), [&actor.account.user_id, &account.user_id]);
                users.sort();
                for (place, user) in ["one", "two"].into_iter().zip(users) {
                    self.bound.insert(format!("{pair}.{place}"), user.clone());
                }
            }
            self.bound.insert(format!("{label}.user"), account.user_id.clone());
            let format = self.cast.format_of(self.actors.len());
            self.actors.insert(label.to_string(), Actor { account, format, socket: None, answer: None });
            return Ok(());
        }
        let actor = self.actors.get_mut(label).ok_or_else(|| format!("{label} has not signed in"))?;
        let address = self.server.address();
        match rest {
            " connects" => actor.socket = Some(Socket::connect_in(actor.format, address, &actor.account.token)),
            " comes online" => actor.socket = Some(Socket::connect_online(actor.format, address, &actor.account.token)),
            " is cut off" => drop(actor.socket.take().ok_or("not connected")?),
            _ => {
                let (sign, text) = rest.split_once(' ').ok_or("no such kind of line")?;
                return self.exchange(label, sign, text);
            }
        }
        Ok(())
    }

    fn exchange(&mut self, label: &str, sign: &str, text: &str) -> Result<(), String> {
        let actor = self.actors.get_mut(label).ok_or("not signed in")?;
        match sign {
            ">" => actor.socket.as_mut().ok_or("not connected")?.send_text(&fill(text, &self.bound)?),
            "<" => {
                let came = actor.socket.as_mut().ok_or("not connected")?.receive_text();
                agree(text, &came, &mut self.bound)?;
            }
            "?" => {
                let (method, rest) = text.split_once(' ').ok_or("expected `METHOD PATH`")?;
                let (path, body) = rest.split_once(' ').unwrap_or((rest, ""));
                let authorization = super::http::bearer(&actor.account.token);
                let (path, body) = (fill(path, &self.bound)?, fill(body, &self.bound)?);
                let answer = self.server.http().request(method, &path, &[("Authorization", &authorization)], body);
                actor.answer = Some(format!("{} {}", answer.status, answer.body));
            }
            "=" => agree(text, &actor.answer.take().ok_or("nothing was asked")?, &mut self.bound)?,
            _ => return Err("no such kind of line".into()),
        }
        Ok(())
    }

    fn finish(mut self, name: &str) {
        // All actors stay connected until all have been pinged, so that no actor receives another one's leave.
        for (label, actor) in &mut self.actors {
            assert!(actor.answer.is_none(), "{name}: an answer to {label} was never looked at");
            if let Some(socket) = &mut actor.socket {
                socket.send(&json!({"cid": "the end", "ping": {}}));
                let came = socket.receive_text();
                assert_eq!(came, r#"{"cid":"the end","pong":{}}"#, "{name}: {label} heard more than was recorded");
            }
        }
    }
}

/// One part of a line: literal text, or a name.
enum Part<'a> {
    Text(&'a str),
    Name(&'a str),
}

fn parts(line: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find("{{") {
        let Some(length) = rest[start..].find("}}") else { break };
        parts.push(Part::Text(&rest[..start]));
        parts.push(Part::Name(&rest[start + 2..start + length]));
        rest = &rest[start + length + 2..];
    }
    parts.push(Part::Text(rest));
    parts
}

fn fill(line: &str, bound: &HashMap<String, String>) -> Result<String, String> {
    let mut filled = String::new();
    for part in parts(line) {
        filled.push_str(match part {
            Part::Text(text) => text,
            Part::Name(name) => bound.get(name).ok_or_else(|| format!("{{{{{name}}}}} is not bound yet"))?,
        });
    }
    Ok(filled)
}

/// Compares a line that came with the recorded one, and binds the names that are read for the first time.
fn agree(recorded: &str, came: &str, bound: &mut HashMap<String, String>) -> Result<(), String> {
    let differs = |why: String| format!("{why}\n  came:  {came}");
    let mut rest = came;
    for part in parts(recorded) {
        match part {
            Part::Text(text) => {
                rest = rest.strip_prefix(text).ok_or_else(|| differs(format!("expected {text:?} before {rest:?}")))?;
            }
            Part::Name(name) => {
                let end = rest.find('"').unwrap_or(rest.len());
                let known = bound.get(name);
                // A known value may stand inside a text. An unknown value extends to the end of its text.
                let (value, after) = match known.and_then(|known| rest.strip_prefix(known.as_str())) {
                    Some(after) => (&rest[..rest.len() - after.len()], after),
                    None => rest.split_at(end),
                };
                if let Some(known) = known.filter(|known| *known != value) {
                    return Err(differs(format!("{{{{{name}}}}} was {known:?} before and is {value:?} now")));
                }
                if !may_stand_for(name, value) {
                    return Err(differs(format!("{value:?} is nothing that {{{{{name}}}}} may be")));
                }
                if name != "any" {
                    bound.entry(name.to_string()).or_insert_with(|| value.to_string());
                }
                rest = after;
            }
        }
    }
    if rest.is_empty() { Ok(()) } else { Err(differs(format!("more than recorded: {rest:?}"))) }
}

fn may_stand_for(name: &str, value: &str) -> bool {
    match name.rsplit('.').next() {
        Some("user" | "one" | "two" | "session" | "id") => is_uuid(value),
        Some("created" | "updated") => is_time(value),
        Some("cursor") => !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_=".contains(&b)),
        Some("any") => !value.is_empty(),
        _ => false,
    }
}

/// Whether the text is a UUID in lower case, with its hyphens in the right places.
pub fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(index, byte)| match index {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

/// `YYYY-MM-DDThh:mm:ss[.fraction]Z` with 0, 3, 6 or 9 digits, the fewest that are exact.
pub fn is_time(text: &str) -> bool {
    let Some((seconds, fraction)) = text.strip_suffix('Z').map(|text| text.split_once('.').unwrap_or((text, "")))
    else {
        return false;
    };
    let shape: String = seconds.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    shape == "0000-00-00T00:00:00"
        && fraction.bytes().all(|byte| byte.is_ascii_digit())
        && !fraction.ends_with("000")
        && matches!(fraction.len(), 0 | 3 | 6 | 9)
        && !text.ends_with(".Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "65aea872-a336-4029-90c9-6f507b75281c";
    const OTHER: &str = "8764eaba-85b6-4c62-88f1-c205fa39b581";

    #[test]
    fn names_are_bound_once_and_hold_afterwards() {
        let mut bound = HashMap::new();
        let mut check = |recorded: &str, came: String, expected: bool| {
            assert_eq!(agree(recorded, &came, &mut bound).is_ok(), expected, "{recorded} / {came}");
        };
        check(r#"{"id":"{{m.id}}"}"#, format!(r#"{{"id":"{ID}"}}"#), true);
        check(r#"{"id":"{{m.id}}"}"#, format!(r#"{{"id":"{ID}"}}"#), true);
        check(r#"{"id":"{{m.id}}"}"#, format!(r#"{{"id":"{OTHER}"}}"#), false);
        check(r#"{"id":"{{n.id}}"}"#, r#"{"id":"no"}"#.into(), false);
        check(r#"{"id":"{{n.id}}"}"#, format!(r#"{{"id":"{OTHER}","more":1}}"#), false);
        check(r#"{"id":"3.{{m.id}}.."}"#, format!(r#"{{"id":"3.{ID}.."}}"#), true);
        check(r#"{"id":"3.{{m.id}}.."}"#, format!(r#"{{"id":"3.{OTHER}.."}}"#), false);
        check(r#"{"e":"{{any}}"}"#, r#"{"e":"one"}"#.into(), true);
        check(r#"{"e":"{{any}}"}"#, r#"{"e":"two"}"#.into(), true);
        check(r#"{"content":"{}"}"#, r#"{"content":"{}"}"#.into(), true);
    }

    #[test]
    fn knows_a_time_when_it_sees_one() {
        let check = |text: &str, expected: bool| assert_eq!(is_time(text), expected, "{text}");
        check("2026-11-22T09:04:39.575385013Z", true);
        check("2026-11-22T09:04:39.575385Z", true);
        check("2026-11-22T09:04:39.575Z", true);
        check("2026-11-22T09:04:39Z", true);
        check("2026-11-22T09:04:39.5Z", false);
        check("2026-11-22T09:04:39.575000Z", false);
        check("2026-11-22T09:04:39.000Z", false);
        check("2026-11-22T09:04:39.Z", false);
        check("2026-11-22T09:04:39", false);
        check("2026-11-22 09:04:39Z", false);
    }
}
