//! The credentials with which clients prove who they are, and the forms that these must have.

use storage::account::Credential;

use super::error::Refusal;
use crate::identity::{CUSTOM_ID_BYTES_MAX, VouchedUser};
use crate::password::GivenPassword;

/// Longest id of a device, or custom id.
pub const ID_BYTES_MAX: usize = CUSTOM_ID_BYTES_MAX;
const DEVICE_ID_BYTES_MIN: usize = 10;
const EMAIL_BYTES_MIN: usize = 10;
/// Longest email, in bytes of UTF-8.
pub const EMAIL_BYTES_MAX: usize = 255;
const PASSWORD_BYTES_MIN: usize = 8;

/// The credentials that a client sends to prove who it is.
pub(super) struct Proof {
    pub credential: Credential,
    /// For emails only.
    pub password: Option<GivenPassword>,
    /// The user for whom the identity provider speaks, if it does.
    pub vouched: Option<VouchedUser>,
}

/// The id of a device, if it has the form of one.
pub(super) fn device_id(id: String) -> Result<String, Refusal> {
    checked_id(id, DEVICE_ID_BYTES_MIN)
}

/// An id that a client has made up, if it has the form of one.
pub(super) fn checked_id(id: String, bytes_min: usize) -> Result<String, Refusal> {
    if !(bytes_min..=ID_BYTES_MAX).contains(&id.len()) {
        return Err(Refusal::invalid(format!("id must be {bytes_min} to {ID_BYTES_MAX} bytes long")));
    }
    if has_blanks(&id) {
        return Err(Refusal::invalid("id must not contain blanks or control characters"));
    }
    Ok(id)
}

/// An email in the form in which it is kept, if it has the form of one.
pub(super) fn checked_email(email: &str) -> Result<String, Refusal> {
    // Lowercase letters may be longer than the others: of `İ`, by half. The bound is that of what is stored.
    let email = email.to_lowercase();
    if !(EMAIL_BYTES_MIN..=EMAIL_BYTES_MAX).contains(&email.len()) {
        return Err(Refusal::invalid(format!("email must be {EMAIL_BYTES_MIN} to {EMAIL_BYTES_MAX} bytes long")));
    }
    if has_blanks(&email) || !is_email_shaped(&email) {
        return Err(Refusal::invalid("email must look like name@example.com, without blanks"));
    }
    Ok(email)
}

/// Requires some text, an at sign, some text, a dot, some text. Only an email to the address could tell more.
fn is_email_shaped(email: &str) -> bool {
    let domain = email.split_once('@').filter(|(name, _)| !name.is_empty()).map(|(_, domain)| domain);
    let parts = domain.and_then(|domain| domain.rsplit_once('.'));
    parts.is_some_and(|(before, after)| !before.is_empty() && !after.is_empty())
}

/// A password, if it has the form of one.
pub(super) fn checked_password(password: String) -> Result<String, Refusal> {
    if password.len() < PASSWORD_BYTES_MIN {
        return Err(Refusal::invalid(format!("password must be at least {PASSWORD_BYTES_MIN} bytes long")));
    }
    Ok(password)
}

fn has_blanks(text: &str) -> bool {
    text.chars().any(|character| character.is_ascii_whitespace() || character.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn emails() {
        for email in ["a@example.com", "A.b+c@mail.example.org", "ä@exämple.de"] {
            assert_eq!(checked_email(email).unwrap(), email.to_lowercase());
        }
        for email in ["", "a@b.c", "aaaaaaaaaa", "@example.com", "a@.exampleX.", "a@examplecom", "a b@example.com"] {
            assert!(checked_email(email).is_err(), "{email}");
        }
        assert!(checked_email(&format!("{}@example.com", "a".repeat(243))).is_ok());
        assert!(checked_email(&format!("{}@example.com", "a".repeat(244))).is_err());
        // `İ` has two bytes, and three in lowercase.
        assert!(checked_email(&format!("{}@example.com", "İ".repeat(120))).is_err());
        let stored = checked_email(&format!("{}@example.com", "İ".repeat(81))).unwrap();
        assert_eq!(
            (stored.len(), checked_email(&stored).unwrap()),
            (255, stored.clone()),
            "it signs in as it is shown"
        );
    }
}
