//! std's sockets, which may be in blocking mode: a look that never waits, and takes
//! nothing.

use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{RecvFlags, recv};

use super::{CloseMode, Connection, Liveness};

impl Connection for TcpStream {
    fn liveness(&mut self) -> Liveness {
        look(self)
    }

    fn prepare_close(&mut self, mode: CloseMode) {
        if mode == CloseMode::Abort {
            // If it cannot be set, the socket is gone already, or is closed politely.
            let _ = set_socket_linger(self, Some(Duration::ZERO));
        }
    }
}

impl Connection for UnixStream {
    fn liveness(&mut self) -> Liveness {
        look(self)
    }
}

fn look(socket: impl AsFd) -> Liveness {
    // The mode of the socket is shared with its duplicates, so it is not touched.
    match recv(socket, &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, 0)) => Liveness::Closed,
        Ok(_) => Liveness::UnexpectedData,
        Err(Errno::WOULDBLOCK | Errno::INTR) => Liveness::Alive,
        Err(_) => Liveness::Closed,
    }
}
