//! The order of changes of accounts, groups, friends and notifications. Changes that may touch the same rows run one after
//! another, in the order in which they arrived; all others run concurrently.
//!
//! Each change declares its subjects. It waits for all earlier changes with a common subject, and for earlier changes
//! that may be about anything. A change waits only for earlier ones, so there is no deadlock.
//!
//! A change that turns out to touch a subject that it did not declare is decided again while no other change runs. For
//! that subject it comes after later changes that were quicker.

use std::collections::HashMap;
use std::sync::Arc;

use engine::id::{GroupId, UserId};
use engine::persist::{StoreQuestion, StoreWrite};
use engine::social::group::{GroupAct, GroupChange};
use parking_lot::Mutex;
use storage::Write;
use storage::account::{Credential, CredentialKind};
use tokio::sync::{RwLock, Semaphore};

/// One thing that a change is about.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Subject {
    Group(GroupId),
    User(UserId),
    Username(String),
    GroupName(String),
    Credential(Credential),
    Revocations,
}

/// The subjects that a change may touch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Footprint {
    These(Vec<Subject>),
    Anything,
    /// A query about these.
    Question(Vec<Subject>),
}

/// The subjects whose rows a write changes.
pub fn footprint(write: &Write) -> Footprint {
    use Footprint::{Anything, These};
    let pair = |one: UserId, other: UserId| vec![Subject::User(one), Subject::User(other)];
    match write {
        Write::Register(registration) => These(vec![
            Subject::Credential(registration.credential.clone()),
            Subject::Username(registration.account.username.clone()),
            Subject::User(registration.account.id),
        ]),
        Write::ChangeAccount { id, change, .. } if change.username.is_none() => These(vec![Subject::User(*id)]),
        Write::Unlink { user, credential, .. } => {
            These(vec![Subject::User(*user), Subject::Credential(credential.clone())])
        }
        Write::Link { user, credential, .. } if credential.kind == CredentialKind::Device => {
            These(vec![Subject::User(*user), Subject::Credential(credential.clone())])
        }
        // These release names that only the account's row knows.
        Write::ChangeAccount { .. } | Write::Link { .. } | Write::DeleteAccount { .. } => Anything,
        Write::CreateGroup(group) => {
            These(vec![Subject::Group(group.id), Subject::GroupName(group.name.clone()), Subject::User(group.creator)])
        }
        Write::UpdateGroup { id, edit, .. } if edit.name.is_none() => These(vec![Subject::Group(*id)]),
        Write::UpdateGroup { .. } => Anything,
        Write::FinishAccountDeletion { user } | Write::DeleteNotifications { user, .. } => {
            These(vec![Subject::User(*user)])
        }
        Write::WriteObjects { owner, .. } | Write::DeleteObjects { owner, .. } => These(vec![Subject::User(*owner)]),
        Write::Relate { user, others, .. } => {
            These(others.iter().chain([user]).map(|&user| Subject::User(user)).collect())
        }
        Write::Revoke(_) | Write::ForgetRevocations { .. } => These(vec![Subject::Revocations]),
        Write::Request(StoreWrite::ChangeGroup { change, .. }) => of_group_change(change),
        Write::Request(StoreWrite::Block { user, other, .. }) => These(pair(*user, *other)),
        Write::Request(StoreWrite::RequestChat { user, other, .. }) => These(pair(*user, *other)),
        Write::Request(
            StoreWrite::Insert(_) | StoreWrite::Update(_) | StoreWrite::Remove { .. } | StoreWrite::Purge { .. },
        ) => These(Vec::new()),
    }
}

/// The subjects that a question is about. Questions about a channel's messages wait in its lane instead.
pub fn of_question(question: &StoreQuestion) -> Footprint {
    Footprint::Question(match question {
        StoreQuestion::Head { .. } | StoreQuestion::Newest { .. } => Vec::new(),
        StoreQuestion::MayJoinGroup { group, user } => vec![Subject::Group(*group), Subject::User(*user)],
        StoreQuestion::MayJoinDirect { user, other } => vec![Subject::User(*user), Subject::User(*other)],
        StoreQuestion::Users { ids, usernames, .. } => {
            let names = usernames.iter().cloned().map(Subject::Username);
            ids.iter().map(|&user| Subject::User(user)).chain(names).collect()
        }
    })
}

/// The subjects whose rows a change of a group's members changes.
pub fn of_group_change(change: &GroupChange) -> Footprint {
    match change.act {
        // The end of a group releases its name. A user who leaves seldom ends it: then the change is decided again,
        // alone.
        GroupAct::Delete => Footprint::Anything,
        _ => {
            let users = change.act.named().iter().chain([&change.actor]).map(|&user| Subject::User(user));
            Footprint::These(users.chain([Subject::Group(change.group)]).collect())
        }
    }
}

/// Signals that a change is done: a semaphore without permits, which is then closed.
type Done = Arc<Semaphore>;

/// Knows which changes are in flight.
#[derive(Default)]
pub struct ChangeScheduler {
    tails: Arc<Mutex<Tails>>,
    /// Each running change holds it shared. A change that turns out to touch more than it declared holds it
    /// exclusively.
    pub carrying_out: RwLock<()>,
}

#[derive(Default)]
struct Tails {
    last_about: HashMap<Subject, Done>,
    last_about_anything: Option<Done>,
    /// All changes that are not done; the next change about anything waits for them.
    open: Vec<Done>,
}

/// A change's place in the order. When it is dropped, the changes behind it go on.
pub struct Turn {
    after: Vec<Done>,
    done: Done,
    subjects: Vec<Subject>,
    tails: Arc<Mutex<Tails>>,
}

impl ChangeScheduler {
    /// Takes a place behind all changes with a common subject.
    pub fn turn(&self, footprint: Footprint) -> Turn {
        let mut tails = self.tails.lock();
        let done = Arc::new(Semaphore::new(0));
        let (subjects, after) = match footprint {
            Footprint::Anything => {
                let after = tails.open.clone();
                tails.last_about_anything = Some(done.clone());
                (Vec::new(), after)
            }
            Footprint::These(subjects) => {
                let after = tails.before(&subjects);
                for subject in &subjects {
                    tails.last_about.insert(subject.clone(), done.clone());
                }
                (subjects, after)
            }
            Footprint::Question(subjects) => {
                let after = tails.before(&subjects);
                (Vec::new(), after)
            }
        };
        tails.open.push(done.clone());
        Turn { after, done, subjects, tails: self.tails.clone() }
    }
}

impl Tails {
    fn before(&self, subjects: &[Subject]) -> Vec<Done> {
        let about = subjects.iter().filter_map(|subject| self.last_about.get(subject));
        about.chain(&self.last_about_anything).cloned().collect()
    }
}

impl Turn {
    /// Waits for all changes that must run before this one.
    pub async fn come(&self) {
        for before in &self.after {
            // It has no permits: this returns when it is closed.
            let _ = before.acquire().await;
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.done.close();
        let mut tails = self.tails.lock();
        for subject in &self.subjects {
            if tails.last_about.get(subject).is_some_and(|last| Arc::ptr_eq(last, &self.done)) {
                tails.last_about.remove(subject);
            }
        }
        if tails.last_about_anything.as_ref().is_some_and(|last| Arc::ptr_eq(last, &self.done)) {
            tails.last_about_anything = None;
        }
        tails.open.retain(|open| !Arc::ptr_eq(open, &self.done));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn user(number: u128) -> Subject {
        Subject::User(UserId(Uuid::from_u128(number)))
    }

    fn waits(turn: &Turn) -> bool {
        turn.after.iter().any(|before| !before.is_closed())
    }

    /// Changes that any user may ask for often do not make all others wait.
    #[test]
    fn leaves_and_devices_are_about_few() {
        let (one, group) = (UserId(Uuid::from_u128(1)), GroupId(Uuid::nil()));
        let leave = of_group_change(&GroupChange { group, actor: one, act: GroupAct::Leave });
        assert_eq!(leave, Footprint::These(vec![user(1), Subject::Group(group)]));
        let credential = |kind| Credential { kind, ident: "x".into() };
        let (time, secret) = (engine::id::Timestamp(0), String::new());
        for (kind, few) in [(CredentialKind::Device, true), (CredentialKind::Custom, false)] {
            let credential = credential(kind);
            let link = Write::Link { user: one, credential: credential.clone(), secret: secret.clone(), time };
            assert_eq!(footprint(&link) != Footprint::Anything, few, "the replaced credential is not declared");
            let unlink = footprint(&Write::Unlink { user: one, credential: credential.clone(), time });
            assert_eq!(unlink, Footprint::These(vec![user(1), Subject::Credential(credential)]));
        }
    }

    #[test]
    fn only_those_about_the_same_wait() {
        let change_scheduler = ChangeScheduler::default();
        let first = change_scheduler.turn(Footprint::These(vec![user(1), user(2)]));
        let other = change_scheduler.turn(Footprint::These(vec![user(3)]));
        let second = change_scheduler.turn(Footprint::These(vec![user(2), user(3)]));
        let question = change_scheduler.turn(Footprint::Question(vec![user(1)]));
        let behind_question = change_scheduler.turn(Footprint::These(vec![user(4)]));
        assert!(!waits(&first) && !waits(&other) && waits(&second) && waits(&question) && !waits(&behind_question));
        drop(first);
        assert!(waits(&second) && !waits(&question));
        drop(other);
        assert!(!waits(&second));
    }

    #[test]
    fn what_may_be_about_anything_waits_for_all_and_all_for_it() {
        let change_scheduler = ChangeScheduler::default();
        let first = change_scheduler.turn(Footprint::These(vec![user(1)]));
        let anything = change_scheduler.turn(Footprint::Anything);
        let behind = change_scheduler.turn(Footprint::These(vec![user(2)]));
        let next = change_scheduler.turn(Footprint::Anything);
        assert!(!waits(&first) && waits(&anything) && waits(&behind) && waits(&next));
        drop(first);
        assert!(!waits(&anything) && waits(&behind));
        drop(anything);
        assert!(!waits(&behind) && waits(&next));
        drop(behind);
        assert!(!waits(&next));
        drop(next);
        let tails = change_scheduler.tails.lock();
        assert!(tails.last_about.is_empty() && tails.open.is_empty() && tails.last_about_anything.is_none());
    }
}
