//! Writes the time of the newest tokens to the store at intervals. So the next run of the server sets its logouts later
//! than these tokens, whatever its clock says (`crate::revocations`).

use std::rc::Rc;
use std::time::Duration;

use glommio::timer::sleep;

use super::services::Services;
use crate::revocations::MARK_INTERVAL;

/// How soon a new token is noticed after a time without any.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Writes the time for as long as it is polled. It must run in an executor of glommio.
pub async fn run(services: Rc<Services>) {
    let revocations = services.tokens.revocations();
    loop {
        let Some(mark) = revocations.take_mark(services.now()) else {
            sleep(LOOK_INTERVAL).await;
            continue;
        };
        if let Err(failure) = services.own_store().revoke(mark).await {
            tracing::warn!(%failure, "the store does not know yet when the newest tokens were issued");
            revocations.note_issue();
        }
        sleep(MARK_INTERVAL).await;
    }
}
