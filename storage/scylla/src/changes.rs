//! Carries out changes of accounts, groups, friends and notifications, each when its turn comes. A change is decided on a
//! draft. If another change took what the draft was decided on, it is decided again.

use std::sync::Arc;
use std::time::Instant;

use engine::persist::{StoreQuestion, StoreReceipt, StoreWrite};
use storage::{Answer, Failure, QuestionAnswer, Write, Written, change};

use crate::change_scheduler::{Turn, footprint};
use crate::channel::CachedChannel;
use crate::cluster_store::ClusterStore;
use crate::database::{by, in_time};
use crate::draft::{Draft, Ending};
use crate::intents::Whole;

/// How often a change is decided again if another change takes a name or a seat that it needs.
const DECISIONS_MAX: usize = 3;

/// The result of one decision about a change.
enum Decided {
    Done(Result<Written, Failure>),
    /// It touches more than it declared: decide it again, alone.
    Alone,
    /// Another change took a name or a seat meanwhile: decide it again.
    Conflict,
    /// It failed, and the part that the database may have must be undone.
    Unsettled(Failure, Whole),
}

/// Waits until the changes with a common subject that were taken before are done.
async fn come_by(deadline: Instant, turn: &Turn) -> Result<(), Failure> {
    let come = tokio::time::timeout_at(deadline.into(), turn.come()).await;
    come.map_err(|_| Failure::Passing("the database has not answered in time".into()))
}

impl ClusterStore {
    /// Carries out a change that needs no channel's lane.
    pub fn begin_change(self: &Arc<Self>, write: Write, answer: Answer, deadline: Instant, turn: Turn) {
        let store = self.clone();
        self.database.runtime().spawn(async move {
            if let Err(failure) = come_by(deadline, &turn).await {
                answer(Err(failure));
                // The changes behind this one must still wait for those before it.
                return turn.come().await;
            }
            let (done, left) = store.change(None, write, deadline).await;
            answer(done);
            if let Some(left) = left {
                store.intents.settle(left).await;
            }
        });
    }

    /// Answers a question about users and groups, behind the changes of the same that were taken before it.
    pub fn begin_question(
        self: &Arc<Self>,
        question: StoreQuestion,
        answer: QuestionAnswer,
        deadline: Instant,
        turn: Turn,
    ) {
        let store = self.clone();
        self.database.runtime().spawn(async move {
            if let Err(failure) = come_by(deadline, &turn).await {
                answer(Err(failure));
                return turn.come().await;
            }
            answer(store.look_up(question, deadline).await);
        });
    }

    async fn look_up(self: &Arc<Self>, question: StoreQuestion, deadline: Instant) -> Result<StoreReceipt, Failure> {
        self.check()?;
        let _held = by(deadline, async { Ok(self.change_scheduler.carrying_out.read().await) }).await?;
        let view = self.view(deadline);
        let found = tokio::task::spawn_blocking(move || storage::bridge::look_up(&view, &question)).await;
        found.unwrap_or_else(|error| Err(Failure::Broken(format!("a question has panicked: {error}"))))
    }

    /// Carries out a change in its channel's lane.
    pub async fn change_in_lane(
        self: &Arc<Self>,
        channel: &Arc<CachedChannel>,
        write: Write,
        answer: Answer,
        deadline: Instant,
        turn: Turn,
    ) {
        let come = come_by(deadline, &turn).await;
        if let Err(failure) = in_time(deadline).and_then(|()| channel.check_settled()).and(come) {
            answer(Err(failure));
            self.database.runtime().spawn(async move { turn.come().await });
            return;
        }
        let (done, left) = self.change(Some(channel.clone()), write, deadline).await;
        channel.version.fetch_add(1, std::sync::atomic::Ordering::AcqRel);
        if let Some(left) = left {
            let store = self.clone();
            channel.settle_later(&self.database, async move {
                store.intents.settle(left).await;
                turn
            });
        }
        answer(done);
    }

    async fn change(
        self: &Arc<Self>,
        channel: Option<Arc<CachedChannel>>,
        write: Write,
        deadline: Instant,
    ) -> (Result<Written, Failure>, Option<Whole>) {
        if let Err(failure) = self.check() {
            return (Err(failure), None);
        }
        let write = Arc::new(write);
        let (mut alone, mut decisions) = (false, 0);
        loop {
            // Held until the decision is carried out.
            let held = by(deadline, async {
                let locks = &self.change_scheduler.carrying_out;
                let alone = if alone { Some(locks.write().await) } else { None };
                Ok((if alone.is_none() { Some(locks.read().await) } else { None }, alone))
            });
            let _held = match held.await {
                Ok(held) => held,
                Err(failure) => return (Err(failure), None),
            };
            let (store, channel, write) = (self.clone(), channel.clone(), write.clone());
            let decided = tokio::task::spawn_blocking(move || store.decide(channel, &write, alone, deadline)).await;
            match decided {
                Ok(Decided::Done(done)) => return (done, None),
                Ok(Decided::Unsettled(failure, left)) => return (Err(failure), Some(left)),
                Ok(Decided::Alone) => alone = true,
                Ok(Decided::Conflict) if decisions < DECISIONS_MAX => decisions += 1,
                Ok(Decided::Conflict) => {
                    return (Err(Failure::Passing("others change the same again and again".into())), None);
                }
                Err(error) => return (Err(Failure::Broken(format!("a change has panicked: {error}"))), None),
            }
        }
    }

    /// Runs on a thread that may block, because the rules read rows one by one.
    fn decide(
        self: &Arc<Self>,
        channel: Option<Arc<CachedChannel>>,
        write: &Write,
        alone: bool,
        deadline: Instant,
    ) -> Decided {
        let mut draft = Draft::new(self, channel, footprint(write), alone, deadline);
        match change::apply(&mut draft, write) {
            _ if draft.is_about_more() => Decided::Alone,
            Ok(written) => match draft.commit() {
                Ending::Done => {
                    self.after_change(write, &written);
                    Decided::Done(Ok(written))
                }
                Ending::Conflict => Decided::Conflict,
                Ending::Failed(failure) => Decided::Done(Err(failure)),
                Ending::Unsettled(failure, left) => Decided::Unsettled(failure, left),
            },
            Err(failure) => Decided::Done(Err(failure)),
        }
    }

    /// Starts the clean-up after a deletion.
    fn after_change(self: &Arc<Self>, write: &Write, written: &Written) {
        let swept = match (write, written) {
            (
                Write::Request(StoreWrite::ChangeGroup { .. }),
                Written::Receipt(StoreReceipt::GroupChanged(Ok(outcome))),
            ) => outcome.deleted,
            (Write::DeleteAccount { .. }, Written::AccountDeleted(deleted)) => *deleted,
            (Write::FinishAccountDeletion { user }, _) => {
                self.authors.forget(*user);
                false
            }
            _ => false,
        };
        if swept {
            self.database.runtime().block_on(self.sweep_at_once());
        }
    }
}
