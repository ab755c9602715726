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
use super::account_deletions::queue::{LEFT_OVER_MAX, Sweep, TROUBLE_MAX};
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
    /// Gets the user's id when everything is gone, or why it is not.
    pub answer: flume::Sender<Result<UserId, UserFault>>,
}

/// Why a user cannot be told of or erased.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UserFault {
    #[error("there is no user with the id or the name {0:?}")]
    Unknown(String),
    #[error("{text:?} could mean the user {one} and the user {other}: write id: and the id of the one that is meant")]
    Ambiguous { text: String, one: UserId, other: UserId },
    /// The store has failed, or messages are left.
    #[error("{0}")]
    Failed(String),
}

/// Before an id or a name, where a text could be either.
const BY_ID: &str = "id:";
const BY_NAME: &str = "name:";

/// Serves operators, one after another, until the server stops.
pub async fn run(services: Rc<Services>, asked: flume::Receiver<Erasure>) {
    while let Ok(Erasure { user, answer }) = asked.recv_async().await {
        let erased = erase(&services, &user).await;
        match &erased {
            Ok(id) => tracing::info!(user = %id.0, "erased a user"),
            Err(fault) => tracing::warn!(%fault, "a user was not erased"),
        }
        // The operator's side of the server may have ended.
        let _ = answer.try_send(erased);
    }
}

async fn erase(services: &Services, text: &str) -> Result<UserId, UserFault> {
    let user = find(services, text).await?;
    if !deletions(services).await?.contains(&user) {
        services.account_deletions().depart(user, ClientNetwork::UNKNOWN).await.map_err(said)?;
    }
    // A deletion that another shard has under way, or none, is done again at the end.
    while services.account_deletions().is_under_way(user) {
        if let Some(trouble) = services.account_deletions().lasting_trouble(user, services.now()) {
            let text = format!("the account is gone, and not all of its messages are: {trouble}");
            return Err(UserFault::Failed(text));
        }
        sleep(POLL_INTERVAL).await;
    }
    sleep(IN_FLIGHT_MAX).await;
    // A disk that does not answer may hold a write of the user for longer than that.
    let begun = services.now();
    while let Some(reason) = services.unready() {
        if services.now().0 - begun.0 >= TROUBLE_MAX.0 {
            let text = format!("a message that was on its way may have come behind the deletion: {reason}; begin anew");
            return Err(UserFault::Failed(text));
        }
        sleep(POLL_INTERVAL).await;
    }
    let mut sweep = Sweep::begin(services.now());
    while let Swept::Part = sweep.go_on(services, user).await.map_err(failed)? {}
    Ok(user)
}

/// The user with this id or name, whose account is there or is being deleted. Users choose their names, so a name may be the
/// id of another user, with `id:` before it or not. A text that could mean several users is refused.
pub(super) async fn find(services: &Services, text: &str) -> Result<UserId, UserFault> {
    let by_id = match id_of(text).or_else(|| parse_uuid(text).map(UserId)) {
        Some(id) if is_there(services, id).await? => Some(id),
        _ => None,
    };
    let named = async |name| services.own_store().user_by_username(name).await.map_err(failed);
    let by_name = match text.strip_prefix(BY_NAME) {
        Some(name) => named(name).await?,
        None => None,
    };
    let mut meant = [by_id, by_name, named(text).await?].into_iter().flatten();
    let one = meant.next().ok_or_else(|| UserFault::Unknown(text.to_owned()))?;
    match meant.find(|other| *other != one) {
        Some(other) => Err(UserFault::Ambiguous { text: text.to_owned(), one, other }),
        None => Ok(one),
    }
}

/// The id that the text names, if it says that it names one.
pub(super) fn id_of(text: &str) -> Option<UserId> {
    text.strip_prefix(BY_ID).and_then(parse_uuid).map(UserId)
}

async fn is_there(services: &Services, id: UserId) -> Result<bool, UserFault> {
    let exists = !services.own_store().existing(&[id]).await.map_err(failed)?.is_empty();
    Ok(exists || deletions(services).await?.contains(&id))
}

async fn deletions(services: &Services) -> Result<Vec<UserId>, UserFault> {
    services.own_store().account_deletions(LEFT_OVER_MAX).await.map_err(failed)
}

fn said(refusal: Refusal) -> UserFault {
    UserFault::Failed(refusal.message.into())
}

fn failed(failure: Failure) -> UserFault {
    UserFault::Failed(failure.to_string())
}
