//! The newest pages of channels in their written form, so that all readers of the same page of a busy room share it.
//!
//! A page is valid for the version that the channel's owner names. The owner is asked each time, so no reader gets an
//! old page. The number and the bytes of the pages are bounded: the page that was added first is removed first, and is
//! written again when a client asks for it.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};

use engine::id::ChannelId;
use engine::query::Version;
use hyper::body::Bytes;

/// Pages kept on a shard: rooms that are busy at the same time, with one or two limits each.
const PAGES_MAX: usize = 256;

/// Bytes of all pages of a shard. Pages of ordinary messages have some 40 KB; of the largest, half a megabyte.
const PAGES_BYTES_MAX: usize = 16 << 20;

/// The pages kept on one shard.
#[derive(Default)]
pub struct NewestPages(RefCell<Pages>);

/// A channel and a limit.
type Key = (ChannelId, usize);

#[derive(Default)]
struct Pages {
    written: HashMap<Key, (Version, Bytes)>,
    /// The keys of `written`, with the oldest first.
    order: VecDeque<Key>,
    bytes: usize,
}

impl NewestPages {
    /// The page, if this version of it has been written already.
    pub fn get(&self, channel: &ChannelId, limit: usize, version: Version) -> Option<Bytes> {
        let pages = self.0.borrow();
        let (written, page) = pages.written.get(&(channel.clone(), limit))?;
        (*written == version).then(|| page.clone())
    }

    /// Keeps a page. It replaces the previous version of the page.
    pub fn keep(&self, channel: &ChannelId, limit: usize, version: Version, page: Bytes) {
        let pages = &mut *self.0.borrow_mut();
        let key = (channel.clone(), limit);
        pages.bytes += page.len();
        match pages.written.insert(key.clone(), (version, page)) {
            Some((_, former)) => pages.bytes -= former.len(),
            None => pages.order.push_back(key),
        }
        while pages.order.len() > PAGES_MAX || pages.bytes > PAGES_BYTES_MAX {
            let Some((_, gone)) = pages.order.pop_front().and_then(|key| pages.written.remove(&key)) else { return };
            pages.bytes -= gone.len();
        }
        assert!(pages.bytes <= PAGES_BYTES_MAX && pages.order.len() <= PAGES_MAX, "pages are bounded");
        debug_assert_eq!(pages.order.len(), pages.written.len(), "each page is in the order once");
    }
}

#[cfg(test)]
mod tests {
    use engine::id::Epoch;

    use super::*;

    fn version(changes: u64) -> Version {
        Version { epoch: Epoch(1), reading: 1, changes }
    }

    fn room(number: usize) -> ChannelId {
        ChannelId::room(&format!("room-{number}")).unwrap()
    }

    #[test]
    fn a_page_is_of_its_channel_limit_and_version() {
        let pages = NewestPages::default();
        pages.keep(&room(1), 10, version(1), Bytes::from_static(b"one"));
        assert_eq!(pages.get(&room(1), 10, version(1)).as_deref(), Some(&b"one"[..]));
        for (channel, limit, version) in
            [(room(2), 10, version(1)), (room(1), 11, version(1)), (room(1), 10, version(2))]
        {
            assert_eq!(pages.get(&channel, limit, version), None);
        }
        pages.keep(&room(1), 10, version(2), Bytes::from_static(b"two!"));
        assert_eq!(pages.get(&room(1), 10, version(1)), None);
        assert_eq!(pages.get(&room(1), 10, version(2)).as_deref(), Some(&b"two!"[..]));
        assert_eq!((pages.0.borrow().bytes, pages.0.borrow().order.len()), (4, 1));
    }

    #[test]
    fn bounded_in_number_and_in_bytes() {
        let pages = NewestPages::default();
        for number in 0..PAGES_MAX + 5 {
            pages.keep(&room(number), 1, version(1), Bytes::from_static(b"page"));
        }
        assert_eq!(pages.0.borrow().written.len(), PAGES_MAX);
        assert_eq!(pages.get(&room(4), 1, version(1)), None, "the first go first");
        assert!(pages.get(&room(5), 1, version(1)).is_some());
        pages.keep(&room(1), 1, version(1), vec![0; PAGES_BYTES_MAX - 4].into());
        assert_eq!(pages.0.borrow().written.len(), 2);
        pages.keep(&room(2), 1, version(1), vec![0; PAGES_BYTES_MAX + 1].into());
        assert_eq!((pages.0.borrow().bytes, pages.0.borrow().written.len()), (0, 0), "what is too large is not kept");
        pages.keep(&room(3), 1, version(1), Bytes::from_static(b"page"));
        assert!(pages.get(&room(3), 1, version(1)).is_some());
    }
}
