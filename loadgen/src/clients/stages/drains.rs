//! Users that come back after a drain which the run expects: after a short time of random length, as the protocol asks of
//! clients, and again and again until a server lets them in.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clients::client::{self, SlotEar};
use crate::clients::client_error::ClientError;
use crate::clients::crowd::{Due, Parting};
use crate::clients::socket::{SharedSocket, Socket};
use crate::clients::stages::{CrowdMember, Stages};
use crate::plan::draws::Draws;

/// The purpose for which the times of returns are drawn.
const RETURNS: u64 = 6;
/// The longest time until a user tries to come back, and until it tries again.
const RETURN_WITHIN: Duration = Duration::from_secs(2);

/// A connection, and the channel's id: its user is in the room.
pub type Present = (Socket, String);

/// Lets the user at this index in again. It tries until it succeeds or the task is aborted.
pub async fn come_back(stages: &Stages, at: usize) -> Present {
    let CrowdMember { user, ref crowd, .. } = stages.members[at];
    crowd.seeks();
    let mut draws = Draws::new(stages.plan.seed, RETURNS, user.into());
    loop {
        tokio::time::sleep(Duration::from_nanos(draws.below(RETURN_WITHIN.as_nanos() as u64))).await;
        // While no server lets it in, that is no fault of its own: the report says who is still away at the end.
        if let Ok(present) = enter(stages, at).await {
            crowd.returned();
            return present;
        }
    }
}

async fn enter(stages: &Stages, at: usize) -> Result<Present, ClientError> {
    let CrowdMember { user, ref crowd, member_slot } = stages.members[at];
    let mut socket = stages.connect(at).await?;
    let channel_id = client::join(&mut socket, crowd, user, member_slot).await?;
    Ok((socket, channel_id))
}

/// A publisher: it listens and sends what is due, until the run is over or the connection ends for another reason than a
/// drain. What is due while it is away is not sent.
pub async fn publish(stages: Rc<Stages>, at: usize, mut present: Present, mut due: mpsc::Receiver<Due>) {
    let CrowdMember { user, ref crowd, member_slot } = stages.members[at];
    loop {
        let (socket, channel_id) = (SharedSocket::new(present.0), present.1);
        let mut ear = SlotEar { crowd, member_slot };
        let lost = tokio::select! {
            lost = socket.listen(&mut ear) => lost,
            is_over = client::publish(socket.clone(), crowd.clone(), user, channel_id, &mut due) => {
                if is_over {
                    return;
                }
                socket.listen(&mut SlotEar { crowd, member_slot }).await
            }
        };
        // The server waits for its clients to hang up.
        drop(socket);
        if crowd.lost(member_slot, &lost) != Parting::Drained {
            return;
        }
        let mut returning = pin!(come_back(&stages, at));
        present = loop {
            tokio::select! {
                present = &mut returning => break present,
                missed = due.recv() => match missed {
                    Some(missed) => crowd.withhold(user, missed),
                    None => return,
                },
            }
        };
    }
}
