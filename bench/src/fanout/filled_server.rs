//! A server with its full room: how it is opened, and what filling it costs.

use std::time::{Duration, Instant};

use crate::client::{Room, Shape};
use crate::cpu;
use crate::failure::{Failure, world};
use crate::launch::Launch;
use crate::run;
use crate::server::{Kind, Server};

/// A running server with its full room. The server is dropped first, so that it does not see its members leave.
pub struct FilledServer {
    pub server: Server,
    pub room: Room,
}

/// What filling a room of a server just started costs.
pub struct Filling {
    pub joins_per_second: f64,
    /// User-space memory of the server for each connection.
    pub resident_bytes: f64,
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
        let (more, begun) = ((members - 1).max(1) as f64, Instant::now());
        room.admit(members)?;
        let joins_per_second = more / begun.elapsed().as_secs_f64();
        run::rest(&mut room, Duration::from_millis(200))?;
        let resident_bytes = resident()?.saturating_sub(resident_before) as f64 / more;
        room.appoint_publisher()?;
        Ok((FilledServer { server, room }, Filling { joins_per_second, resident_bytes }))
    }

    /// A running server, and the room before any member has joined.
    fn start(kind: Kind, shape: Shape, launch: &Launch) -> Result<FilledServer, Failure> {
        let server = Server::start(kind, launch).map_err(world("start the server"))?;
        let dialect = server.dialect(kind, launch, shape.members)?;
        let mut room = Room::new(server.address, dialect, shape)?;
        if let Some((address, config)) = server.secured() {
            room.secure(address, config);
        }
        Ok(FilledServer { server, room })
    }
}
