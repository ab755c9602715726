//! What the log says of requests that were refused, so that an attack is seen: who, for what, and why. Never what a client
//! sent: no credential, no token, no name that was tried.
//!
//! Each kind of line is limited by itself, and what is left out is counted (`log_limit.rs`).

use engine::id::UserId;

use super::error::{Code, Refusal};
use super::route::Route;
use crate::client_network::ClientNetwork;
use crate::log_limit;

/// Says that a request for this route was refused, if operators should know.
pub(super) fn tell(route: &Route, from: ClientNetwork, user: Option<UserId>, refusal: &Refusal) {
    let (client, reason) = (from, &*refusal.message);
    let user = user.or(refusal.about).map(|user| user.0);
    let user = user.as_ref().map(tracing::field::display);
    let is_sign_in = matches!(route, Route::Authenticate(_));
    match refusal.code {
        Code::Unauthenticated | Code::PermissionDenied | Code::NotFound if is_sign_in => {
            log_limit::info!(%client, user, reason, "a sign-in was refused");
        }
        Code::ForeignOrigin => {
            log_limit::info!(%client, reason, "a request of a page was refused: --allowed-origin does not name its origin");
        }
        Code::Unauthenticated => {
            log_limit::info!(%client, user, reason, "a request without a good key or token was refused")
        }
        Code::OverBudget { .. } => {
            log_limit::warn!(%client, user, reason, "a limit is reached: a request was refused");
        }
        Code::TooManyBodies | Code::TooManyPasswords | Code::TooManyAnswers => {
            log_limit::warn!(%client, user, reason, "what all clients share is full: a request was refused");
        }
        Code::BodyTooLarge | Code::HeadTooLarge => {
            log_limit::info!(%client, user, reason, "a request was too large");
        }
        // What the store does has been logged where it failed.
        _ => {}
    }
}
