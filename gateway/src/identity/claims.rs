//! The claims of a provider's token.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{IdentityRefusal, ProviderTerms};

/// Longest `sub` (OpenID Connect Core, section 2).
const SUBJECT_BYTES_MAX: usize = 255;

/// The claims as they are written. A claim of another type than its own is refused by name, so all of them are values here.
#[derive(Deserialize)]
pub(super) struct Claims {
    iss: Option<Value>,
    sub: Option<Value>,
    aud: Option<Value>,
    exp: Option<Value>,
    nbf: Option<Value>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Claims that are good now.
pub(super) struct Checked {
    pub subject: String,
    pub name: Option<String>,
    pub expires: i64,
}

impl Claims {
    /// Checks everything but the signature. `now` is in seconds since the Unix epoch.
    pub(super) fn checked(self, terms: &ProviderTerms, now: i64) -> Result<Checked, IdentityRefusal> {
        if self.iss.as_ref().and_then(Value::as_str) != Some(terms.issuer.as_str()) {
            return Err(IdentityRefusal::Issuer);
        }
        if !self.is_for(&terms.audiences) {
            return Err(IdentityRefusal::Audience);
        }
        let skew = i64::try_from(terms.clock_skew.as_secs()).unwrap_or(0);
        let expires = moment(self.exp.as_ref().ok_or(IdentityRefusal::NoExpiry)?)?;
        if expires.saturating_add(skew) <= now {
            return Err(IdentityRefusal::Expired);
        }
        if let Some(begins) = self.nbf.as_ref()
            && moment(begins)? > now.saturating_add(skew)
        {
            return Err(IdentityRefusal::NotYetValid);
        }
        let subject = self.sub.as_ref().and_then(Value::as_str).filter(|subject| is_subject(subject));
        let subject = subject.ok_or(IdentityRefusal::Subject)?.to_owned();
        let name = match terms.name_claim.as_str() {
            "sub" => Some(subject.clone()),
            claim => self.others.get(claim).and_then(Value::as_str).map(str::to_owned),
        };
        Ok(Checked { subject, name, expires })
    }

    /// Whether `aud`, which is a text or a list of texts, has one of these.
    fn is_for(&self, audiences: &[String]) -> bool {
        let is_ours = |value: &Value| value.as_str().is_some_and(|name| audiences.iter().any(|ours| ours == name));
        match &self.aud {
            Some(Value::Array(names)) => names.iter().any(is_ours),
            Some(name) => is_ours(name),
            None => false,
        }
    }
}

fn is_subject(text: &str) -> bool {
    (1..=SUBJECT_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// A time in seconds, which may have a fraction (RFC 7519, section 2).
fn moment(value: &Value) -> Result<i64, IdentityRefusal> {
    let whole = value.as_i64();
    // A conversion of numbers beyond those of `i64` yields the least or the greatest.
    let rounded = || value.as_f64().filter(|seconds| seconds.is_finite()).map(|seconds| seconds.floor() as i64);
    whole.or_else(rounded).ok_or(IdentityRefusal::Malformed)
}
