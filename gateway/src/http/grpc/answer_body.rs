//! The body of a call's answer: a framed message, and the trailers that say how the call has ended.

use std::cell::Cell;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::HeaderMap;
use hyper::body::{Body, Buf, Bytes, Frame};

use crate::http::unread_answers::UnreadAnswer;

/// The body of an answer. An empty one has its status in the head.
#[derive(Default)]
pub struct AnswerBody {
    message: Option<AnswerBytes>,
    trailers: Option<HeaderMap>,
}

impl AnswerBody {
    /// A framed message and its trailers. `counted` counts its bytes.
    pub fn new(framed: Vec<u8>, counted: Rc<UnreadAnswer>, trailers: HeaderMap) -> Self {
        let message = AnswerBytes { bytes: framed.into(), _counted: counted, taken: Rc::default() };
        Self { message: Some(message), trailers: Some(trailers) }
    }

    /// The same body, which adds to `taken` the bytes of its message that the socket takes.
    pub fn measured(mut self, taken: &Rc<Cell<usize>>) -> Self {
        if let Some(message) = &mut self.message {
            message.taken = taken.clone();
        }
        self
    }
}

impl Body for AnswerBody {
    type Data = AnswerBytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<AnswerBytes>, Infallible>>> {
        let message = self.message.take().map(Frame::data);
        Poll::Ready(message.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.message.is_none() && self.trailers.is_none()
    }
}

/// Bytes of an answer. They count until the library of HTTP/2 has given the last of them to the socket, also while they
/// wait for a window of the client.
pub struct AnswerBytes {
    bytes: Bytes,
    _counted: Rc<UnreadAnswer>,
    /// The bytes of all answers of the connection that its socket has taken, for the connection's task.
    taken: Rc<Cell<usize>>,
}

impl Buf for AnswerBytes {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.taken.set(self.taken.get() + count);
    }
}
