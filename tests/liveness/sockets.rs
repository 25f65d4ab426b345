//! Tokio's sockets, in a runtime with one thread: its driver runs when the test waits, and
//! at no other time.

use std::future::Future;
use std::net::{Shutdown, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slabpool::{CloseMode, Connection, Liveness};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};
use tokio::sync::mpsc;

use crate::watcher::Watcher;

const IDLE: Poll<Liveness> = Poll::Pending;
const CLOSED: Poll<Liveness> = Poll::Ready(Liveness::Closed);
const UNEXPECTED: Poll<Liveness> = Poll::Ready(Liveness::UnexpectedData);

/// A connection, and its peer.
pub async fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

async fn unix() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

/// The same test for both kinds of sockets.
macro_rules! tests {
    ($($(#[$doc:meta])* async fn $name:ident($client:ident, $server:ident) $body:block)*) => {
        mod on_tcp {
            use super::*;
            $(#[tokio::test] async fn $name() {
                #[allow(unused_mut)]
                let (mut $client, mut $server) = tcp().await;
                $body
            })*
        }

        mod on_unix {
            use super::*;
            $(#[tokio::test] async fn $name() {
                #[allow(unused_mut)]
                let (mut $client, mut $server) = unix().await;
                $body
            })*
        }
    };
}

tests! {
    async fn idle(client, server) {
        let watcher = Watcher::new();
        for _ in 0..3 {
            assert_eq!(client.liveness(), Liveness::Alive);
            assert_eq!(watcher.poll(&mut client), IDLE);
            assert_eq!((watcher.clones(), watcher.wakes()), (1, 0));
            tokio::task::yield_now().await;
        }
        // And it is still what it was.
        server.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        assert_eq!(client.liveness(), Liveness::Alive);
    }

    async fn end_of_the_peer(client, server) {
        let watcher = Watcher::new();
        assert_eq!(watcher.poll(&mut client), IDLE);
        drop(server);
        watcher.woken().await;
        assert_eq!(client.liveness(), Liveness::Closed);
        assert_eq!(watcher.poll(&mut client), CLOSED);
        assert_eq!(client.liveness(), Liveness::Closed, "for good");
    }

    async fn half_close(client, server) {
        let watcher = Watcher::new();
        assert_eq!(watcher.poll(&mut client), IDLE);
        server.shutdown().await.unwrap();
        watcher.woken().await;
        assert_eq!(client.liveness(), Liveness::Closed);
        assert_eq!(watcher.poll(&mut client), CLOSED);
    }

    async fn data(client, server) {
        let watcher = Watcher::new();
        assert_eq!(watcher.poll(&mut client), IDLE);
        server.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        watcher.woken().await;
        assert_eq!(watcher.poll(&mut client), UNEXPECTED);
        assert_eq!(client.liveness(), Liveness::UnexpectedData);
    }

    async fn data_then_end(client, server) {
        server.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        drop(server);
        client.ready(Interest::READABLE).await.unwrap();
        assert_eq!(client.liveness(), Liveness::UnexpectedData);
        assert_eq!(Watcher::new().poll(&mut client), UNEXPECTED);
    }

    async fn one_byte_then_end(client, server) {
        server.write_all(b"!").await.unwrap();
        drop(server);
        client.ready(Interest::READABLE).await.unwrap();
        assert_eq!(client.liveness(), Liveness::UnexpectedData);
        // The byte is gone, the end stays.
        assert_eq!(client.liveness(), Liveness::Closed);
        assert_eq!(Watcher::new().poll(&mut client), CLOSED);
    }

    async fn one_clone_is_kept(client, _server) {
        let (first, second) = (Watcher::new(), Watcher::new());
        for _ in 0..5 {
            assert_eq!(first.poll(&mut client), IDLE);
            assert_eq!(first.clones(), 1);
        }
        assert_eq!(second.poll(&mut client), IDLE);
        assert_eq!((first.clones(), second.clones()), (0, 1));
        drop(client);
        assert_eq!((first.clones(), second.clones()), (0, 0));
    }

    async fn a_read_displaces_the_clone(client, server) {
        let watcher = Watcher::new();
        assert_eq!(watcher.poll(&mut client), IDLE);
        {
            let mut buffer = [0; 2];
            let mut read = pin!(client.read(&mut buffer));
            assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            assert_eq!(watcher.clones(), 0);
            server.write_all(b"ok").await.unwrap();
            assert_eq!(read.await.unwrap(), 2);
        }
        assert_eq!((watcher.clones(), watcher.wakes()), (0, 0));
        assert_eq!(watcher.poll(&mut client), IDLE);
        assert_eq!(watcher.clones(), 1);
    }

    async fn a_read_that_need_not_wait_leaves_the_clone(client, server) {
        let watcher = Watcher::new();
        assert_eq!(watcher.poll(&mut client), IDLE);
        server.write_all(b"ok").await.unwrap();
        watcher.woken().await;
        assert_eq!(watcher.clones(), 0);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 2);
        assert_eq!(watcher.poll(&mut client), IDLE);
        assert_eq!((watcher.clones(), watcher.wakes()), (1, 1));
    }

    async fn a_wake_up_takes_the_clone(client, server) {
        let watcher = Watcher::new();
        assert_eq!(watcher.poll(&mut client), IDLE);
        drop(server);
        watcher.woken().await;
        assert_eq!((watcher.clones(), watcher.wakes()), (0, 1));
    }

    async fn a_look_leaves_the_clone(client, _server) {
        let watcher = Watcher::new();
        assert_eq!(watcher.poll(&mut client), IDLE);
        assert_eq!(client.liveness(), Liveness::Alive);
        assert_eq!((watcher.clones(), watcher.wakes()), (1, 0));
    }

    async fn a_flag_that_is_out_of_date(client, server) {
        let watcher = Watcher::new();
        for look_first in [true, false] {
            server.write_all(b"!").await.unwrap();
            client.readable().await.unwrap();
            // This takes what there is, and not the flag.
            assert_eq!(client.try_read(&mut [0]).unwrap(), 1);
            assert!(flagged(&client));
            if look_first {
                assert_eq!(client.liveness(), Liveness::Alive);
            } else {
                assert_eq!(watcher.poll(&mut client), IDLE);
                assert_eq!((watcher.clones(), watcher.wakes()), (1, 0));
            }
            assert!(!flagged(&client), "the next look need not ask the system");
        }
    }

    async fn a_turn_that_is_used_up(client, server) {
        let watcher = Watcher::new();
        use_up_the_turn();
        assert_eq!(client.liveness(), Liveness::Alive);
        assert_eq!(watcher.poll(&mut client), IDLE);
        assert_eq!((watcher.clones(), watcher.wakes()), (1, 0), "registered, not put off");
        drop(server);
        watcher.woken().await;
        use_up_the_turn();
        assert_eq!(watcher.poll(&mut client), CLOSED);
        assert_eq!(client.liveness(), Liveness::Closed);
    }

    /// Known limits: what the driver has not heard is not known; and the system is not
    /// asked.
    async fn what_the_driver_has_not_heard(client, server) {
        assert_eq!(Watcher::new().poll(&mut client), IDLE);
        server.writable().await.unwrap();
        assert_eq!(server.try_write(b"!").unwrap(), 1);
        // No turn for the driver since.
        assert!(has_bytes(&client));
        assert_eq!(client.liveness(), Liveness::Alive);
        client.readable().await.unwrap();
        assert_eq!(client.liveness(), Liveness::UnexpectedData);
    }

    async fn graceful(client, server) {
        client.prepare_close(CloseMode::Graceful);
        drop(client);
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_reset_is_an_end() {
    let (mut client, server) = tcp().await;
    let watcher = Watcher::new();
    assert_eq!(watcher.poll(&mut client), IDLE);
    reset(server);
    watcher.woken().await;
    assert_eq!(watcher.poll(&mut client), CLOSED);
    assert_eq!(client.liveness(), Liveness::Closed);
}

#[tokio::test]
async fn data_and_a_reset_are_no_life() {
    let (mut client, mut server) = tcp().await;
    server.write_all(b"late").await.unwrap();
    reset(server);
    client.readable().await.unwrap();
    // Whether the system keeps the data is its own affair.
    assert_ne!(client.liveness(), Liveness::Alive);
    assert_ne!(client.liveness(), Liveness::Alive);
}

#[tokio::test]
async fn an_aborted_tcp_connection_is_reset() {
    for ended_by_peer in [false, true] {
        let (mut client, mut server) = tcp().await;
        if ended_by_peer {
            server.shutdown().await.unwrap();
            client.readable().await.unwrap();
            assert_eq!(client.liveness(), Liveness::Closed);
        }
        client.prepare_close(CloseMode::Abort);
        drop(client);
        let error = server.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }
}

#[tokio::test]
async fn an_aborted_unix_connection_ends() {
    let (mut client, mut server) = unix().await;
    client.prepare_close(CloseMode::Abort);
    drop(client);
    assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
}

/// Its flag says that it is closed, for ever, and the system that it has no peer.
#[tokio::test]
async fn a_socket_that_was_never_connected_is_closed() {
    let socket = TcpSocket::new_v4().unwrap().as_fd().try_clone_to_owned().unwrap();
    let mut client = TcpStream::from_std(socket.into()).unwrap();
    client.readable().await.unwrap();
    assert_eq!(client.liveness(), Liveness::Closed);
    assert_eq!(Watcher::new().poll(&mut client), CLOSED);
}

/// What Linux makes of it: a datagram socket whose reading side was shut down is readable
/// for ever, and has nothing.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_socket_that_is_always_ready_is_not_looked_at_for_ever() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(socket.local_addr().unwrap()).unwrap();
    socket.set_nonblocking(true).unwrap();
    let odd = std::net::TcpStream::from(OwnedFd::from(socket));
    odd.shutdown(Shutdown::Read).unwrap();
    let mut odd = TcpStream::from_std(odd).unwrap();
    odd.readable().await.unwrap();
    assert_eq!(odd.liveness(), Liveness::Alive);
    assert!(flagged(&odd), "the look has found nothing, and the flag stays");
    let watcher = Watcher::new();
    assert_eq!(watcher.poll(&mut odd), Poll::Ready(Liveness::Alive));
    assert_eq!(watcher.wakes(), 0);
}

/// Ends a connection as a peer does that crashes.
pub fn reset(server: TcpStream) {
    #[allow(deprecated, reason = "the method for zero alone is younger than the oldest tokio")]
    server.set_linger(Some(Duration::ZERO)).unwrap();
}

/// Whether the runtime says that the socket may be read from.
fn flagged(socket: &impl TryIo) -> bool {
    socket.flagged()
}

trait TryIo {
    fn flagged(&self) -> bool;
}

impl TryIo for TcpStream {
    fn flagged(&self) -> bool {
        self.try_io(Interest::READABLE, || Ok(())).is_ok()
    }
}

impl TryIo for UnixStream {
    fn flagged(&self) -> bool {
        self.try_io(Interest::READABLE, || Ok(())).is_ok()
    }
}

/// Whether the system has something for the socket, whatever the runtime says.
fn has_bytes(socket: &impl AsFd) -> bool {
    // A duplicate, which shares the mode: this does not block.
    let duplicate = socket.as_fd().try_clone_to_owned().unwrap();
    std::net::TcpStream::from(duplicate).peek(&mut [0]).is_ok()
}

/// Does things until the runtime says that the task has had its turn.
fn use_up_the_turn() {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        sender.send(()).unwrap();
        if receiver.poll_recv(&mut cx).is_pending() {
            return;
        }
    }
}
