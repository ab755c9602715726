//! Changes of friends and blocks, and decides whether a user may write to another.

use engine::id::{Timestamp, UserId};
use engine::persist::StoreReceipt;
use engine::social::friend::{FriendAct, FriendNews, FriendState, Sides};
use engine::social::notification::Wording;

use super::inbox;
use crate::Failure;
use crate::friend::{ACT_METADATA_BYTES_MAX, Edge, FRIEND_METADATA_BYTES_MAX, Related};
use crate::repeats::SentRequest;
use crate::rows::Rows;

/// Does the same to each of the other users, in order. Skips unknown users and the user itself. What is repeated
/// within a minute notifies no user. `metadata` is kept on the user's own side of a request or a friendship that begins;
/// it may be empty. Fails if the metadata is too long, or if the store does.
pub fn relate(
    rows: &mut impl Rows,
    act: FriendAct,
    user: UserId,
    others: &[UserId],
    metadata: &str,
    time: Timestamp,
) -> Result<Related, Failure> {
    check_metadata(metadata, others.len())?;
    let mut related = Related::default();
    let Some(username) = rows.username(user)? else {
        return Ok(related);
    };
    for &other in others.iter().filter(|&&other| other != user) {
        if rows.username(other)?.is_none() {
            continue;
        }
        let before = [rows.edge(user, other)?, rows.edge(other, user)?];
        let [own, others] = before.each_ref().map(|edge| edge.as_ref().map(|edge| edge.state));
        let (after, told) = Sides { own, others }.after(act);
        if act == FriendAct::Add
            && own.is_none()
            && after.own.is_some()
            && !(rows.friend_counts(user)?.may_invite() && rows.friend_counts(other)?.is_invitable())
        {
            related.full = true;
            continue;
        }
        let [own_before, others_before] = before;
        set_side(rows, user, other, own_before, after.own, metadata, time)?;
        set_side(rows, other, user, others_before, after.others, "", time)?;
        if let Some(news) = told.filter(|news| is_new(rows, *news, user, other, time)) {
            let wording = wording(news, &username);
            related.notices.extend(inbox::notify(rows, other, user, &wording, time)?);
        }
    }
    Ok(related)
}

/// Admits a user to the direct channel with another user, and notifies the other. The user's account may be gone,
/// because a session may outlive it for a short time.
pub fn admit(
    rows: &mut impl Rows,
    user: UserId,
    username: &str,
    other: UserId,
    time: Timestamp,
) -> Result<StoreReceipt, Failure> {
    let state = |from, to| Ok(rows.edge(from, to)?.map(|edge| edge.state));
    let sides = || Ok(Sides { own: state(user, other)?, others: state(other, user)? });
    let Some(sides) = may_chat(user, other, |id| Ok(rows.username(id)?.is_some()), sides)? else {
        return Ok(StoreReceipt::NotAdmitted);
    };
    if user == other || sides.own == Some(FriendState::Blocked) {
        return Ok(StoreReceipt::Admitted(None));
    }
    let notice = inbox::notify(rows, other, user, &Wording::direct_request(username), time)?;
    Ok(StoreReceipt::Admitted(notice))
}

/// Whether a user may join the direct channel with another user: both must have accounts, and the other must not have
/// blocked the user. If so, returns how they stand to each other.
pub fn may_chat(
    user: UserId,
    other: UserId,
    exists: impl Fn(UserId) -> Result<bool, Failure>,
    sides: impl FnOnce() -> Result<Sides, Failure>,
) -> Result<Option<Sides>, Failure> {
    if !exists(user)? || !exists(other)? {
        return Ok(None);
    }
    Ok(Some(sides()?).filter(|sides| sides.others != Some(FriendState::Blocked)))
}

/// Refuses metadata that no store takes.
fn check_metadata(metadata: &str, others: usize) -> Result<(), Failure> {
    let bytes = metadata.len();
    if bytes <= FRIEND_METADATA_BYTES_MAX && bytes * others <= ACT_METADATA_BYTES_MAX {
        return Ok(());
    }
    Err(Failure::Unfit(format!("{bytes} bytes of metadata for each of {others} users")))
}

/// Sets one side of a pair to a state; a side that is in this state already stays unchanged. The side gets the metadata
/// if there is some, and else keeps what it has.
fn set_side(
    rows: &mut impl Rows,
    user: UserId,
    other: UserId,
    before: Option<Edge>,
    after: Option<FriendState>,
    metadata: &str,
    time: Timestamp,
) -> Result<(), Failure> {
    let state = before.as_ref().map(|edge| edge.state);
    if state == after {
        return Ok(());
    }
    let friend_counts = rows.friend_counts(user)?;
    let kept = before.as_ref().map_or("", |edge| &edge.metadata);
    let metadata = if metadata.is_empty() { kept } else { metadata };
    let after_edge = after.map(|state| Edge { state, since: time, metadata: metadata.into() });
    rows.set_edge(user, other, before, after_edge);
    let moved = friend_counts.moved(state, after);
    if moved != friend_counts {
        rows.set_friend_counts(user, moved);
    }
    Ok(())
}

/// Whether the other is notified of these news, or was of the same a moment ago. An acceptance takes both users, so it is
/// always new, and what they ask afterwards is new, too.
fn is_new(rows: &mut impl Rows, news: FriendNews, user: UserId, other: UserId, time: Timestamp) -> bool {
    let request = match news {
        FriendNews::Requested => SentRequest::Friend { user, other },
        FriendNews::Removed => SentRequest::Removed { user, other },
        FriendNews::Accepted => {
            for (user, other) in [(user, other), (other, user)] {
                rows.forget_sent(SentRequest::Friend { user, other });
                rows.forget_sent(SentRequest::Removed { user, other });
            }
            return true;
        }
    };
    let is_new = !rows.is_repeated(request, time);
    if is_new {
        rows.note_sent(request, time);
    }
    is_new
}

fn wording(news: FriendNews, username: &str) -> Wording {
    match news {
        FriendNews::Requested => Wording::friend_request(username),
        FriendNews::Accepted => Wording::friend_accepted(username),
        FriendNews::Removed => Wording::friend_removed(username),
    }
}
