//! Sign-ins with a password at a fixed pace: each on a connection of its own, timed from the time at which it was due.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hdrhistogram::Histogram;
use rustix::event::epoll;
use rustix::fd::OwnedFd;

use super::{LOCAL_ADDRESS, Quantiles};
use crate::accounts::SERVER_KEY_BASIC;
use crate::asker::{Asker, Reply, request};
use crate::publisher::Schedule;
use crate::received::empty_histogram;
use crate::sockets::ready;

const PER_SECOND: f64 = 4.0;
/// As many sign-ins may wait for their answers: those of a few seconds. Others are counted as failed.
const WAITING_MAX: usize = 64;
const OK: u16 = 200;

pub struct SignIns {
    epoll: OwnedFd,
    askers: Vec<Asker>,
    /// When the request was due for which each asker waits.
    due_ns: Vec<u64>,
    request: Vec<u8>,
    schedule: Schedule,
    latency_us: Histogram<u64>,
    failed: u64,
}

impl SignIns {
    pub fn new(server: SocketAddr) -> io::Result<SignIns> {
        Ok(SignIns {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            askers: (0..WAITING_MAX).map(|index| Asker::new(server, LOCAL_ADDRESS, index)).collect(),
            due_ns: vec![0; WAITING_MAX],
            request: sign_in_with_password("bystander", "right password"),
            schedule: Schedule::new(0, 1.0, 0),
            latency_us: empty_histogram(),
            failed: 0,
        })
    }

    /// The epoll set with all its connections.
    pub(super) fn epoll(&self) -> &OwnedFd {
        &self.epoll
    }

    pub(super) fn begin(&mut self, start_ns: u64, length: Duration) {
        self.latency_us.reset();
        self.failed = 0;
        self.schedule = Schedule::new(start_ns, PER_SECOND, (PER_SECOND * length.as_secs_f64()) as u64);
    }

    /// Sends what is due, and takes in what was answered.
    pub(super) fn turn(&mut self, now_ns: u64, buffer: &mut [u8]) -> io::Result<()> {
        while let Some(due_ns) = self.schedule.due(now_ns) {
            self.schedule.sent(due_ns, now_ns);
            match self.askers.iter_mut().position(|asker| !asker.is_busy()) {
                Some(free) => {
                    self.due_ns[free] = due_ns;
                    self.askers[free].ask(&self.request, &self.epoll)?;
                }
                None => self.failed += 1,
            }
        }
        for event in ready(&self.epoll, WAITING_MAX, Duration::ZERO)? {
            let index = event.data.u64() as usize;
            match self.askers[index].pump(buffer, &self.epoll)? {
                Some(Reply::Answer { status: OK, .. }) => {
                    self.latency_us.saturating_record(now_ns.saturating_sub(self.due_ns[index]) / 1_000);
                }
                Some(_) => self.failed += 1,
                None => {}
            }
        }
        Ok(())
    }

    pub(super) fn is_idle(&self) -> bool {
        self.schedule.finished() && !self.askers.iter().any(Asker::is_busy)
    }

    /// The latencies since the beginning, and how many were not answered with 200.
    pub(super) fn end(&mut self) -> (Quantiles, u64) {
        let waiting = self.askers.iter().filter(|asker| asker.is_busy()).count() as u64;
        (Quantiles::of(&self.latency_us), self.failed + waiting)
    }
}

/// A request to sign in with an email and a password.
pub fn sign_in_with_password(name: &str, password: &str) -> Vec<u8> {
    let headers = format!("Authorization: Basic {SERVER_KEY_BASIC}\r\nContent-Type: application/json\r\n");
    let body = format!(r#"{{"email":"{name}@example.org","password":"{password}"}}"#);
    request("POST /v2/account/authenticate/email", &headers, body.as_bytes())
}
