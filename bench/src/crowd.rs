//! What does a join cost as a room grows into a crowd, and how much presence does each member get?
//!
//! Visible members join one room as fast as the server lets them. Every byte of presence that a member gets is counted.
//! Once the room is quiet, the last member count that each member got is compared with the true one.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::{CellAlignment, Table, presets};
use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use serde::Serialize;

use crate::cpu;
use crate::dialect::{Dialect, ROOM};
use crate::frames::{self, Header};
use crate::server::{Kind, Server};
use crate::setting::Setting;
use crate::sockets::{OPENING_MAX, Opening, connect, ready, say};

/// Joins in one row of the table.
const BLOCK: usize = 1000;
/// A crowd is told its member count once a second, so after this time every member has got it.
const QUIET: Duration = Duration::from_secs(4);
const JOINING_TIME_MAX: Duration = Duration::from_secs(300);
const BUFFER_BYTES: usize = 256 << 10;
/// A turn waits this long for events, and handles at most so many.
const PATIENCE: Duration = Duration::from_millis(1);
const EVENTS_MAX: usize = 512;

#[derive(Args, Debug)]
pub struct Options {
    /// Members that join.
    #[arg(long, default_value_t = 15_000)]
    members: usize,
    #[command(flatten)]
    setting: Setting,
}

/// The cost of one block of joins.
#[derive(Serialize)]
struct Block {
    members: usize,
    joins_per_second: f64,
    server_cpu_us_per_join: f64,
    /// Presence bytes that reached all members during the block, for each join.
    presence_bytes_per_join: f64,
}

#[derive(Serialize)]
struct Outcome {
    blocks: Vec<Block>,
    presence_bytes_per_member_mean: f64,
    presence_bytes_per_member_max: u64,
    /// Members whose last count was wrong after the room had become quiet.
    miscounted: usize,
}

struct Member {
    socket: TcpStream,
    opening: Option<Opening>,
    unread: Vec<u8>,
    presence_bytes: u64,
    count: Option<u64>,
}

struct Crowd {
    address: SocketAddr,
    dialect: Dialect,
    epoll: rustix::fd::OwnedFd,
    members: Vec<Member>,
    joined: usize,
    presence_bytes: u64,
    buffer: Vec<u8>,
}

pub fn run(options: &Options) -> io::Result<()> {
    let launch = options.setting.launch_stentor(1)?;
    let fits = cpu::raise_descriptor_limit().saturating_sub(64);
    if options.members as u64 > fits {
        return Err(io::Error::other(format!(
            "{fits} members fit the limit on open descriptors, not {}",
            options.members
        )));
    }
    let server = Server::start(Kind::Stentor, &launch)?;
    let mut crowd = Crowd {
        address: server.address,
        dialect: server.dialect(Kind::Stentor, &launch)?,
        epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
        members: Vec::with_capacity(options.members),
        joined: 0,
        presence_bytes: 0,
        buffer: Vec::with_capacity(BUFFER_BYTES),
    };
    let outcome = crowd.fill(options.members, server.pid())?;
    print(&outcome, options.members);
    options.setting.keep(&outcome)?;
    if outcome.miscounted > 0 { Err(io::Error::other("members were told a wrong count")) } else { Ok(()) }
}

impl Crowd {
    fn fill(&mut self, members: usize, pid: u32) -> io::Result<Outcome> {
        let mut blocks = Vec::new();
        while self.joined < members {
            let (from, bytes, cpu, begun) = (self.joined, self.presence_bytes, cpu::cpu_time(pid)?, Instant::now());
            let until = (from + BLOCK).min(members);
            self.join_until(until)?;
            let joins = (self.joined - from) as f64;
            blocks.push(Block {
                members: self.joined,
                joins_per_second: joins / begun.elapsed().as_secs_f64(),
                server_cpu_us_per_join: (cpu::cpu_time(pid)? - cpu).as_secs_f64() * 1e6 / joins,
                presence_bytes_per_join: (self.presence_bytes - bytes) as f64 / joins,
            });
            eprintln!("  {} members", self.joined);
        }
        let quiet = Instant::now();
        while quiet.elapsed() < QUIET {
            self.turn()?;
        }
        let bytes = self.members.iter().map(|member| member.presence_bytes);
        let exact = Some(members as u64);
        Ok(Outcome {
            blocks,
            presence_bytes_per_member_mean: bytes.clone().sum::<u64>() as f64 / members as f64,
            presence_bytes_per_member_max: bytes.max().unwrap_or_default(),
            miscounted: self.members.iter().filter(|member| member.count.is_some() && member.count != exact).count(),
        })
    }

    fn join_until(&mut self, members: usize) -> io::Result<()> {
        let begun = Instant::now();
        while self.joined < members {
            while self.members.len() < members && self.members.len() - self.joined < OPENING_MAX {
                self.open()?;
            }
            self.turn()?;
            if begun.elapsed() > JOINING_TIME_MAX {
                return Err(io::Error::other(format!("only {} of {members} members had joined", self.joined)));
            }
        }
        Ok(())
    }

    fn open(&mut self) -> io::Result<()> {
        let socket = connect(self.address, self.members.len())?;
        socket.set_nodelay(true)?;
        let data = epoll::EventData::new_u64(self.members.len() as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN)?;
        let head = self.dialect.upgrade_request().ok_or_else(|| io::Error::other("only Stentor has presence"))?;
        say(&socket, &head).map_err(io::Error::other)?;
        let join = format!(r#"{{"channel_join":{{"target":"{ROOM}","type":1,"persistence":false}},"cid":"j"}}"#);
        let mut frame = Vec::new();
        frames::put_client_frame(frames::TEXT, join.as_bytes(), &mut frame);
        let opening = Some(Opening::new(frame));
        self.members.push(Member { socket, opening, unread: Vec::new(), presence_bytes: 0, count: None });
        Ok(())
    }

    fn turn(&mut self) -> io::Result<()> {
        for event in ready(&self.epoll, EVENTS_MAX, PATIENCE)? {
            self.read(event.data.u64() as usize)?;
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> io::Result<()> {
        let member = &mut self.members[index];
        self.buffer.clear();
        match recv(&member.socket, spare_capacity(&mut self.buffer), RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Err(io::Error::other(format!("the server closed connection {index}"))),
            Ok(_) => member.unread.extend_from_slice(&self.buffer),
            Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        if let Some(opening) = &mut member.opening {
            if opening.take_in(&member.socket, &std::mem::take(&mut member.unread)).map_err(io::Error::other)? {
                member.opening = None;
            }
            return Ok(());
        }
        let mut taken = 0;
        let unread = std::mem::take(&mut member.unread);
        while let Some(header) = Header::read(&unread[taken..]).map_err(io::Error::other)? {
            let Some(frame) = unread.get(taken..taken + header.wire_bytes()) else { break };
            taken += frame.len();
            let heard = member.hear(frame);
            self.joined += usize::from(heard.joined);
            self.presence_bytes += heard.presence_bytes;
        }
        member.unread = unread[taken..].to_vec();
        Ok(())
    }
}

#[derive(Default)]
struct Heard {
    joined: bool,
    presence_bytes: u64,
}

impl Member {
    fn hear(&mut self, frame: &[u8]) -> Heard {
        let joined = contains(frame, br#"{"cid":"j","channel":{"#);
        if !joined && !contains(frame, br#"{"channel_presence_event":{"#) {
            return Heard::default();
        }
        let bytes = frame.len() as u64;
        self.presence_bytes += bytes;
        self.count = number_behind(frame, br#""presence_count":"#);
        Heard { joined, presence_bytes: bytes }
    }
}

/// Whether a frame's payload begins with these bytes. The frame's header has at most ten bytes.
fn contains(frame: &[u8], beginning: &[u8]) -> bool {
    frame[..frame.len().min(10 + beginning.len())].windows(beginning.len()).any(|window| window == beginning)
}

/// The number after a JSON member's name. It is the last member of its object, so the search begins at the end.
fn number_behind(frame: &[u8], name: &[u8]) -> Option<u64> {
    let tail = &frame[frame.len().saturating_sub(64)..];
    let at = tail.windows(name.len()).position(|window| window == name)? + name.len();
    let digits = tail[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

fn print(outcome: &Outcome, members: usize) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["members", "joins/s", "server CPU µs a join", "presence KB sent a join"]);
    for block in &outcome.blocks {
        table.add_row([
            block.members.to_string(),
            format!("{:.0}", block.joins_per_second),
            format!("{:.0}", block.server_cpu_us_per_join),
            format!("{:.1}", block.presence_bytes_per_join / 1e3),
        ]);
    }
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    println!("{members} visible members join one room:\n{table}");
    println!(
        "presence that reached a member, in all: {:.1} KB on average, {:.1} KB at most; {} were told a wrong count",
        outcome.presence_bytes_per_member_mean / 1e3,
        outcome.presence_bytes_per_member_max as f64 / 1e3,
        outcome.miscounted
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hears_answers_events_and_counts() {
        let mut frame = Vec::new();
        let payload =
            br#"{"channel_presence_event":{"channel_id":"2...bench","room_name":"bench","presence_count":1234}}"#;
        frames::put_server_text(payload, &mut frame);
        let mut member = Member {
            socket: TcpStream::connect(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
                .unwrap(),
            opening: None,
            unread: Vec::new(),
            presence_bytes: 0,
            count: None,
        };
        let heard = member.hear(&frame);
        assert!(!heard.joined);
        assert_eq!((heard.presence_bytes, member.count), (frame.len() as u64, Some(1234)));
        frame.clear();
        frames::put_server_text(br#"{"cid":"j","channel":{"id":"2...bench"}}"#, &mut frame);
        assert!(member.hear(&frame).joined);
        assert_eq!(member.count, None);
        frame.clear();
        frames::put_server_text(br#"{"channel_message":{}}"#, &mut frame);
        assert_eq!(member.hear(&frame).presence_bytes, 0);
    }
}
