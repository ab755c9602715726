//! What a client asks of the bare server.

/// A client's request.
#[derive(PartialEq, Eq, Debug)]
pub enum Asked {
    Join {
        cid: String,
        room: String,
    },
    Send {
        cid: String,
        room: String,
        content: String,
    },
    /// A request that the bare server does not handle.
    Other,
}
