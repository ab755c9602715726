//! Reads the newest page of a room's history at a fixed rate through a whole live event, as users who open the chat do.
//!
//! An open loop: all read times are fixed before the first read, and a slow answer delays no other read. The crowd
//! checks every page: contents, ids, order, and that the page has what the crowd had received before the request.

use std::rc::Rc;

use tokio::task::JoinSet;

use crate::base::clock::{self, SECOND_NS};
use crate::clients::crowd::Crowd;
use crate::clients::pages::{self, Direction};
use crate::clients::stages::Stages;
use crate::plan::draws::Draws;

/// The purpose for which the times of reads are drawn.
const READS: u64 = 5;
/// So many reads of one crowd may be under way. While there are as many, further reads that are due are left out and
/// counted.
const UNDER_WAY_MAX: usize = 64;
/// The number of messages that a chat client shows when it is opened.
pub const PAGE_ITEMS: u32 = 50;

/// Reads for the members of one crowd, which have these indices among the thread's users, until the task is aborted.
pub async fn read_on(stages: Rc<Stages>, crowd: Rc<Crowd>, members: Vec<usize>, start_ns: u64) {
    let plan = stages.plan();
    let Some(conduct) = &plan.conduct else { return };
    let all = f64::from(crowd.plan().members());
    let reads_a_second = conduct.history_reads_a_second * members.len() as f64 / all;
    if reads_a_second <= 0.0 {
        return;
    }
    let channel_id: Rc<str> = pages::channel_of_room(&crowd.entrance().room).into();
    let seed = members.first().copied().unwrap_or(0) as u64 ^ u64::from(crowd.room()) << 32;
    let mut draws = Draws::new(plan.seed, READS, seed);
    let (mut under_way, mut offset_ns) = (JoinSet::new(), 0_u64);
    loop {
        // At most twice the mean interval: the reads are spread evenly and not in step with anything else.
        offset_ns = offset_ns.saturating_add((draws.fraction() * 2.0 / reads_a_second * SECOND_NS as f64) as u64);
        if offset_ns >= conduct.end_ns {
            break;
        }
        let intended_ns = start_ns + offset_ns;
        tokio::time::sleep(clock::until(intended_ns)).await;
        while under_way.try_join_next().is_some() {}
        if under_way.len() == UNDER_WAY_MAX {
            crowd.read_left_out();
            continue;
        }
        let at = members[draws.below(members.len() as u64) as usize];
        under_way.spawn_local(read_one(stages.clone(), crowd.clone(), channel_id.clone(), at, intended_ns));
    }
    while under_way.join_next().await.is_some() {}
}

async fn read_one(stages: Rc<Stages>, crowd: Rc<Crowd>, channel_id: Rc<str>, at: usize, intended_ns: u64) {
    let known = crowd.newest();
    crowd.reading_page(intended_ns);
    let read = async |token: &str| {
        pages::read(stages.door(), token, &channel_id, Direction::NewestFirst, PAGE_ITEMS, "").await
    };
    let mut page = read(&stages.token_of(at)).await;
    if page.as_ref().is_err_and(pages::is_expired) {
        page = match stages.renew_token(at).await {
            Ok(token) => read(&token).await,
            Err(error) => return crowd.read_failed(&error.to_string()),
        };
    }
    match page {
        Ok(page) => crowd.read_page(&page.messages, PAGE_ITEMS, known, intended_ns),
        Err(error) => crowd.read_failed(&error.to_string()),
    }
}

#[cfg(test)]
mod tests;
