//! The slowness of a store. It carries out each shard's requests in order, later than they were made, and answers them
//! later still and in any order. Some requests fail.

use std::collections::VecDeque;

use engine::persist::{StoreFailure, StoreReceipt, StoreRequest, Ticket};

use crate::world::Random;

pub type Outcome = Result<StoreReceipt, StoreFailure>;

#[derive(Default)]
pub struct Slowness {
    fails: bool,
    /// Requests not yet carried out, by shard.
    asked: Vec<VecDeque<(Ticket, StoreRequest)>>,
    /// Receipts not yet given, by shard.
    answered: Vec<Vec<(Ticket, Outcome)>>,
}

impl Slowness {
    pub fn new(shards: usize, fails: bool) -> Self {
        Self { fails, asked: vec![VecDeque::new(); shards], answered: vec![Vec::new(); shards] }
    }

    pub fn ask(&mut self, shard: usize, ticket: Ticket, request: StoreRequest) {
        self.asked[shard].push_back((ticket, request));
    }

    /// Carries out some requests and hands out some receipts.
    pub fn turn(
        &mut self,
        random: &mut Random,
        mut carry_out: impl FnMut(StoreRequest) -> StoreReceipt,
    ) -> Vec<(usize, Ticket, Outcome)> {
        for (asked, answered) in self.asked.iter_mut().zip(&mut self.answered) {
            for _ in 0..random.below(6) {
                let Some((ticket, request)) = asked.pop_front() else { break };
                let fails = self.fails && random.one_in(6);
                let failure = || StoreFailure::nothing_done("as it pleases");
                answered.push((ticket, if fails { Err(failure()) } else { Ok(carry_out(request)) }));
            }
        }
        let mut receipts = Vec::new();
        for (shard, answered) in self.answered.iter_mut().enumerate() {
            for _ in 0..random.below(6) {
                if !answered.is_empty() {
                    let (ticket, outcome) = answered.swap_remove(random.below(answered.len()));
                    receipts.push((shard, ticket, outcome));
                }
            }
        }
        receipts
    }

    /// The shard has died: some of what it has asked is carried out, and nothing is answered.
    pub fn forget(
        &mut self,
        shard: usize,
        random: &mut Random,
        mut carry_out: impl FnMut(StoreRequest) -> StoreReceipt,
    ) {
        // A shard's requests are carried out in order, so those that are not come last.
        let carried_out = random.below(self.asked[shard].len() + 1);
        let asked = std::mem::take(&mut self.asked[shard]);
        for (_, request) in asked.into_iter().take(carried_out) {
            carry_out(request);
        }
        self.answered[shard].clear();
    }

    pub fn is_quiet(&self) -> bool {
        self.asked.iter().all(VecDeque::is_empty) && self.answered.iter().all(Vec::is_empty)
    }
}
