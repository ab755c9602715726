//! Floods of calls over gRPC: each stream of each connection calls again as soon as it is answered.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;

use super::attack::{Attack, LOCAL_ADDRESS, PATIENCE, Tally, Target};
use crate::failure::Failure;
use crate::grpc_client::{EMPTY_MESSAGE, GrpcClient};
use crate::writer;

const PAGE: u8 = 100;
const PAGES_ROOM: &str = "pages";
/// The status of a call that was answered.
const OK: &str = "0";

/// What is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Called {
    /// Nearly nothing: whether the server is well.
    Health,
    /// A page of 100 messages, by one user.
    Page,
}

pub struct CallFlood {
    connections: usize,
    streams: usize,
    called: Called,
    /// What has happened since the last turn.
    tally: Arc<Mutex<Tally>>,
    prepared: Option<(Runtime, Call)>,
    has_begun: bool,
}

/// One call, which is made again and again.
#[derive(Clone)]
struct Call {
    method: &'static str,
    token: String,
    message: Bytes,
}

impl CallFlood {
    /// So many connections, each with so many calls at a time.
    pub fn new(connections: usize, streams: usize, called: Called) -> CallFlood {
        CallFlood { connections, streams, called, tally: Arc::default(), prepared: None, has_begun: false }
    }
}

impl Attack for CallFlood {
    fn prepare(&mut self, target: &Target) -> Result<(), Failure> {
        let call = match self.called {
            Called::Health => Call { method: "Healthcheck", token: String::new(), message: EMPTY_MESSAGE },
            Called::Page => {
                let token = target.sign_in(1)?.remove(0);
                writer::write(target.server, LOCAL_ADDRESS, &token, PAGES_ROOM, PAGE.into())?;
                Call { method: "ListChannelMessages", token, message: page_message() }
            }
        };
        self.prepared = Some((Builder::new_current_thread().enable_all().build()?, call));
        Ok(())
    }

    fn turn(&mut self, target: &Target, tally: &mut Tally) -> Result<(), Failure> {
        let Some((runtime, call)) = &self.prepared else { return Ok(()) };
        if !mem::replace(&mut self.has_begun, true) {
            for _ in 0..self.connections {
                runtime.spawn(flood(target.grpc, self.streams, call.clone(), self.tally.clone()));
            }
        }
        runtime.block_on(async { tokio::time::sleep(PATIENCE).await });
        let Tally { asked, done, refused } = mem::take(&mut *self.tally.lock());
        tally.asked += asked;
        tally.done += done;
        for (kind, count) in refused {
            *tally.refused.entry(kind).or_default() += count;
        }
        Ok(())
    }
}

/// The fields `channel_id` and `limit`, behind the flag and the length.
fn page_message() -> Bytes {
    let channel = format!("2...{PAGES_ROOM}");
    let message = [&[0x0a, channel.len() as u8][..], channel.as_bytes(), &[0x12, 2, 0x08, PAGE]].concat();
    [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat().into()
}

/// Calls over one connection, and opens it again when it has ended.
async fn flood(server: SocketAddr, streams: usize, call: Call, tally: Arc<Mutex<Tally>>) {
    loop {
        let Ok(client) = GrpcClient::connect(server, LOCAL_ADDRESS).await else {
            tally.lock().refuse("no connection");
            tokio::time::sleep(PATIENCE).await;
            continue;
        };
        let mut calling = JoinSet::new();
        for _ in 0..streams {
            calling.spawn(call_on(client.clone(), call.clone(), tally.clone()));
        }
        drop(client);
        while calling.join_next().await.is_some() {}
    }
}

/// Calls again and again, until the connection has ended.
async fn call_on(mut client: GrpcClient, Call { method, token, message }: Call, tally: Arc<Mutex<Tally>>) {
    loop {
        tally.lock().asked += 1;
        match client.call(method, &token, message.clone()).await {
            Ok(status) if status == OK => tally.lock().done += 1,
            Ok(status) => tally.lock().refuse(status),
            Err(_) => return tally.lock().refuse("cut"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    /// Turns that a test waits for at most.
    const TURNS_MAX: usize = 4_000;
    const CALLS_OF_CONNECTION: usize = 50;

    /// Answers some calls of each connection, one in two with a refusal, and ends the connection.
    async fn serve(listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                for number in 0..CALLS_OF_CONNECTION {
                    let Some(Ok((_, mut respond))) = connection.accept().await else { return };
                    let status = if number % 2 == 0 { OK } else { "8" };
                    let head = http::Response::builder().header("grpc-status", status).body(()).unwrap();
                    respond.send_response(head, true).unwrap();
                }
            });
        }
    }

    #[test]
    fn calls_go_on_after_refusals_and_on_new_connections() {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let grpc = listener.local_addr().unwrap();
        runtime.spawn(serve(listener));
        let target = Target { server: grpc, grpc, room: String::new(), length: Duration::ZERO };
        let mut flood = CallFlood::new(2, 3, Called::Health);
        flood.prepare(&target).unwrap();
        let mut tally = Tally::default();
        for _ in 0..TURNS_MAX {
            flood.turn(&target, &mut tally).unwrap();
            if tally.done > 4 * CALLS_OF_CONNECTION as u64 {
                break;
            }
        }
        assert!(tally.done > 4 * CALLS_OF_CONNECTION as u64, "{tally:?}");
        assert!(tally.refused["8"] > 0 && tally.refused["cut"] > 0, "{tally:?}");
        assert!(tally.asked >= tally.done + tally.refused["8"], "{tally:?}");
    }

    #[test]
    fn a_page_is_asked_for_by_a_framed_message() {
        assert_eq!(&page_message()[..], b"\0\0\0\0\x0f\x0a\x092...pages\x12\x02\x08\x64");
    }
}
