//! One user: it has its own WebSocket, joins the room, and listens until it is stopped or loses the connection.
//!
//! The thread's `Crowd` checks what arrives. The WebSocket library answers the server's pings whenever the socket is
//! read, and the socket is always read.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio_tungstenite::client_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message, http};

use crate::clients::client_error::{ClientError, TIMEOUT};
use crate::clients::crowd::{Crowd, Due, RoomAnswer};
use crate::clients::head::HeadOnly;
use crate::clients::socket::{self, Ear, Lost, SharedSocket, Socket, broken};
use crate::plan::lives::ReadingMode;
use crate::plan::target::Target;
use crate::wire::{Dialect, Entrance, Frame, Heard, Request, Scratch, Speaker};

/// Asks the server to skip messages when the session is too slow, instead of closing it.
const MOVE_ON_WHEN_SLOW: &str = "&on_lag=skip";
const SLOW_RECEIVE_BUFFER_BYTES: u32 = 16 * 1024;

/// The address from which a user connects, and how the user reads.
#[derive(Clone, Copy)]
pub struct Way {
    pub source: Option<Ipv4Addr>,
    pub reading_mode: ReadingMode,
}

pub async fn connect(target: &Target, token: &str, speaker: Speaker<'_>, way: Way) -> Result<Socket, ClientError> {
    let connecting = async { open(target.server, way).await.map_err(ClientError::Connect) };
    let stream = within("connecting", connecting).await?;
    let mut url = target.dialect.url(target.server, token, speaker);
    if way.reading_mode == (ReadingMode::Slow { skips: true }) {
        url.push_str(MOVE_ON_WHEN_SLOW);
    }
    let request = url.into_client_request().map_err(upgrade_error)?;
    let config = WebSocketConfig::default().read_buffer_size(target.read_buffer_bytes as usize);
    let upgrading =
        async { client_async_with_config(request, HeadOnly::new(stream), Some(config)).await.map_err(upgrade_error) };
    let (opened, _) = within("upgrading to WebSocket", upgrading).await?;
    // A connection of its own, without the buffers that the opening needed.
    Ok(Socket::new(opened.into_inner().into_inner(), config))
}

async fn open(server: SocketAddr, way: Way) -> io::Result<TcpStream> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if way.reading_mode != ReadingMode::Prompt {
        // Bytes in the kernel's receive buffer count as read at the server. With a small buffer, a slow reader is slow
        // at the server too.
        socket.set_recv_buffer_size(SLOW_RECEIVE_BUFFER_BYTES)?;
    }
    if let Some(source) = way.source {
        socket.bind(SocketAddr::new(IpAddr::V4(source), 0))?;
    }
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn upgrade_error(error: SocketError) -> ClientError {
    match error {
        SocketError::Http(answer) if answer.status() == http::StatusCode::UNAUTHORIZED => ClientError::Unauthorised,
        other => ClientError::Upgrade(Box::new(other)),
    }
}

async fn within<T>(doing: &'static str, work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    tokio::time::timeout(TIMEOUT, work).await.unwrap_or(Err(ClientError::TimedOut { doing }))
}

/// Joins the room and returns the channel's id. Everything else that arrives meanwhile goes to the crowd.
pub async fn join(socket: &mut Socket, crowd: &Crowd, user: u32, member_slot: usize) -> Result<String, ClientError> {
    let (dialect, entrance) = (crowd.dialect(), crowd.entrance());
    let joining = async {
        if let Some(join) = dialect.join(entrance, user) {
            socket.send(join).await.map_err(broken)?;
        }
        if !dialect.confirms_joins() {
            crowd.joined(member_slot);
            return Ok(entrance.room.clone());
        }
        loop {
            let Some(frame) = next_frame(socket).await? else { continue };
            match crowd.hear(member_slot, &frame) {
                Some(RoomAnswer::Joined { channel_id }) => {
                    return Ok(channel_id.unwrap_or_else(|| entrance.room.clone()));
                }
                Some(RoomAnswer::Refused { code, reason }) => return Err(ClientError::JoinRefused { code, reason }),
                Some(RoomAnswer::Left) | None => {}
            }
        }
    };
    within("joining the room", joining).await
}

/// Leaves the room, and receives messages until the server answers the leave.
pub async fn leave(socket: &mut Socket, crowd: &Crowd, member_slot: usize, leave: Message) -> Result<(), ClientError> {
    let leaving = async {
        crowd.leaving(member_slot);
        socket.send(leave).await.map_err(broken)?;
        loop {
            let Some(frame) = next_frame(socket).await? else { continue };
            match crowd.hear(member_slot, &frame) {
                Some(RoomAnswer::Left) => return Ok(()),
                Some(RoomAnswer::Refused { code, reason }) => return Err(ClientError::LeaveRefused { code, reason }),
                Some(RoomAnswer::Joined { .. }) | None => {}
            }
        }
    };
    within("leaving the room", leaving).await
}

/// Enters a room without a crowd. Returns the channel's id where the server gives one. Other frames that arrive
/// meanwhile are ignored.
pub async fn enter(
    socket: &mut Socket,
    dialect: &Dialect,
    entrance: &Entrance,
    user: u32,
) -> Result<Option<String>, ClientError> {
    let entering = async {
        if let Some(join) = dialect.join(entrance, user) {
            socket.send(join).await.map_err(broken)?;
        }
        let mut scratch = Scratch::default();
        while dialect.confirms_joins() {
            let Some(frame) = next_frame(socket).await? else { continue };
            let mut answer = None;
            // An unreadable frame is not an answer. If the server sends nothing else, the timeout ends the wait.
            let _ = dialect.read(&frame, &mut scratch, |heard| match heard {
                Heard::Joined { request: Some(Request::Join) | None, channel_id, .. } => {
                    answer = Some(Ok(channel_id.map(str::to_owned)));
                }
                Heard::Refused { request: Some(Request::Join), code, reason, .. } => {
                    answer = Some(Err(ClientError::JoinRefused { code, reason: reason.to_owned() }));
                }
                _ => {}
            });
            if let Some(answer) = answer {
                return answer;
            }
        }
        Ok(None)
    };
    within("joining the room", entering).await
}

/// Receives everything until the connection ends.
pub async fn listen(socket: &mut Socket, crowd: &Crowd, member_slot: usize) -> Lost {
    socket.listen(&mut SlotEar { crowd, member_slot }).await
}

/// The next frame with content; `None` for a ping or a pong.
pub async fn next_frame(socket: &mut Socket) -> Result<Option<Frame>, Lost> {
    socket::heard(socket.next().await)
}

/// The `Ear` of a user that has a slot in a crowd.
pub struct SlotEar<'a> {
    pub crowd: &'a Crowd,
    pub member_slot: usize,
}

impl Ear for SlotEar<'_> {
    fn recognise(&mut self, bytes: &[u8]) -> usize {
        self.crowd.recognise(self.member_slot, bytes)
    }

    fn hear(&mut self, frame: &Frame) {
        // The answer to a join or a leave is awaited by the code that reads the socket as a stream.
        self.crowd.hear(self.member_slot, frame);
    }
}

/// Sends the messages that are due, until no more can be sent. The listening side receives the server's answers. Returns
/// whether the run is over.
pub async fn publish(
    mut sink: SharedSocket,
    crowd: Rc<Crowd>,
    publisher: u32,
    channel_id: String,
    due: &mut mpsc::Receiver<Due>,
) -> bool {
    while let Some(due) = due.recv().await {
        let frame = crowd.write_publish(publisher, &channel_id, due);
        crowd.sending(publisher, due);
        if sink.send(frame).await.is_err() {
            // The listening side of this socket gets the error and reports it.
            return false;
        }
        crowd.sent(publisher, due);
    }
    // The run is over: close with a close frame.
    let _ = sink.close().await;
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_source_address_is_the_one_the_server_sees() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = listener.local_addr().expect("its address");
        for source in [None, Some(Ipv4Addr::new(127, 0, 0, 2)), Some(Ipv4Addr::new(127, 0, 1, 2))] {
            let _stream = open(server, Way { source, reading_mode: ReadingMode::Prompt }).await.expect("a connection");
            let (_, seen) = listener.accept().await.expect("the same connection");
            assert_eq!(seen.ip(), IpAddr::V4(source.unwrap_or(Ipv4Addr::LOCALHOST)));
        }
    }
}
