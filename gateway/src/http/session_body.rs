//! What each answer with new tokens has in common: their body, the variables in them, and the refusal of a banned
//! account.

use serde::Serialize;

use super::error::{Code, Refusal};
use crate::token::{VARS_BYTES_MAX, VARS_MAX, Vars};

/// The tokens that a client uses for its further requests.
#[derive(Serialize)]
pub struct SessionBody {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub created: bool,
    pub token: String,
    pub refresh_token: String,
}

/// The client's key-value pairs, if they are few and small enough to be in every token.
pub fn checked_vars(vars: Option<Vars>) -> Result<Vars, Refusal> {
    let vars = vars.unwrap_or_default();
    if vars.len() > VARS_MAX {
        return Err(Refusal::invalid(format!("vars have more than {VARS_MAX} pairs")));
    }
    let size = serde_json::to_string(&vars).map_or(usize::MAX, |json| json.len());
    if size > VARS_BYTES_MAX {
        return Err(Refusal::invalid(format!("vars take more than {VARS_BYTES_MAX} bytes as JSON")));
    }
    Ok(vars)
}

/// The account may not sign in.
pub fn banned() -> Refusal {
    Refusal::new(Code::PermissionDenied, "this account is banned")
}
