//! TLS by rustls over tokio's sockets: what has come is decrypted, to see what it is.
//!
//! An idle connection may receive session tickets and key updates. So bytes on the
//! socket say nothing; what rustls makes of them does. It is asked here directly, past
//! tokio-rustls' `poll_read`, which would take the place of a waker that is registered,
//! and read for as long as the peer sends.

use std::io::{self, Read, Write};
use std::task::{Context, Poll};

use tokio_rustls::rustls::{ConnectionCommon, SideData};
use tokio_rustls::{TlsStream, client, server};

use super::net::{self, Socket};
use super::{CloseMode, Connection, Liveness};

/// How often a look reads from the socket, for a peer that sends and sends. Tickets come
/// in one read.
const READS_MAX: usize = 4;

macro_rules! tls {
    ($stream:ty) => {
        impl<S: Socket> Connection for $stream {
            fn liveness(&mut self) -> Liveness {
                let (socket, session) = self.get_mut();
                look(socket, session)
            }

            fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
                let (socket, session) = self.get_mut();
                watch(socket, session, cx)
            }

            fn prepare_close(&mut self, _: CloseMode) {
                let (socket, session) = self.get_mut();
                say_goodbye(socket, session);
            }
        }
    };
}

tls!(client::TlsStream<S>);
tls!(server::TlsStream<S>);

impl<S: Socket> Connection for TlsStream<S> {
    fn liveness(&mut self) -> Liveness {
        match self {
            Self::Client(stream) => stream.liveness(),
            Self::Server(stream) => stream.liveness(),
        }
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        match self {
            Self::Client(stream) => stream.poll_liveness(cx),
            Self::Server(stream) => stream.poll_liveness(cx),
        }
    }

    fn prepare_close(&mut self, mode: CloseMode) {
        match self {
            Self::Client(stream) => stream.prepare_close(mode),
            Self::Server(stream) => stream.prepare_close(mode),
        }
    }
}

fn look<S: Socket, D: SideData>(socket: &S, session: &mut ConnectionCommon<D>) -> Liveness {
    // Early data is to be sent first: the handshake belongs to the stream's user.
    if session.is_handshaking() {
        return Liveness::Alive;
    }
    // The common case. `wants_read` says that there is no plaintext and no goodbye; and
    // rustls would allocate before it finds that the socket has nothing.
    if session.wants_read() && !socket.flagged() {
        return Liveness::Alive;
    }
    let mut verdict = judge(session);
    for _ in 0..READS_MAX {
        if verdict != Liveness::Alive {
            break;
        }
        verdict = match session.read_tls(&mut Io(socket)) {
            Ok(0) => Liveness::Closed,
            Ok(_) => judge(session),
            Err(error) if net::is_nothing(&error) => break,
            Err(_) => Liveness::Closed,
        };
    }
    verdict
}

/// What the session makes of all that was read.
fn judge<D: SideData>(session: &mut ConnectionCommon<D>) -> Liveness {
    match session.process_new_packets() {
        Ok(state) if state.plaintext_bytes_to_read() > 0 => Liveness::UnexpectedData,
        Ok(state) if state.peer_has_closed() => Liveness::Closed,
        Ok(_) => Liveness::Alive,
        Err(_) => Liveness::Closed,
    }
}

fn watch<S: Socket, D: SideData>(
    socket: &S,
    session: &mut ConnectionCommon<D>,
    cx: &mut Context<'_>,
) -> Poll<Liveness> {
    // First what came before the release: of that the socket knows nothing.
    match look(socket, session) {
        Liveness::Alive if session.is_handshaking() => Poll::Ready(Liveness::Alive),
        Liveness::Alive => net::watch(socket, cx, || look(socket, session)),
        of_no_use => Poll::Ready(of_no_use),
    }
}

/// Says `close_notify`, after what rustls still wants to say. Does not wait: what cannot
/// be sent now never will be.
fn say_goodbye<S: Socket, D: SideData>(socket: &S, session: &mut ConnectionCommon<D>) {
    session.send_close_notify();
    while session.wants_write() {
        match session.write_tls(&mut Io(socket)) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

/// A socket as rustls wants it.
struct Io<'a, S>(&'a S);

impl<S: Socket> Read for Io<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl<S: Socket> Write for Io<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
