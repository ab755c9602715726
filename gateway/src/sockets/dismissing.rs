//! Openings that are refused for now, as pages in browsers see them.
//!
//! A browser tells its page nothing of a refused opening: no status, no `Retry-After`. So the page would come back at once, and
//! not know why. An opening of a page is therefore accepted and closed at once, with a code and a reason that says when to come
//! back. This costs more than a refusal, so a shard does it `CLOSED_OPENINGS_PER_SECOND` times a second. Beyond that pages are
//! refused like other clients.

use engine::id::ConnectionId;
use engine::wire::websocket::{self, CloseCode};

use super::{SocketTable, Stage};
use crate::upgrade::{self, UpgradeRefusal};

/// The places of `PAGE_REFUSALS`.
const CLOSED: usize = 0;
const STATUS: usize = 1;

impl SocketTable {
    /// Refuses the opening whose head these bytes begin with. The connection's next request is in `next`, if there may be one.
    pub(super) fn refuse_opening(
        &mut self,
        id: ConnectionId,
        refusal: UpgradeRefusal,
        head: &[u8],
        next: Option<&[u8]>,
    ) {
        let of_page = refusal.retry_after_seconds().zip(upgrade::answer_to_page(head));
        let Some((seconds, mut answer)) = of_page else { return self.refuse(id, refusal, next) };
        if !self.services.may_close_an_opening() {
            self.counters.pages_refused[STATUS] += 1;
            return self.refuse(id, refusal, next);
        }
        self.counters.openings_refused[refusal.kind()] += 1;
        self.counters.pages_refused[CLOSED] += 1;
        websocket::close_frame(&mut answer, Some(code_of(refusal)), &reason(refusal, seconds));
        self.heads.leave(id);
        self.addresses.remove(&id);
        let Some(socket) = self.socket(id) else { return };
        if socket.send_whole(&answer) {
            socket.hang_up();
            self.enter(id, Stage::Dismissed);
        } else {
            self.remove(id);
        }
    }
}

fn code_of(refusal: UpgradeRefusal) -> CloseCode {
    match refusal {
        UpgradeRefusal::Draining { .. } => CloseCode::SERVICE_RESTART,
        _ => CloseCode::TRY_AGAIN_LATER,
    }
}

/// What a page reads: when to come back, for programs, and why, for people.
fn reason(refusal: UpgradeRefusal, retry_after_seconds: u64) -> String {
    format!("retry_after_ms={}; {}", retry_after_seconds.saturating_mul(1000), refusal.line())
}

#[cfg(test)]
mod tests {
    use engine::wire::websocket::CONTROL_BYTES_MAX;

    use super::*;

    #[test]
    fn reasons_fit_into_a_close_frame() {
        let retry_after_seconds = 99_999;
        for refusal in [
            UpgradeRefusal::SessionsOfUser { retry_after_seconds },
            UpgradeRefusal::OverBudget { retry_after_seconds },
            UpgradeRefusal::BeyondRate { retry_after_seconds },
            UpgradeRefusal::Draining { retry_after_seconds },
            UpgradeRefusal::Unavailable { retry_after_seconds },
        ] {
            let seconds = refusal.retry_after_seconds().expect("the client may come back");
            let reason = reason(refusal, seconds);
            assert!(
                reason.starts_with("retry_after_ms=99999000; ") && reason.len() <= CONTROL_BYTES_MAX - 2,
                "{reason}"
            );
        }
        assert_eq!(UpgradeRefusal::Origin.retry_after_seconds(), None);
    }
}
