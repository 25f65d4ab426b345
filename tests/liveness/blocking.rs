//! std's sockets, in blocking mode: a look must not wait.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::task::{Context, Poll, Waker};

use slabpool::{CloseMode, Connection, Liveness};

fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

fn unix() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn poll(connection: &mut impl Connection) -> Poll<Liveness> {
    connection.poll_liveness(&mut Context::from_waker(Waker::noop()))
}

/// Whether the socket is in non-blocking mode.
fn nonblocking(socket: &impl AsRawFd) -> bool {
    // SAFETY: the descriptor is open for as long as it is borrowed, and reading its flags
    // touches no memory.
    let flags = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_GETFL) };
    assert_ne!(flags, -1);
    flags & libc::O_NONBLOCK != 0
}

/// Waits for the system to have something for the socket, or an end.
fn wait_for(socket: &impl AsRawFd) {
    let mut entry = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which lives through the call.
    assert_eq!(unsafe { libc::poll(&mut entry, 1, -1) }, 1);
}

/// The same test for both kinds of sockets.
macro_rules! tests {
    ($(fn $name:ident($client:ident, $server:ident) $body:block)*) => {
        mod on_tcp {
            use super::*;
            $(#[test] fn $name() {
                #[allow(unused_mut)]
                let (mut $client, mut $server) = tcp();
                $body
            })*
        }

        mod on_unix {
            use super::*;
            $(#[test] fn $name() {
                #[allow(unused_mut)]
                let (mut $client, mut $server) = unix();
                $body
            })*
        }
    };
}

tests! {
    fn idle(client, server) {
        // Would block for ever, if it could block.
        assert_eq!(client.liveness(), Liveness::Alive);
        assert_eq!(poll(&mut client), Poll::Ready(Liveness::Alive));
        server.write_all(b"answer").unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"answer");
        assert_eq!(client.liveness(), Liveness::Alive);
    }

    fn the_mode_stays(client, _server) {
        for mode in [false, true] {
            client.set_nonblocking(mode).unwrap();
            assert_eq!(client.liveness(), Liveness::Alive);
            assert_eq!(nonblocking(&client), mode);
        }
    }

    fn end_of_the_peer(client, server) {
        drop(server);
        wait_for(&client);
        assert_eq!(client.liveness(), Liveness::Closed);
        assert_eq!(poll(&mut client), Poll::Ready(Liveness::Closed));
    }

    fn half_close(client, server) {
        server.shutdown(Shutdown::Write).unwrap();
        wait_for(&client);
        assert_eq!(client.liveness(), Liveness::Closed);
    }

    fn data_stay_where_they_are(client, server) {
        server.write_all(b"unasked").unwrap();
        wait_for(&client);
        for _ in 0..2 {
            assert_eq!(client.liveness(), Liveness::UnexpectedData);
            assert_eq!(poll(&mut client), Poll::Ready(Liveness::UnexpectedData));
        }
        drop(server);
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"unasked");
        assert_eq!(client.liveness(), Liveness::Closed);
    }

    fn graceful(client, server) {
        client.prepare_close(CloseMode::Graceful);
        drop(client);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
    }
}

#[test]
fn a_reset_is_an_end() {
    let (mut client, mut server) = tcp();
    server.prepare_close(CloseMode::Abort);
    drop(server);
    wait_for(&client);
    assert_eq!(client.liveness(), Liveness::Closed);
    assert_eq!(client.liveness(), Liveness::Closed, "for good");
}

#[test]
fn an_aborted_tcp_connection_is_reset() {
    let (mut client, mut server) = tcp();
    client.prepare_close(CloseMode::Abort);
    drop(client);
    assert_eq!(server.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn an_aborted_unix_connection_ends() {
    let (mut client, mut server) = unix();
    client.prepare_close(CloseMode::Abort);
    drop(client);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

#[test]
fn what_is_not_connected_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut odd = TcpStream::from(OwnedFd::from(listener));
    assert_eq!(odd.liveness(), Liveness::Closed);
    odd.prepare_close(CloseMode::Abort);
}
