//! A member of a live event. It does what its planned life says: it comes, leaves, drops its connection, comes back,
//! and reads all the time, promptly or slowly.

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::base::clock;
use crate::clients::client;
use crate::clients::client_error::ClientError;
use crate::clients::crowd::{Crowd, Parting};
use crate::clients::socket::{Lost, Socket};
use crate::clients::stages::{Stages, drains};
use crate::plan::lives::{Act, ReadingMode, Step};

/// How long a member waits before it comes back after the server closed it for reading too slowly.
const RETURN_AFTER: Duration = Duration::from_secs(1);
/// A slow reader sees a server's pings late. So it sends a sign of life by itself, well within the 25 seconds of
/// silence that the server allows.
const LIFE_SIGN_NS: u64 = 8 * clock::SECOND_NS;

pub struct Member {
    stages: Rc<Stages>,
    /// Its index among the thread's users.
    at: usize,
    user: u32,
    crowd: Rc<Crowd>,
    member_slot: usize,
    start_ns: u64,
    connection: Option<Connection>,
}

struct Connection {
    socket: Socket,
    /// The channel's id while the member is in the room.
    channel_id: Option<String>,
}

/// How a period of reading ended.
#[derive(PartialEq, Eq)]
enum Attended {
    ToTheEnd,
    ClosedWithNotice,
    Drained,
    Lost,
}

impl Member {
    pub fn new(stages: Rc<Stages>, at: usize, start_ns: u64) -> Self {
        let (user, crowd, member_slot) = stages.member(at);
        Self { stages, at, user, crowd, member_slot, start_ns, connection: None }
    }

    /// Runs the member until the task is aborted.
    pub async fn live(mut self, acts: Vec<Act>) {
        for act in acts {
            self.attend(self.start_ns + act.at_ns).await;
            match act.step {
                Step::Join => self.come().await,
                Step::Leave => self.go().await,
                Step::Drop => self.let_go(),
            }
        }
        // Nothing is left but to read, and to come back each time the server closes the connection because the member
        // was too slow.
        while self.attend(u64::MAX).await == Attended::ClosedWithNotice && clock::now_ns() < self.end_ns() {
            tokio::time::sleep(RETURN_AFTER).await;
            self.come().await;
        }
        std::future::pending().await
    }

    fn end_ns(&self) -> u64 {
        self.start_ns + self.stages.plan().measured_ns().end
    }

    /// Enters the room. Where a drain is expected, a member that is not let in tries again until it is.
    async fn come(&mut self) {
        let Err(error) = self.join().await else { return };
        if !self.expects_drain() {
            return self.fail(&error);
        }
        if let ClientError::Lost(lost) = &error {
            self.crowd.lost(self.member_slot, lost);
        }
        self.connection = None;
        self.come_back().await;
    }

    async fn come_back(&mut self) {
        let (socket, channel_id) = drains::come_back(&self.stages, self.at).await;
        self.connection = Some(Connection { socket, channel_id: Some(channel_id) });
    }

    fn expects_drain(&self) -> bool {
        self.stages.plan().drain_secs().is_some()
    }

    async fn go(&mut self) {
        match self.leave().await {
            Err(ClientError::Lost(lost)) if self.expects_drain() => {
                self.connection = None;
                self.crowd.lost(self.member_slot, &lost);
            }
            Err(error) => self.fail(&error),
            Ok(()) => {}
        }
    }

    fn fail(&mut self, error: &ClientError) {
        self.connection = None;
        self.crowd.failed(self.member_slot, error);
    }

    /// Reads until that time, or until the connection ends. Without a connection it only waits. A member whose connection
    /// is closed by a drain comes back first.
    async fn attend(&mut self, until_ns: u64) -> Attended {
        loop {
            let was_in_the_room = self.connection.as_ref().is_some_and(|connection| connection.channel_id.is_some());
            match self.read(until_ns).await {
                Attended::Drained if was_in_the_room => self.come_back().await,
                // It was away from the room, and is from now on without a connection.
                Attended::Drained => {}
                attended => return attended,
            }
        }
    }

    async fn read(&mut self, until_ns: u64) -> Attended {
        let (crowd, member_slot, end_ns) = (self.crowd.clone(), self.member_slot, self.end_ns());
        let Some(connection) = &mut self.connection else {
            if until_ns == u64::MAX {
                return Attended::Lost;
            }
            tokio::time::sleep(clock::until(until_ns)).await;
            return Attended::ToTheEnd;
        };
        let listening = async {
            match crowd.reading_mode(member_slot) {
                ReadingMode::Prompt => client::listen(&mut connection.socket, &crowd, member_slot).await,
                ReadingMode::Slow { .. } => {
                    let pace = self.stages.slow_pace();
                    listen_slowly(&mut connection.socket, &crowd, member_slot, pace, end_ns).await
                }
            }
        };
        let lost = match until_ns {
            u64::MAX => listening.await,
            _ => match tokio::time::timeout(clock::until(until_ns), pin!(listening)).await {
                Ok(lost) => lost,
                Err(_) => return Attended::ToTheEnd,
            },
        };
        self.connection = None;
        match self.crowd.lost(self.member_slot, &lost) {
            Parting::TooSlow => Attended::ClosedWithNotice,
            Parting::Drained => Attended::Drained,
            Parting::Lost => Attended::Lost,
        }
    }

    /// Enters the room, on the existing connection or on a new one.
    async fn join(&mut self) -> Result<(), ClientError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection { socket: self.stages.connect_persistently(self.at).await?, channel_id: None },
        };
        if connection.channel_id.is_none() {
            let joining = client::join(&mut connection.socket, &self.crowd, self.user, self.member_slot);
            connection.channel_id = Some(joining.await?);
            self.stages.gauges().joined.bump();
        }
        self.connection = Some(connection);
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), ClientError> {
        let Some(connection) = &mut self.connection else { return Ok(()) };
        let Some(channel_id) = connection.channel_id.take() else { return Ok(()) };
        if let Some(leave) = self.crowd.dialect().leave(&channel_id) {
            return client::leave(&mut connection.socket, &self.crowd, self.member_slot, leave).await;
        }
        // The dialect has no leave request: the member drops the connection.
        self.let_go();
        Ok(())
    }

    fn let_go(&mut self) {
        if self.connection.take().is_some() {
            self.crowd.dropped(self.member_slot);
        }
    }
}

/// Reads one frame per `pace` until `end_ns`, and everything that comes after that.
async fn listen_slowly(socket: &mut Socket, crowd: &Crowd, member_slot: usize, pace: Duration, end_ns: u64) -> Lost {
    let mut life_sign_ns = clock::now_ns() + LIFE_SIGN_NS;
    loop {
        let now_ns = clock::now_ns();
        if now_ns < end_ns {
            tokio::time::sleep(pace.min(clock::until(end_ns))).await;
        }
        if now_ns > life_sign_ns {
            life_sign_ns = now_ns + LIFE_SIGN_NS;
            if let Err(error) = socket.send(Message::Pong(Bytes::new())).await {
                return Lost::Broken(Box::new(error));
            }
        }
        match client::next_frame(socket).await {
            Ok(Some(frame)) => {
                crowd.hear(member_slot, &frame);
            }
            Ok(None) => {}
            Err(lost) => return lost,
        }
    }
}

#[cfg(test)]
mod tests;
