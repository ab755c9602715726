//! Collects the bodies of requests, of all connections of a shard within one bound in bytes. While a request waits for its
//! body, or for its turn in gRPC, its head counts as well.
//!
//! Bytes are kept only as they arrive, whatever a head announces. When all bodies together would hold more than the
//! bound, the one that began first gives way, in the network that holds most (`byte_shares.rs`). Its bytes are freed at
//! once, and its client is told to try again. A body that is whole is read in the same moment and no longer counts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use hyper::body::{Body, Bytes};

use crate::byte_shares::{ByteShares, Holder};
use crate::client_network::ClientNetwork;

/// All bodies of the process that are being collected. Each shard has an equal part.
pub const BODIES_BYTES_MAX: usize = 32 << 20;

/// The least that a body's buffer takes. Sign-ins need no more.
const BUFFER_BYTES_MIN: usize = 512;

/// The bodies that a shard is collecting.
pub struct Bodies {
    collected: RefCell<Collected>,
}

struct Collected {
    shares: ByteShares,
    buffers: HashMap<Holder, Buffer>,
}

#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Wakes the request when its body gives way.
    waker: Option<Waker>,
}

/// Why there is no body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Uncollected {
    /// It has, or announces, more bytes than its resource allows.
    TooLarge,
    /// It ended too early, or its chunks cannot be read.
    Broken,
    /// It gave way to others.
    Displaced,
}

impl Bodies {
    /// Room for `bytes_max` bytes of bodies.
    pub fn new(bytes_max: usize) -> Self {
        let shares = ByteShares::new(bytes_max);
        Self { collected: RefCell::new(Collected { shares, buffers: HashMap::new() }) }
    }

    /// Reads a body to its end. Meanwhile the request also holds `head_bytes` for its head. The caller has its own deadline,
    /// and may stop at any time. Fails if the body is too large, breaks off, or gives way to others.
    pub async fn collect<B: Body<Data = Bytes> + Unpin>(
        &self,
        from: ClientNetwork,
        head_bytes: usize,
        bytes_max: usize,
        body: &mut B,
    ) -> Result<Vec<u8>, Uncollected> {
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(Uncollected::TooLarge);
        }
        let collecting = self.begin(from, head_bytes);
        while let Some(bytes) = poll_fn(|context| collecting.poll_bytes(body, context)).await? {
            self.collected.borrow_mut().keep(collecting.holder, &bytes, bytes_max)?;
        }
        self.collected.borrow_mut().end(collecting.holder).map(|buffer| buffer.bytes).ok_or(Uncollected::Displaced)
    }

    /// Counts the head of a request that waits, until the answer is dropped.
    pub fn hold_head(&self, from: ClientNetwork, head_bytes: usize) -> HeldHead<'_> {
        HeldHead(self.begin(from, head_bytes))
    }

    fn begin(&self, from: ClientNetwork, head_bytes: usize) -> Collecting<'_> {
        let mut collected = self.collected.borrow_mut();
        let holder = collected.begin(from);
        for displaced in collected.shares.grow(holder, head_bytes) {
            collected.displace(displaced);
        }
        Collecting { bodies: self, holder }
    }

    /// The bytes that heads and bodies hold now.
    pub fn bytes(&self) -> usize {
        self.collected.borrow().shares.bytes()
    }
}

impl Collected {
    fn begin(&mut self, from: ClientNetwork) -> Holder {
        let holder = self.shares.enter(from, None);
        let before = self.buffers.insert(holder, Buffer::default());
        assert!(before.is_none(), "a body has one buffer");
        holder
    }

    /// Appends bytes to a body. The buffer at most doubles, and never has room for more than the resource allows.
    fn keep(&mut self, holder: Holder, bytes: &[u8], bytes_max: usize) -> Result<(), Uncollected> {
        let buffer = self.buffers.get_mut(&holder).ok_or(Uncollected::Displaced)?;
        let needed = buffer.bytes.len() + bytes.len();
        if needed > bytes_max {
            return Err(Uncollected::TooLarge);
        }
        let capacity = buffer.bytes.capacity();
        if needed > capacity {
            let grown = needed.max((2 * capacity).max(BUFFER_BYTES_MIN).min(bytes_max));
            for displaced in self.shares.grow(holder, grown - capacity) {
                self.displace(displaced);
            }
            let buffer = self.buffers.get_mut(&holder).ok_or(Uncollected::Displaced)?;
            buffer.bytes.reserve_exact(grown - buffer.bytes.len());
            debug_assert_eq!(buffer.bytes.capacity(), grown, "what is counted is what the buffer takes");
        }
        let buffer = self.buffers.get_mut(&holder).ok_or(Uncollected::Displaced)?;
        buffer.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn displace(&mut self, holder: Holder) {
        let displaced = self.buffers.remove(&holder);
        assert!(displaced.is_some(), "a body that gives way has a buffer");
        if let Some(Buffer { waker: Some(waker), .. }) = displaced {
            waker.wake();
        }
    }

    fn end(&mut self, holder: Holder) -> Option<Buffer> {
        self.shares.leave(holder);
        let ended = self.buffers.remove(&holder);
        debug_assert!(!self.buffers.is_empty() || self.shares.bytes() == 0, "bytes are held by bodies only");
        ended
    }
}

/// The head of a request that waits.
pub struct HeldHead<'a>(Collecting<'a>);

impl HeldHead<'_> {
    /// Ready when the head must give way to others: its request is refused then.
    pub fn poll_displaced(&self, context: &Context<'_>) -> Poll<()> {
        if self.0.await_displacement(context).is_err() { Poll::Ready(()) } else { Poll::Pending }
    }
}

/// A body that is being collected. When it is dropped, its bytes are free.
struct Collecting<'a> {
    bodies: &'a Bodies,
    holder: Holder,
}

impl Collecting<'_> {
    /// The next bytes of the body, or `None` at its end.
    fn poll_bytes<B: Body<Data = Bytes> + Unpin>(
        &self,
        body: &mut B,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, Uncollected>> {
        self.await_displacement(context)?;
        loop {
            match ready!(Pin::new(&mut *body).poll_frame(context)) {
                None => return Poll::Ready(Ok(None)),
                Some(Err(_)) => return Poll::Ready(Err(Uncollected::Broken)),
                // Trailers have no meaning.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Poll::Ready(Ok(Some(bytes)));
                    }
                }
            }
        }
    }

    fn await_displacement(&self, context: &Context<'_>) -> Result<(), Uncollected> {
        let mut collected = self.bodies.collected.borrow_mut();
        let buffer = collected.buffers.get_mut(&self.holder).ok_or(Uncollected::Displaced)?;
        if !buffer.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            buffer.waker = Some(context.waker().clone());
        }
        Ok(())
    }
}

impl Drop for Collecting<'_> {
    fn drop(&mut self) {
        self.bodies.collected.borrow_mut().end(self.holder);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::rc::Rc;

    use hyper::body::{Frame, SizeHint};

    use super::*;

    /// A body whose pieces come when the test says so.
    #[derive(Clone, Default)]
    struct Pieces {
        waiting: Rc<RefCell<VecDeque<Bytes>>>,
        ended: Rc<Cell<bool>>,
        announced: u64,
    }

    impl Pieces {
        fn of(bytes: usize) -> Self {
            let pieces = Self::default();
            pieces.send(bytes);
            pieces
        }

        fn send(&self, bytes: usize) {
            self.waiting.borrow_mut().push_back(vec![b'x'; bytes].into());
        }

        fn end(&self) {
            self.ended.set(true);
        }
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.waiting.borrow_mut().pop_front() {
                Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
                None if self.ended.get() => Poll::Ready(None),
                None => Poll::Pending,
            }
        }

        fn size_hint(&self) -> SizeHint {
            let mut hint = SizeHint::default();
            hint.set_lower(self.announced);
            hint
        }
    }

    type Collection<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, Uncollected>> + 'a>>;

    fn collection<'a>(bodies: &'a Bodies, network: u64, pieces: &Pieces) -> Collection<'a> {
        let mut pieces = pieces.clone();
        Box::pin(async move { bodies.collect(ClientNetwork::V6(network), 0, 4096, &mut pieces).await })
    }

    fn poll(collection: &mut Collection<'_>) -> Poll<Result<usize, Uncollected>> {
        let context = &mut Context::from_waker(Waker::noop());
        collection.as_mut().poll(context).map(|collected| collected.map(|bytes| bytes.len()))
    }

    #[test]
    fn bodies_are_whole_or_too_large() {
        let bodies = Bodies::new(1 << 20);
        for (size, expected) in [(0, Ok(0)), (4096, Ok(4096)), (4097, Err(Uncollected::TooLarge))] {
            let pieces = Pieces::of(size);
            pieces.end();
            assert_eq!(poll(&mut collection(&bodies, 1, &pieces)), Poll::Ready(expected));
            assert_eq!(bodies.bytes(), 0);
        }
        let announced = Pieces { announced: 4097, ..Pieces::default() };
        assert_eq!(poll(&mut collection(&bodies, 1, &announced)), Poll::Ready(Err(Uncollected::TooLarge)));
    }

    #[test]
    fn a_body_that_is_given_up_holds_nothing() {
        let bodies = Bodies::new(1 << 20);
        let mut half = collection(&bodies, 1, &Pieces::of(700));
        assert_eq!(poll(&mut half), Poll::Pending);
        assert_eq!(bodies.bytes(), 700);
        drop(half);
        assert_eq!(bodies.bytes(), 0);
        assert!(bodies.collected.borrow().buffers.is_empty());
    }

    #[test]
    fn a_buffer_grows_by_doubling_and_never_beyond_the_bound() {
        let bodies = Bodies::new(1 << 20);
        let pieces = Pieces::of(1);
        let mut half = collection(&bodies, 1, &pieces);
        for (more, expected) in [(0, 512), (511, 512), (1, 1024), (1200, 2048), (2000, 4096), (383, 4096)] {
            pieces.send(more);
            assert_eq!(poll(&mut half), Poll::Pending);
            assert_eq!(bodies.bytes(), expected);
            let held: usize = bodies.collected.borrow().buffers.values().map(|buffer| buffer.bytes.capacity()).sum();
            assert_eq!(held, expected);
        }
    }

    #[test]
    fn a_short_body_gets_through_while_others_hold_all_the_room() {
        let bodies = Bodies::new(64 * 1024);
        for network in [1, 2] {
            let mut halves: Vec<_> = (0..100).map(|_| collection(&bodies, 1, &Pieces::of(2048))).collect();
            halves.iter_mut().for_each(|half| assert_eq!(poll(half), Poll::Pending));
            assert_eq!(bodies.bytes(), 64 * 1024);
            let pieces = Pieces::of(300);
            let mut honest = collection(&bodies, network, &pieces);
            assert_eq!(poll(&mut honest), Poll::Pending);
            // More half bodies come before the rest does.
            halves.extend((0..20).map(|_| collection(&bodies, 1, &Pieces::of(2048))));
            halves.iter_mut().rev().take(20).for_each(|half| assert_eq!(poll(half), Poll::Pending));
            pieces.send(300);
            pieces.end();
            assert_eq!(poll(&mut honest), Poll::Ready(Ok(600)), "from network {network}");
            let given_way = halves.iter_mut().map(poll).filter(|polled| polled.is_ready()).count();
            assert_eq!(given_way, 120 - 31, "the newest stay");
            assert!(halves.iter_mut().rev().take(31).all(|half| poll(half).is_pending()));
        }
        assert_eq!(bodies.bytes(), 0);
    }
}
