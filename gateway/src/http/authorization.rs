//! Who sends a request: a client program with the server key, or a user with a session token (docs/protocol.md, section
//! 8).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use super::error::Refusal;
use super::services::Services;
use crate::heads;
use crate::token::Claims;

/// Accepts client programs: `Basic` with the server key as the user name. The key is not secret, because every client
/// has it. Anything else is refused as unauthenticated.
pub fn basic(services: &Services, headers: &HeaderMap) -> Result<(), Refusal> {
    let refused = || Refusal::unauthenticated("server key missing or wrong");
    let encoded = credentials(headers, "Basic").ok_or_else(refused)?;
    let decoded = BASE64_STANDARD.decode(encoded.trim()).map_err(|_| refused())?;
    let key = decoded.split(|&byte| byte == b':').next().unwrap_or_default();
    if key == services.server_key.load().as_bytes() && decoded.contains(&b':') { Ok(()) } else { Err(refused()) }
}

/// Accepts users: `Bearer` with a session token that is valid now. Anything else is refused as unauthenticated.
pub fn bearer(services: &Services, headers: &HeaderMap) -> Result<Claims, Refusal> {
    let token = credentials(headers, "Bearer").ok_or_else(|| Refusal::unauthenticated("session token missing"))?;
    Ok(services.tokens.check_session(token, services.now())?)
}

fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    heads::credentials(headers.get(AUTHORIZATION)?.to_str().ok()?, scheme)
}
