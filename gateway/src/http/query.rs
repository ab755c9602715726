//! Query parameters (docs/protocol.md, section 1.7). Names are snake_case or camelCase. Unknown parameters are ignored.
//! Repeated parameters form lists. A repeated scalar and an unreadable number or boolean are refused.

use engine::id::{UserId, parse_uuid};

use super::error::Refusal;
use crate::percent::{self, PARAMETERS_MAX, UrlPart};

/// A request's parameters, decoded: at most `PARAMETERS_MAX`.
#[derive(Default, Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the part of a target after `?`. Refuses text that is not percent-encoded UTF-8, and too many parameters.
    pub fn parse(query: Option<&str>) -> Result<Self, Refusal> {
        let text = |encoded| {
            percent::decode(encoded, UrlPart::Query)
                .ok_or_else(|| Refusal::invalid("the query is not percent-encoded UTF-8"))
        };
        let query = query.unwrap_or_default();
        if percent::pairs(query).nth(PARAMETERS_MAX).is_some() {
            return Err(Refusal::invalid(format!("the query has more than {PARAMETERS_MAX} parameters")));
        }
        percent::pairs(query).map(|(key, value)| Ok((text(key)?, text(value)?))).collect::<Result<_, _>>().map(Self)
    }

    /// All values of a list parameter, by its snake_case name.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| names(key, name)).map(|(_, value)| value.as_str())
    }

    /// The value of a text parameter. Refused if it is given more than once.
    pub fn text<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, Refusal> {
        let mut values = self.list(name);
        let value = values.next();
        match values.next() {
            None => Ok(value),
            Some(_) => Err(Refusal::invalid(format!("{name} is given more than once"))),
        }
    }

    /// A boolean, or `None` if the parameter is missing. Refuses other spellings than those of Go's `ParseBool`.
    pub fn boolean(&self, name: &str) -> Result<Option<bool>, Refusal> {
        match self.text(name)? {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(_) => Err(Refusal::invalid(format!("{name} must be true or false"))),
        }
    }

    /// A whole number, or `None` if the parameter is missing. Refuses what does not fit 32 bits.
    pub fn number(&self, name: &str) -> Result<Option<i32>, Refusal> {
        let Some(value) = self.text(name)? else {
            return Ok(None);
        };
        value.parse().map(Some).map_err(|_| Refusal::invalid(format!("{name} must be a whole number")))
    }

    /// How many items a page of the listing may have. Refused if it is no number from 1 to `max`.
    pub fn limit(&self, default: i32, max: i32) -> Result<usize, Refusal> {
        match self.number("limit")?.unwrap_or(default) {
            limit if (1..=max).contains(&limit) => Ok(limit as usize),
            _ => Err(Refusal::invalid(format!("limit must be between 1 and {max}"))),
        }
    }

    /// Which state the listed items must have. `known` returns the state of a number, if there is one. Refused if it
    /// is no number, or of no state.
    pub fn state<T>(&self, known: impl FnOnce(i32) -> Option<T>) -> Result<Option<T>, Refusal> {
        match self.number("state")? {
            None => Ok(None),
            Some(number) => known(number).map(Some).ok_or_else(|| Refusal::invalid("there is no such state")),
        }
    }

    /// The users whose ids are in this list, each once. Refused if one is no UUID.
    pub fn user_ids(&self, name: &str) -> Result<Vec<UserId>, Refusal> {
        let mut ids = Vec::new();
        for text in self.list(name) {
            let id = UserId(parse_uuid(text).ok_or_else(|| Refusal::invalid(format!("{name} has what is no UUID")))?);
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// The same, for users whom the request changes. Refused if one is the nil UUID, which no user has.
    pub fn changed_user_ids(&self, name: &str) -> Result<Vec<UserId>, Refusal> {
        let ids = self.user_ids(name)?;
        match ids.iter().any(|id| id.0.is_nil()) {
            true => Err(Refusal::invalid(format!("{name} has the nil UUID, which no user has"))),
            false => Ok(ids),
        }
    }
}

/// Whether a parameter's key is this snake_case name, or the same in camelCase.
fn names(key: &str, name: &str) -> bool {
    if key == name {
        return true;
    }
    let mut key = key.chars();
    let mut after_underscore = false;
    for character in name.chars() {
        if character == '_' {
            after_underscore = true;
            continue;
        }
        let expected = if after_underscore { character.to_ascii_uppercase() } else { character };
        after_underscore = false;
        if key.next() != Some(expected) {
            return false;
        }
    }
    key.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Query {
        Query::parse(Some(text)).unwrap()
    }

    #[test]
    fn names_in_both_cases() {
        for (key, expected) in [
            ("channel_id", true),
            ("channelId", true),
            ("channelid", false),
            ("ChannelId", false),
            ("channelIdx", false),
            ("channelI", false),
            ("channel_Id", false),
        ] {
            assert_eq!(names(key, "channel_id"), expected, "{key}");
        }
    }

    #[test]
    fn parameters_are_counted_before_they_are_read() {
        assert_eq!(query(&"a&".repeat(PARAMETERS_MAX)).list("a").count(), PARAMETERS_MAX);
        let refused = Query::parse(Some(&"a&".repeat(PARAMETERS_MAX + 1))).unwrap_err();
        assert_eq!(refused.message, "the query has more than 2048 parameters");
    }

    #[test]
    fn scalars_and_lists() {
        assert_eq!(query("?").text("a").unwrap(), None);
        assert_eq!(query("a=b+c%26&").text("a").unwrap(), Some("b c&"));
        assert_eq!(query("a=&x=1").text("a").unwrap(), Some(""));
        assert!(query("channel_id=1&channelId=1").text("channel_id").is_err());
        assert_eq!(query("ids=1&x=2&ids=3").list("ids").collect::<Vec<_>>(), ["1", "3"]);
        assert!(Query::parse(Some("a=%zz")).is_err());
        assert!(Query::parse(Some("%ff=a")).is_err());
        assert_eq!(Query::parse(None).unwrap().list("a").count(), 0);
    }

    #[test]
    fn booleans_and_numbers() {
        for text in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(query(&format!("b={text}")).boolean("b").unwrap(), Some(true), "{text}");
        }
        for text in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(query(&format!("b={text}")).boolean("b").unwrap(), Some(false), "{text}");
        }
        for text in ["", "yes", "tRUE", "2", "true&b=true"] {
            assert!(query(&format!("b={text}")).boolean("b").is_err(), "{text}");
        }
        for (text, number) in [("0", 0), ("100", 100), ("-1", -1), ("%2B5", 5)] {
            assert_eq!(query(&format!("n={text}")).number("n").unwrap(), Some(number), "{text}");
        }
        for text in ["", "ten", "1.0", "99999999999", "1&n=1"] {
            assert!(query(&format!("n={text}")).number("n").is_err(), "{text}");
        }
    }
}
