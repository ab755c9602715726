//! One publisher: what it sends under each of its numbers, and how the server answered.

use std::collections::{HashMap, HashSet};

use crate::base::content::ScheduleSlot;
use crate::checks::acceptances::{Acceptance, MessageId};
use crate::checks::check::{Answers, fingerprint};
use crate::orders::PublishAnswers;
use crate::plan::actions::{Action, Actions};
use crate::plan::schedule::Schedule;
use crate::wire::Kind;

/// The outcome of one publish.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    Unsent,
    Awaited,
    Accepted {
        fingerprint: u64,
        id: MessageId,
        at_ns: u64,
    },
    Refused,
    /// Its connection was closed by a drain before the answer came.
    CutOff,
    /// It was not sent, because the publisher was away when it was due.
    Withheld,
}

pub struct Publisher {
    answers: Vec<Answer>,
    /// The ids of messages that will be updated or removed, until that is done.
    targets: HashMap<u32, String>,
    /// The actions that could not be done, because their target messages had not been accepted. A new message was sent
    /// instead.
    instead: HashSet<u32>,
}

/// What is sent for a number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Wording {
    Say,
    Update { message_id: String },
    Remove { message_id: String },
}

impl Publisher {
    pub fn new(planned: u32) -> Self {
        let answers = vec![Answer::Unsent; planned as usize];
        Self { answers, targets: HashMap::new(), instead: HashSet::new() }
    }

    /// Decides what is sent for a number, just before it is sent. Call it once for each number.
    pub fn word(&mut self, actions: &Actions, number: u32) -> Wording {
        let (Action::Update { target } | Action::Remove { target }) = actions.of(number) else { return Wording::Say };
        assert!(target < number, "number {number} changes the later number {target}");
        match (actions.of(number), self.targets.remove(&target)) {
            (Action::Update { .. }, Some(message_id)) => Wording::Update { message_id },
            (Action::Remove { .. }, Some(message_id)) => Wording::Remove { message_id },
            _ => {
                let first = self.instead.insert(number);
                assert!(first, "number {number} is decided once");
                Wording::Say
            }
        }
    }

    pub fn sending(&mut self, number: u32) {
        if let Some(answer) = self.answers.get_mut(number as usize) {
            assert!(*answer == Answer::Unsent, "number {number} is sent once");
            *answer = Answer::Awaited;
        }
    }

    /// Records that a number was accepted. Returns whether its answer was awaited.
    pub fn accepted(&mut self, actions: &Actions, number: u32, message_id: &str, at_ns: u64) -> bool {
        let kind = self.kind(actions, number);
        let Some(awaited @ Answer::Awaited) = self.answers.get_mut(number as usize) else { return false };
        *awaited =
            Answer::Accepted { fingerprint: fingerprint(kind, message_id), id: MessageId::read(message_id), at_ns };
        if kind == Kind::New && actions.is_target(number) {
            self.targets.insert(number, message_id.to_owned());
        }
        true
    }

    /// Records that a number was refused. Returns whether its answer was awaited.
    pub fn refused(&mut self, number: u32) -> bool {
        let Some(awaited @ Answer::Awaited) = self.answers.get_mut(number as usize) else { return false };
        *awaited = Answer::Refused;
        true
    }

    /// Records that a drain has closed the connection: what is not answered stays without an answer. Returns how many these
    /// are.
    pub fn cut_off(&mut self) -> u64 {
        let awaited = self.answers.iter_mut().filter(|answer| **answer == Answer::Awaited);
        awaited.map(|answer| *answer = Answer::CutOff).count() as u64
    }

    /// Records that a number is not sent.
    pub fn withhold(&mut self, number: u32) {
        if let Some(answer) = self.answers.get_mut(number as usize) {
            assert!(*answer == Answer::Unsent, "number {number} is sent or withheld");
            *answer = Answer::Withheld;
        }
    }

    fn kind(&self, actions: &Actions, number: u32) -> Kind {
        match actions.of(number) {
            _ if self.instead.contains(&number) => Kind::New,
            Action::Say => Kind::New,
            Action::Update { .. } => Kind::Update,
            Action::Remove { .. } => Kind::Removal,
        }
    }

    /// Adds the outcome of everything that this publisher of the room sent; with the times of acceptance only if
    /// `times` is set.
    pub fn account(
        &self,
        publisher: u32,
        schedule: &Schedule,
        actions: &Actions,
        times: bool,
        found: &mut PublishAnswers,
    ) {
        let numbers_of = |wanted: fn(&Answer) -> bool| -> Vec<u32> {
            (0..).zip(&self.answers).filter(|(_, answer)| wanted(answer)).map(|(number, _)| number).collect()
        };
        assert_eq!(self.answers.len(), schedule.planned(publisher) as usize, "as many numbers as are planned");
        let Answers { refused, unanswered, acceptances } = &mut found.answers;
        refused.insert(publisher, numbers_of(|answer| matches!(answer, Answer::Refused | Answer::Withheld)));
        let has_no_answer = |answer: &Answer| matches!(answer, Answer::Unsent | Answer::Awaited | Answer::CutOff);
        unanswered.insert(publisher, numbers_of(has_no_answer));
        for (number, answer) in (0..).zip(&self.answers) {
            let Answer::Accepted { fingerprint, id, at_ns } = *answer else { continue };
            let Some(index) = schedule.index(ScheduleSlot { publisher, number }) else { continue };
            found.acknowledged.0.push((index, fingerprint));
            if times {
                acceptances.0.push(Acceptance { index, kind: self.kind(actions, number), at_ns, id });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::actions::ActionShares;

    #[test]
    fn an_action_needs_a_message_that_was_accepted() {
        let actions = Actions::new(ActionShares { updates: 25, removals: 25 });
        let (update, target) = (4..)
            .find_map(
                |number| if let Action::Update { target } = actions.of(number) { Some((number, target)) } else { None },
            )
            .expect("a quarter of all numbers");
        for accepted in [true, false] {
            let mut publisher = Publisher::new(100);
            publisher.sending(target);
            if accepted {
                assert!(publisher.accepted(&actions, target, "id", 5));
            }
            let expected = if accepted { Wording::Update { message_id: "id".to_owned() } } else { Wording::Say };
            assert_eq!(publisher.word(&actions, update), expected);
            assert_eq!(publisher.kind(&actions, update), if accepted { Kind::Update } else { Kind::New });
        }
    }

    #[test]
    fn a_drain_cuts_off_what_is_awaited_and_what_is_due_meanwhile_is_withheld() {
        let actions = Actions::new(ActionShares::default());
        let mut publisher = Publisher::new(4);
        [0, 1].into_iter().for_each(|number| publisher.sending(number));
        assert!(publisher.accepted(&actions, 0, "id", 5));
        assert_eq!((publisher.cut_off(), publisher.cut_off()), (1, 0), "each once");
        publisher.withhold(2);
        publisher.sending(3);
        assert!(publisher.accepted(&actions, 3, "other", 6) && !publisher.accepted(&actions, 1, "late", 7));
        let schedule = Schedule::steady(4.0, 1, std::time::Duration::ZERO, std::time::Duration::from_secs(1));
        let mut found = PublishAnswers::default();
        publisher.account(0, &schedule.expect("valid"), &actions, true, &mut found);
        assert_eq!((&found.answers.refused[&0], &found.answers.unanswered[&0]), (&vec![2], &vec![1]));
        assert_eq!(found.answers.acceptances.0.len(), 2);
    }

    #[test]
    fn only_what_is_awaited_is_answered_and_once() {
        let actions = Actions::new(ActionShares::default());
        let mut publisher = Publisher::new(3);
        assert!(!publisher.accepted(&actions, 0, "id", 5));
        publisher.sending(0);
        publisher.sending(1);
        assert!(publisher.accepted(&actions, 0, "id", 5) && publisher.refused(1));
        assert!(!publisher.accepted(&actions, 0, "id", 5) && !publisher.refused(1) && !publisher.refused(7));
        let schedule = Schedule::steady(3.0, 1, std::time::Duration::ZERO, std::time::Duration::from_secs(1));
        let mut found = PublishAnswers::default();
        publisher.account(0, &schedule.expect("valid"), &actions, true, &mut found);
        assert_eq!((&found.answers.refused[&0], &found.answers.unanswered[&0]), (&vec![1], &vec![2]));
        assert_eq!(found.answers.acceptances.0.len(), 1);
    }
}
