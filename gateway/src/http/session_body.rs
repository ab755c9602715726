//! What each answer with new tokens has in common: their body, the variables in them, and the refusal of a banned
//! account.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::error::{Code, Refusal};
use super::sign_in_refusals::SignInRefusal;
use crate::token::{VARS_BYTES_MAX, VARS_MAX, Vars};

/// The tokens that a client uses for its further requests.
#[derive(Serialize)]
pub struct SessionBody {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    pub token: String,
    pub refresh_token: String,
}

/// The client's key-value pairs as they come in a body. Reading ends at the first pair that is too much, so that many
/// pairs cost no more than the most that are allowed.
#[derive(Clone, Default)]
pub struct GivenVars(Vars);

impl<'de> Deserialize<'de> for GivenVars {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs)
    }
}

/// Reads pairs up to their bounds.
struct Pairs;

impl<'de> Visitor<'de> for Pairs {
    type Value = GivenVars;

    fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str("an object with texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<GivenVars, A::Error> {
        let (mut vars, mut pairs, mut bytes) = (Vars::new(), 0, 0);
        while let Some((key, value)) = map.next_entry::<String, String>()? {
            pairs += 1;
            bytes += key.len() + value.len();
            if pairs > VARS_MAX {
                return Err(A::Error::custom(format_args!("vars have more than {VARS_MAX} pairs")));
            }
            if bytes > VARS_BYTES_MAX {
                return Err(A::Error::custom(format_args!("vars take more than {VARS_BYTES_MAX} bytes")));
            }
            if vars.insert(key, value).is_some() {
                return Err(A::Error::custom("vars have a key twice"));
            }
        }
        Ok(GivenVars(vars))
    }
}

/// The client's key-value pairs, if they are small enough to be in every token. Refused if they are not.
pub fn checked_vars(vars: Option<GivenVars>) -> Result<Vars, Refusal> {
    let GivenVars(vars) = vars.unwrap_or_default();
    let size = serde_json::to_string(&vars).map_or(usize::MAX, |json| json.len());
    if size > VARS_BYTES_MAX {
        return Err(Refusal::invalid(format!("vars take more than {VARS_BYTES_MAX} bytes as JSON")));
    }
    Ok(vars)
}

/// The account may not sign in.
pub fn banned() -> Refusal {
    Refusal::new(Code::PermissionDenied, "this account is banned").because(SignInRefusal::Banned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<usize, String> {
        let vars: Option<GivenVars> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        checked_vars(vars).map(|vars| vars.len()).map_err(|refusal| refusal.message.into_owned())
    }

    fn pairs(count: usize) -> String {
        let pairs: Vec<String> = (0..count).map(|number| format!("\"{number}\":\"\"")).collect();
        format!("{{{}}}", pairs.join(","))
    }

    #[test]
    fn pairs_are_read_up_to_their_bounds() {
        assert_eq!(read("null"), Ok(0));
        assert_eq!(read("{}"), Ok(0));
        assert_eq!(read(&pairs(VARS_MAX)), Ok(VARS_MAX));
        let long = |bytes: usize| format!("{{\"k\":\"{}\"}}", "v".repeat(bytes));
        assert_eq!(read(&long(VARS_BYTES_MAX - r#"{"k":""}"#.len())), Ok(1));
        for wrong in [
            "[]",
            "\"a\"",
            "1",
            r#"{"a":1}"#,
            r#"{"a":null}"#,
            r#"{"a":{}}"#,
            r#"{"a":"","a":""}"#,
            "{",
            &long(VARS_BYTES_MAX - 7),
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    /// What follows the pair that is too much is not even looked at.
    #[test]
    fn reading_ends_at_the_first_pair_that_is_too_much() {
        for text in [pairs(VARS_MAX + 1), format!("{{\"k\":\"{}\"}}", "v".repeat(VARS_BYTES_MAX))] {
            let cut = format!("{},nonsense", &text[..text.len() - 1]);
            let said = read(&cut).unwrap_err();
            assert!(said.contains("vars"), "{said}");
        }
        let said = read(&format!("{},nonsense", pairs(VARS_MAX).trim_end_matches('}'))).unwrap_err();
        assert!(!said.contains("vars"), "{said}");
    }
}
