//! The time of the newest tokens, written to the store now and then, so that a later life of the server puts its logouts behind
//! them whatever its clock says (`crate::revocations`).

use std::rc::Rc;
use std::time::Duration;

use glommio::timer::sleep;

use super::services::Services;
use crate::revocations::MARK_INTERVAL;

/// How soon after a quiet time a new token is seen.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Marks for as long as it is polled. In an executor of glommio.
pub async fn run(services: Rc<Services>) {
    let revocations = services.tokens.revocations();
    loop {
        let Some(mark) = revocations.take_mark(services.now()) else {
            sleep(LOOK_INTERVAL).await;
            continue;
        };
        if let Err(failure) = services.store.revoke(mark).await {
            tracing::warn!(%failure, "the store does not know yet when the newest tokens were issued");
            revocations.note_issue();
        }
        sleep(MARK_INTERVAL).await;
    }
}
