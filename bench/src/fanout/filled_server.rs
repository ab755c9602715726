//! A server with its full room: how it is opened, and what filling it costs.

use std::time::{Duration, Instant};

use crate::client::{Room, Shape};
use crate::cpu;
use crate::failure::{Failure, world};
use crate::launch::Launch;
use crate::run;
use crate::server::{Kind, Server};

/// Joins at the beginning and at the end of filling a room, for comparison.
const JOINS_COMPARED: usize = 1000;

/// A running server with its full room. The server is dropped first, so that it does not see its members leave.
pub struct FilledServer {
    pub server: Server,
    pub room: Room,
}

/// What filling a room of a server just started costs.
pub struct Filling {
    pub joins: Joins,
    /// User-space memory of the server for each connection.
    pub resident_bytes: f64,
}

/// Joins per second: of all members, and of the first and the last `JOINS_COMPARED` of them.
#[derive(Clone, Copy)]
pub struct Joins {
    pub all: f64,
    /// `None` if the room is too small to compare them.
    pub first: Option<f64>,
    pub last: Option<f64>,
}

impl FilledServer {
    pub fn open(kind: Kind, shape: Shape, launch: &Launch) -> Result<FilledServer, Failure> {
        let mut filled = FilledServer::start(kind, shape, launch)?;
        filled.room.fill()?;
        Ok(filled)
    }

    /// The same, and what filling the room cost.
    pub fn open_measured(kind: Kind, shape: Shape, launch: &Launch) -> Result<(FilledServer, Filling), Failure> {
        let members = shape.members;
        let FilledServer { server, mut room } = FilledServer::start(kind, shape, launch)?;
        let resident = || cpu::resident_bytes(server.pid()).map_err(world("read the server's memory"));
        // The first member is not measured: with it the server allocates memory that it needs only once.
        room.admit(1)?;
        let resident_before = resident()?;
        let joins = fill_timed(&mut room, members)?;
        run::rest(&mut room, Duration::from_millis(200))?;
        let more = (members - 1).max(1) as f64;
        let resident_bytes = resident()?.saturating_sub(resident_before) as f64 / more;
        room.appoint_publisher()?;
        Ok((FilledServer { server, room }, Filling { joins, resident_bytes }))
    }

    /// A running server, and the room before any member has joined.
    fn start(kind: Kind, shape: Shape, launch: &Launch) -> Result<FilledServer, Failure> {
        let server = Server::start(kind, launch).map_err(world("start the server"))?;
        let dialect = server.dialect(kind, launch).map_err(world("sign in"))?;
        let room = Room::new(server.address, dialect, shape)?;
        Ok(FilledServer { server, room })
    }
}

/// Lets all other members join after the first one.
fn fill_timed(room: &mut Room, members: usize) -> Result<Joins, Failure> {
    let mut admit = |from: usize, to: usize| {
        let start = Instant::now();
        room.admit(to).map(|()| ((to - from) as f64, start.elapsed().as_secs_f64()))
    };
    let rate = |(joins, seconds): (f64, f64)| joins / seconds;
    if members < 3 * JOINS_COMPARED {
        let all = admit(1, members)?;
        return Ok(Joins { all: rate(all), first: None, last: None });
    }
    let (near, far) = (1 + JOINS_COMPARED, members - JOINS_COMPARED);
    let (first, between, last) = (admit(1, near)?, admit(near, far)?, admit(far, members)?);
    let all = (first.0 + between.0 + last.0, first.1 + between.1 + last.1);
    Ok(Joins { all: rate(all), first: Some(rate(first)), last: Some(rate(last)) })
}
