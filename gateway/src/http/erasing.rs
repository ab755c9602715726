//! Erases users for operators: the account is deleted as its user would delete it, and then this waits until everything of
//! it is gone.
//!
//! A message may be on its way to the store while its sender's account is deleted, and arrive behind the sweep's last look.
//! So this looks once more when no write can be under way any longer.

use std::rc::Rc;
use std::time::Duration;

use engine::id::{UserId, parse_uuid};
use glommio::timer::sleep;
use storage::{ANSWER_DURATION_MAX, Failure};

use super::account_deletions::Swept;
use super::account_deletions::queue::{LEFT_OVER_MAX, Sweep};
use super::error::Refusal;
use super::services::Services;
use crate::client_network::ClientNetwork;

/// How often the store is asked whether the messages are deleted.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// After this time no write of a session that has ended is under way.
const IN_FLIGHT_MAX: Duration = ANSWER_DURATION_MAX.saturating_add(Duration::from_secs(1));

/// An operator's request to erase a user.
pub struct Erasure {
    /// The user's id or name.
    pub user: String,
    /// Gets the user's id when everything is gone, or a line about why it is not.
    pub answer: flume::Sender<Result<UserId, String>>,
}

/// Serves operators, one after another, until the server stops.
pub async fn run(services: Rc<Services>, asked: flume::Receiver<Erasure>) {
    while let Ok(Erasure { user, answer }) = asked.recv_async().await {
        let erased = erase(&services, &user).await;
        match &erased {
            Ok(id) => tracing::info!(user = %id.0, "erased a user"),
            Err(reason) => tracing::warn!(reason, "a user was not erased"),
        }
        // The operator's side of the server may have ended.
        let _ = answer.try_send(erased);
    }
}

async fn erase(services: &Services, text: &str) -> Result<UserId, String> {
    let user = find(services, text).await?;
    let is_under_way = deletions(services).await?.contains(&user);
    if !is_under_way {
        services.account_deletions().depart(user, ClientNetwork::UNKNOWN).await.map_err(said)?;
    }
    while deletions(services).await?.contains(&user) {
        sleep(POLL_INTERVAL).await;
    }
    sleep(IN_FLIGHT_MAX).await;
    // A disk that does not answer may hold a write of the user for longer than that.
    while services.unready().is_some() {
        sleep(POLL_INTERVAL).await;
    }
    let mut sweep = Sweep::begin(services.now());
    while let Swept::Part = sweep.go_on(services, user).await.map_err(failed)? {}
    Ok(user)
}

/// The user with this id or name, whose account is there or is being deleted.
pub(super) async fn find(services: &Services, text: &str) -> Result<UserId, String> {
    if let Some(id) = parse_uuid(text).map(UserId)
        && (!services.store.existing(&[id]).await.map_err(failed)?.is_empty()
            || deletions(services).await?.contains(&id))
    {
        return Ok(id);
    }
    let named = services.store.user_by_username(text).await.map_err(failed)?;
    named.ok_or_else(|| format!("there is no user with the id or the name {text:?}"))
}

async fn deletions(services: &Services) -> Result<Vec<UserId>, String> {
    services.store.account_deletions(LEFT_OVER_MAX).await.map_err(failed)
}

fn said(refusal: Refusal) -> String {
    refusal.message.into()
}

fn failed(failure: Failure) -> String {
    format!("{failure}; begin anew: what is gone stays gone")
}
