//! Stops fjall's merges in the middle: fjall passes each row that it merges to a filter, and a filter may fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fjall::compaction::filter::{CompactionFilter, CompactionFilterResult, Context, Factory, ItemAccessor, Verdict};

/// Stops running merges when the store is closed. The next start removes what they have written.
pub struct Interruption(pub Arc<AtomicBool>);

struct Interrupted(Arc<AtomicBool>);

impl Factory for Interruption {
    fn name(&self) -> &str {
        "interruption"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Interrupted(self.0.clone()))
    }
}

impl CompactionFilter for Interrupted {
    fn filter_item(&mut self, _: ItemAccessor<'_>, _: &Context) -> CompactionFilterResult {
        if self.0.load(Ordering::Relaxed) {
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        Ok(Verdict::Keep)
    }
}
