//! Signs of life, once a second on one subject for all nodes, over a connection of their own. They grant nothing: who
//! owns what is decided in the database.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use engine::id::{Life, Monotonic};

use super::Beat;
use super::connection::{Connection, Servers, Trouble};
use crate::packet::{Content, FrameNumber, LinkNumber, Packet};

/// The time from one beat to the next.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// Beats, and hears others beat, until it is aborted.
pub async fn beat(servers: Servers, own: Life, beats: flume::Sender<Beat>) {
    let begun = Instant::now();
    loop {
        let subject = servers.beats();
        let trouble = match servers.clone().connect(subject, sign(own, 0)).await {
            Ok(connection) => match carry(connection, &servers.beats(), own, &beats, begun).await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            },
            Err(trouble) => trouble,
        };
        tracing::debug!(%trouble, "heartbeats have no connection");
        tokio::time::sleep(BEAT_INTERVAL).await;
    }
}

async fn carry(
    mut connection: Connection,
    subject: &str,
    own: Life,
    beats: &flume::Sender<Beat>,
    begun: Instant,
) -> Result<Infallible, Trouble> {
    let mut next = tokio::time::interval(BEAT_INTERVAL);
    let mut number = 0;
    loop {
        tokio::select! {
            _ = next.tick() => {
                number += 1;
                // If there is no room, the connection stalls, which `next` will tell.
                if let Some(place) = connection.place() {
                    place.send((subject.to_owned(), sign(own, number)));
                }
            }
            bytes = connection.next() => {
                if let Ok(Packet { from, .. }) = Packet::decode(bytes?)
                    && from != own
                {
                    let at = Monotonic::default().plus(begun.elapsed());
                    // The node has not read its beats: the newest are dropped.
                    let _ = beats.try_send(Beat { life: from, at });
                }
            }
        }
    }
}

/// A packet from this life to itself.
pub fn sign(own: Life, number: u64) -> bytes::Bytes {
    let (acknowledged, received) = (FrameNumber(0), FrameNumber(0));
    let content = Content::Probe { number };
    Packet { from: own, to: own, link: LinkNumber(0), acknowledged, received, content }.encode()
}
