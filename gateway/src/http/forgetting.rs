//! Removes logouts from the store that are no longer needed, because all tokens that they refuse have expired.
//!
//! A reader of the store finds them, and the committer removes them, some at a time, among other writes. One shard does
//! this, at intervals. If some remain after a failure, that is harmless, and the next round removes them.

use std::rc::Rc;
use std::time::Duration;

use glommio::timer::sleep;
use storage::{FORGOTTEN_AT_ONCE_MAX, Failure};

use super::services::Services;

/// Time between two rounds. A round that finds nothing costs the embedded store one read. A database has no order by time: a
/// round reads all its logouts there, `FORGOTTEN_AT_ONCE_MAX` in a query.
const PAUSE: Duration = Duration::from_secs(600);

/// Removes expired logouts for as long as it is polled. It must run in an executor of glommio.
pub async fn run(services: Rc<Services>) {
    loop {
        if let Err(failure) = forget_expired(&services).await {
            tracing::warn!(%failure, "expired logouts stay in the store a little longer");
        }
        sleep(PAUSE).await;
    }
}

/// Removes all logouts that have expired by now. Fails as the store does; what was removed before that stays removed.
pub async fn forget_expired(services: &Services) -> Result<(), Failure> {
    let expiry = services.tokens.revocations().expiry(services.now());
    let mut place = None;
    loop {
        let (expired, next) = services.own_store().expired_revocations(expiry, place, FORGOTTEN_AT_ONCE_MAX).await?;
        if !expired.is_empty() {
            services.own_store().forget_revocations(expired).await?;
        }
        match next {
            Some(next) => place = Some(next),
            None => return Ok(()),
        }
    }
}
