//! What all JSON Web Tokens here have in common: the library's cryptography, and headers that no token may have.

use std::collections::BTreeMap;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::crypto::rust_crypto::DEFAULT_PROVIDER;
use serde::de::IgnoredAny;

/// Names the provider of cryptography. The library's automatic choice panics if any other crate has enabled a second
/// provider. Only the first call has an effect, and this process makes no other choice.
pub(crate) fn choose_cryptography() {
    let _ = DEFAULT_PROVIDER.install_default();
}

/// Whether the header has a member `crit`, whatever its value. It names extensions that a reader must understand or
/// refuse the token (RFC 7515, section 4.1.11), and this server understands none. The library reads the member and
/// does not act on it, and takes `null` for absent.
pub(crate) fn has_critical_extensions(token: &str) -> bool {
    let header = token.split('.').next().and_then(|part| BASE64_URL_SAFE_NO_PAD.decode(part).ok());
    let members = header.and_then(|json| serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(&json).ok());
    members.is_none_or(|members| members.contains_key("crit"))
}
