//! Accepts connections, and refuses those beyond the shard's capacity.
//!
//! A shard keeps a few places and descriptors beyond its capacity. It uses them for clients that only ask whether the
//! server is alive, and to tell other clients that the server is full: a client left waiting in the backlog would learn
//! nothing. The shard also uses them when the process runs out of descriptors below the capacity, because something
//! else in the process has taken them.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Once};

use engine::id::ConnectionId;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, Shutdown, SocketFlags, sockopt};

use super::{EVENTS_MAX, LISTENER, SEND_BUFFER_BYTES, SocketTable, Stage, introductions};
use crate::listen_address::Protocol;
use crate::listeners::BACKLOG;
use crate::sending::send;
use crate::tls::{TlsAcceptor, TlsConnection};
use crate::{full, log_limit};

/// Connections of a shard beyond its capacity whose request is read before they are refused.
const REFUSALS_MAX: usize = 32;

/// Descriptors that a shard keeps back: those for the `REFUSALS_MAX` connections, and one for a client that is refused
/// before its request is read.
pub const SPARES: usize = REFUSALS_MAX + 1;

/// Connections refused in one turn. A refusal costs four system calls, some 20 µs, and the other connections wait for
/// that time.
const REFUSALS_PER_TURN: usize = 32;

/// Bytes read from a client that is refused at once. If bytes were left unread, closing would reset the connection and
/// the client would lose its answer.
const UNHEARD_BYTES_MAX: usize = 4096;

/// Calls of `accept` that take in every connection of a full backlog.
pub(super) const BACKLOG_ACCEPTS_MAX: usize = BACKLOG as usize / EVENTS_MAX + 1;

/// A socket on which a shard accepts connections.
pub struct Listener {
    pub socket: OwnedFd,
    /// What begins TLS on the connections, if the listener has it.
    pub tls: Option<Arc<TlsAcceptor>>,
    pub protocol: Protocol,
}

impl From<OwnedFd> for Listener {
    /// A listener for HTTP, without TLS.
    fn from(socket: OwnedFd) -> Self {
        Self { socket, tls: None, protocol: Protocol::Http }
    }
}

/// A socket of this machine is shared by all shards, and one of them is woken for a connection.
pub(super) const LISTENER_EVENTS: EventFlags = EventFlags::IN.union(EventFlags::EXCLUSIVE);

/// The epoll data of a listener.
pub(super) fn listener_data(number: usize) -> EventData {
    EventData::new_u64(LISTENER - number as u64)
}

impl SocketTable {
    /// Which listener an event is of, if it is of one.
    pub(super) fn listener_of(&self, data: u64) -> Option<usize> {
        let number = usize::try_from(LISTENER - data).ok()?;
        (number < self.listeners.len()).then_some(number)
    }

    pub(super) fn accept(&mut self, number: usize) {
        for _ in 0..EVENTS_MAX {
            if self.is_full() {
                return self.accept_to_refuse(number);
            }
            let Some(Listener { socket, tls, protocol }) = self.listeners.get(number) else { return };
            let (tls, protocol) = (tls.clone(), *protocol);
            match net::accept_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(descriptor) => self.welcome(descriptor, tls.as_deref(), protocol),
                Err(Errno::AGAIN) => return,
                Err(Errno::CONNABORTED | Errno::INTR) => {}
                Err(Errno::MFILE | Errno::NFILE) => return self.accept_to_refuse(number),
                // Out of memory: the next tick tries again. A retry at once would starve the shard.
                Err(error) => {
                    log_limit::warn!(%error, "connections wait: one could not be accepted");
                    return self.pause_accepting();
                }
            }
        }
    }

    /// Whether the capacity is reached. Connections that are only being refused do not count.
    fn is_full(&self) -> bool {
        self.open - self.refusals() + self.http.len() >= self.capacity
    }

    /// Connections that are open only to be refused.
    pub(super) fn refusals(&self) -> usize {
        self.counters.stages[Stage::Refusing.counted()] as usize
    }

    /// Accepts waiting clients and tells them that the server is full.
    fn accept_to_refuse(&mut self, number: usize) {
        for _ in 0..REFUSALS_PER_TURN {
            let Some(Listener { socket, tls, protocol }) = self.listeners.get(number) else { return };
            let (tls, protocol) = (tls.clone(), *protocol);
            // Closes a spare descriptor, so that the connection can be accepted with it.
            drop(self.spares.pop());
            let accepted = net::accept_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC);
            let failed = accepted.as_ref().err().copied();
            if let Ok(descriptor) = accepted {
                warn_once(self.capacity);
                self.counters.refused += 1;
                match tls.map(|tls| tls.begin(protocol)) {
                    // In HTTP/2 there is no answer before a request. A client takes the end for a server that has no room.
                    _ if protocol == Protocol::Grpc => drop(descriptor),
                    None if self.refusals() < REFUSALS_MAX => self.hear_to_refuse(descriptor, None),
                    None => self.turn_away(&descriptor),
                    Some(Ok(tls)) if self.refusals() < REFUSALS_MAX => {
                        self.hear_to_refuse(descriptor, Some(Box::new(tls)));
                    }
                    // Without a handshake a client of TLS cannot be told anything.
                    Some(_) => drop(descriptor),
                }
            }
            self.keep_spares();
            match failed {
                None | Some(Errno::CONNABORTED | Errno::INTR) => {}
                Some(Errno::AGAIN) => return,
                // Not even a spare descriptor is free: the next tick tries again.
                Some(_) => return self.pause_accepting(),
            }
        }
    }

    /// Lets a connection in.
    fn welcome(&mut self, descriptor: OwnedFd, acceptor: Option<&TlsAcceptor>, protocol: Protocol) {
        let tls = match acceptor.map(|acceptor| acceptor.begin(protocol)).transpose() {
            Ok(tls) => tls.map(Box::new),
            Err(fault) => return log_limit::warn!(%fault, "a connection cannot begin TLS"),
        };
        // On a socket that is already dead these calls fail, and the next read reports that it is dead.
        let _ = sockopt::set_tcp_nodelay(&descriptor, true);
        let _ = sockopt::set_socket_send_buffer_size(&descriptor, SEND_BUFFER_BYTES);
        self.proxies = self.trusted.load_full();
        let is_due = introductions::is_due(&self.proxies, &descriptor);
        let stage = if is_due { Stage::Introducing } else { Stage::Opening };
        if self.seat(descriptor, tls, stage, protocol).is_some() {
            self.counters.accepted += 1;
        }
    }

    /// Gives one of the few spare places to a client that will be refused after it has sent its request.
    fn hear_to_refuse(&mut self, descriptor: OwnedFd, tls: Option<Box<TlsConnection>>) {
        self.seat(descriptor, tls, Stage::Refusing, Protocol::Http);
        debug_assert!(self.refusals() <= REFUSALS_MAX, "{} clients are kept to be refused", self.refusals());
    }

    /// Answers a client that is to be refused, once its request is complete. Then the client may hang up.
    pub(super) fn refuse_newcomer(&mut self, id: ConnectionId, bytes: &[u8]) {
        let (services, proxies) = (self.services.clone(), self.proxies.clone());
        let Some(socket) = self.socket(id) else { return };
        let request = introductions::request_behind(&proxies, &socket.descriptor, bytes);
        let Some(asked) = request.and_then(full::asked) else {
            socket.unfinished = bytes.to_vec();
            return;
        };
        let answer = asked.answer(|| services.unready());
        socket.send_whole(&answer);
        socket.hang_up();
        self.enter(id, Stage::Refused);
    }

    /// Refuses a client without waiting for its request. If the request has already arrived, the answer depends on it.
    fn turn_away(&self, descriptor: &OwnedFd) {
        let mut heard = [0; UNHEARD_BYTES_MAX];
        let asked = match net::recv(descriptor, &mut heard[..], RecvFlags::DONTWAIT) {
            Ok((_, read)) => {
                let heard = &heard[..read.min(UNHEARD_BYTES_MAX)];
                introductions::request_behind(&self.proxies, descriptor, heard).and_then(full::asked)
            }
            Err(_) => None,
        };
        let answer = asked.map_or_else(full::unasked, |asked| asked.answer(|| self.services.unready()));
        let _ = send(descriptor, &[&answer]);
        let _ = net::shutdown(descriptor, Shutdown::Write);
    }

    /// Refills the spare descriptors, as far as the process has any free.
    pub(super) fn keep_spares(&mut self) {
        while self.spares.len() + self.refusals() < SPARES {
            let Ok(spare) = self.epoll.as_fd().try_clone_to_owned() else { return };
            self.spares.push(spare);
        }
    }

    pub(super) fn pause_accepting(&mut self) {
        if std::mem::take(&mut self.accepting) {
            for listener in &self.listeners {
                let _ = epoll::delete(&self.epoll, &listener.socket);
            }
        }
    }

    pub(super) fn resume_accepting(&mut self) {
        if self.accepting || self.listeners.is_empty() {
            return;
        }
        self.accepting = true;
        for (number, listener) in self.listeners.iter().enumerate() {
            if epoll::add(&self.epoll, &listener.socket, listener_data(number), LISTENER_EVENTS).is_err() {
                // The next tick tries again.
                return self.pause_accepting();
            }
        }
    }
}

/// Warns only once: a full server refuses many clients, and the counters tell how many.
fn warn_once(capacity: usize) {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            fit_on_a_shard = capacity,
            "a shard has as many connections as fit, or the process as many descriptors: more are refused with 503. Raise the \
             limit (ulimit -n, LimitNOFILE= in systemd, --ulimit nofile= for a container). This is said once; \
             stentor_connections_refused counts on"
        );
    });
}
