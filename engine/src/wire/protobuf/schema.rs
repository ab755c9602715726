//! The types of `engine/proto`, as build.rs generates them.

pub use nakama::api::{ChannelMessage, Notification};
pub use nakama::realtime::envelope::Message as Payload;
pub use nakama::realtime::*;

include!(concat!(env!("OUT_DIR"), "/schema.rs"));
