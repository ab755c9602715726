//! Ports for programs that cannot be told to let the kernel choose one.

use std::net::{IpAddr, TcpListener, UdpSocket};

/// The range in which ports are searched. It is below the kernel's range for connections, whose ports come and go while
/// a program starts.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A TCP port that no other test takes. The program binds it some time after its start, and may end and start again. So
/// until this is dropped, the datagram port of the same number tells other tests that the port is taken.
pub(super) struct ReservedPort {
    number: u16,
    _taken: UdpSocket,
}

impl ReservedPort {
    /// A port that is free at all these addresses.
    pub fn at(addresses: &[IpAddr]) -> Self {
        let reserve = |number| {
            let taken = UdpSocket::bind((addresses[0], number)).ok()?;
            let free = addresses.iter().all(|&address| TcpListener::bind((address, number)).is_ok());
            free.then_some(Self { number, _taken: taken })
        };
        PORTS.into_iter().find_map(reserve).expect("a free port")
    }

    /// The port, the same at all addresses.
    pub fn number(&self) -> u16 {
        self.number
    }
}
