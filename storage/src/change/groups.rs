//! Changes of groups: makes and edits them, and carries out what `engine::social::group` decides about their members.

use std::collections::HashMap;

use engine::id::{ChannelId, GroupId, Timestamp, UserId};
use engine::message::{Message, MessageCode};
use engine::persist::ChannelHead;
use engine::social::friend::FriendState;
use engine::social::group::{
    GroupAct, GroupChange, GroupDecision, GroupOutcome, GroupRefusal, Move, Person, Role, Roster,
};
use engine::social::notification::{Notice, Wording};

use super::inbox;
use crate::Failure;
use crate::friend::Edge;
use crate::group::{
    ADMINS_NOTIFIED_MAX, GROUP_NAME_BYTES_MAX, GROUPS_ADDED_MAX, GROUPS_PER_USER_MAX, Group, GroupCreated, GroupEdit,
    GroupEdited, Membership,
};
use crate::repeats::{GROUP_NOTICES_MAX, SentRequest};
use crate::rows::Rows;

/// Makes a group, with its creator as its superadmin. A missing creator and a taken name are answers. Fails with
/// [`Failure::Unfit`] if the group could never be stored.
pub fn create(rows: &mut impl Rows, group: &Group) -> Result<GroupCreated, Failure> {
    check_name(&group.name)?;
    if group.max_count == 0 {
        return Err(Failure::Unfit("a group without a seat for its creator".into()));
    }
    if rows.group(group.id)?.is_some() {
        return Err(Failure::Unfit(format!("a second group {}", group.id)));
    }
    if rows.username(group.creator)?.is_none() {
        return Ok(GroupCreated::UnknownUser);
    }
    if rows.group_by_name(&group.name)?.is_some() {
        return Ok(GroupCreated::NameTaken);
    }
    if !rows.has_room_for_group(group.creator, GROUPS_PER_USER_MAX)? {
        return Ok(GroupCreated::TooManyGroups);
    }
    rows.put_group(None, &Group { edge_count: 1, ..group.clone() });
    let membership = Membership { role: Role::Superadmin, since: group.create_time };
    rows.set_membership(group.id, group.creator, None, Some(membership))?;
    Ok(GroupCreated::Created)
}

/// Changes the fields of a group that the edit names. For an actor who is no admin of it there is no such group.
pub fn update(
    rows: &mut impl Rows,
    id: GroupId,
    actor: UserId,
    edit: &GroupEdit,
    time: Timestamp,
) -> Result<GroupEdited, Failure> {
    let Some(before) = rows.group(id)? else {
        return Ok(GroupEdited::NotFound);
    };
    if rows.membership(id, actor)?.is_none_or(|membership| !membership.role.is_admin()) {
        return Ok(GroupEdited::NotFound);
    }
    if let Some(name) = &edit.name {
        check_name(name)?;
        if rows.group_by_name(name)?.is_some_and(|other| other != id) {
            return Ok(GroupEdited::NameTaken);
        }
    }
    let mut after = before.clone();
    edit.apply_to(&mut after, time);
    rows.put_group(Some(&before), &after);
    Ok(GroupEdited::Done)
}

/// Changes a group's members by the rules. Fails only if the store does.
pub fn change(
    rows: &mut impl Rows,
    change: &GroupChange,
    time: Timestamp,
    places: &[ChannelHead],
) -> Result<Result<GroupOutcome, GroupRefusal>, Failure> {
    let Some(group) = rows.group(change.group)? else {
        return Ok(change.decide(None).map(|_| GroupOutcome::default()));
    };
    let roster = roster(rows, &group, change)?;
    let moves = match change.decide(Some(&roster)) {
        Err(refusal) => return Ok(Err(refusal)),
        Ok(GroupDecision::Delete) => {
            rows.remove_group(&group);
            return Ok(Ok(GroupOutcome { deleted: true, ..GroupOutcome::default() }));
        }
        Ok(GroupDecision::Move(moves)) => moves,
    };
    if moves.iter().filter(|made| made.message.is_some()).count() > places.len() {
        return Err(Failure::Unfit("fewer places than event messages".into()));
    }
    let mut outcome = GroupOutcome::default();
    let mut places = places.iter();
    for made in &moves {
        make_move(rows, &group, made, time)?;
        if let Some((code, place)) = made.message.and_then(|code| Some((code, places.next()?))) {
            let message = event_message(rows, &group, made.user, code, *place, time)?;
            rows.insert_message(&message)?;
            outcome.messages.push(message);
        }
        if made.removes() {
            outcome.removed.push(made.user);
        }
        outcome.notices.extend(notices(rows, &group, change.actor, made, time)?);
    }
    assert!(outcome.messages.len() <= change.act.messages_max(), "an act says how many messages it makes at most");
    count_seats(rows, &group, &moves, time);
    Ok(Ok(outcome))
}

/// Removes a user whose account is deleted from every group, without event messages: there are no places for them here.
/// The channel's owner has sent the event messages before; this handles changes since then.
pub fn depart_in_silence(rows: &mut impl Rows, user: UserId, time: Timestamp) -> Result<(), Failure> {
    for id in rows.groups_of(user)? {
        let Some(group) = rows.group(id)? else { continue };
        let change = GroupChange { group: id, actor: user, act: GroupAct::Depart };
        let roster = roster(rows, &group, &change)?;
        match roster.depart(user) {
            GroupDecision::Delete => rows.remove_group(&group),
            GroupDecision::Move(moves) => {
                for made in &moves {
                    make_move(rows, &group, made, time)?;
                }
                count_seats(rows, &group, &moves, time);
            }
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), Failure> {
    match name.len() {
        1..=GROUP_NAME_BYTES_MAX => Ok(()),
        length => {
            Err(Failure::Unfit(format!("a group's name of {length} bytes; 1 to {GROUP_NAME_BYTES_MAX} are possible")))
        }
    }
}

/// Looks up what the rules need to know for this change.
fn roster(rows: &impl Rows, group: &Group, change: &GroupChange) -> Result<Roster, Failure> {
    // Only users who come into the group must have an account and room for one more group.
    let comers = matches!(change.act, GroupAct::Join | GroupAct::Add(_));
    let adds = matches!(change.act, GroupAct::Add(_));
    let groups_max = if adds { GROUPS_ADDED_MAX } else { GROUPS_PER_USER_MAX };
    let mut people = HashMap::new();
    for &user in change.act.named().iter().chain([&change.actor]) {
        let exists = !comers || rows.username(user)?.is_some();
        // A ban may outlive the banned user's account by some writes.
        let membership = if exists { rows.membership(group.id, user)? } else { None };
        let role = membership.map(|membership| membership.role);
        let is_new = comers && role.is_none() && exists;
        let has_room = !is_new || rows.has_room_for_group(user, groups_max)?;
        let blocks = |edge: Option<Edge>| edge.is_some_and(|edge| edge.state == FriendState::Blocked);
        let blocks_actor = is_new && adds && blocks(rows.edge(user, change.actor)?);
        people.insert(user, Person { role, exists, has_room, blocks_actor });
    }
    let next = match change.act {
        GroupAct::Leave | GroupAct::Depart => {
            // At least one of the first two is not the actor.
            let first = rows.roster(group.id, Role::Member, 2)?;
            first.into_iter().find(|(user, _)| *user != change.actor)
        }
        _ => None,
    };
    Ok(Roster { open: group.open, seats_taken: group.edge_count, seats_max: group.max_count, people, next })
}

fn make_move(rows: &mut impl Rows, group: &Group, made: &Move, time: Timestamp) -> Result<(), Failure> {
    let before = rows.membership(group.id, made.user)?;
    let after = made.after.map(|role| Membership { role, since: time });
    rows.set_membership(group.id, made.user, before, after)
}

fn count_seats(rows: &mut impl Rows, group: &Group, moves: &[Move], time: Timestamp) {
    let taken: i32 = moves.iter().map(Move::seats).sum();
    if taken != 0 {
        let edge_count = group.edge_count.saturating_add_signed(taken);
        assert!(taken < 0 || edge_count <= group.max_count, "no seat is given twice: {group:?}");
        rows.put_group(Some(group), &Group { edge_count, update_time: time, ..group.clone() });
    }
}

/// A message in the channel about a member, with that member as sender.
fn event_message(
    rows: &impl Rows,
    group: &Group,
    user: UserId,
    code: MessageCode,
    place: ChannelHead,
    time: Timestamp,
) -> Result<Message, Failure> {
    Ok(Message {
        channel: ChannelId::group(group.id),
        id: place.id,
        sequence: place.sequence,
        code,
        sender: user,
        username: username(rows, user)?.into(),
        content: "{}".into(),
        create_time: time,
        update_time: time,
        persistent: true,
    })
}

/// The users who are notified of a move, apart from the channel: a user whom an admin let in, or the admins when a user
/// asks to join. A repetition within a minute notifies no user, and within a minute one user notifies another about groups
/// `GROUP_NOTICES_MAX` times.
fn notices(
    rows: &mut impl Rows,
    group: &Group,
    actor: UserId,
    made: &Move,
    time: Timestamp,
) -> Result<Vec<Notice>, Failure> {
    let (user, group_id) = (made.user, group.id);
    let join = SentRequest::Join { user, group: group_id };
    let request = match (made.message, made.after) {
        (Some(MessageCode::GroupAdd), _) => {
            // The request to join is answered, if there was one.
            rows.forget_sent(join);
            SentRequest::Added { user, group: group_id }
        }
        (_, Some(Role::JoinRequest)) => join,
        _ => return Ok(Vec::new()),
    };
    if rows.is_repeated(request, time) {
        return Ok(Vec::new());
    }
    rows.note_sent(request, time);
    let (users, wording) = match request {
        SentRequest::Added { .. } => (vec![user], Wording::group_added(group.id, &group.name)),
        _ => {
            let admins = rows.roster(group.id, Role::Admin, ADMINS_NOTIFIED_MAX)?;
            let wording = Wording::group_join_request(group.id, &username(rows, made.user)?);
            (admins.into_iter().map(|(user, _)| user).collect(), wording)
        }
    };
    let mut notices = Vec::with_capacity(users.len());
    for user in users {
        let about_groups = |number| SentRequest::AboutGroups { actor, user, number };
        let next = (0..GROUP_NOTICES_MAX).map(about_groups).find(|request| !rows.is_repeated(*request, time));
        if let Some(request) = next {
            rows.note_sent(request, time);
            notices.extend(inbox::notify(rows, user, actor, &wording, time)?);
        }
    }
    Ok(notices)
}

/// Every user with a role has an account, so a name is missing only in damaged data.
fn username(rows: &impl Rows, user: UserId) -> Result<String, Failure> {
    Ok(rows.username(user)?.unwrap_or_default())
}
