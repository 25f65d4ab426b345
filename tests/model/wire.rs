//! Connections whose peer is in the hands of the script.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use slabpool::{CloseReason, Connection, Liveness};

use crate::common;

/// How the pool gets to know of what happens to its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probing {
    Off,
    /// It asks, the idle ones every so many milliseconds.
    Ask(u64),
    Watch,
}

#[derive(Debug, Default)]
struct Peer {
    fate: Option<Liveness>,
    reader: Option<Waker>,
}

/// A connection of a script.
#[derive(Debug)]
pub struct Wire {
    pub inner: common::Connection,
    peer: Arc<Mutex<Peer>>,
}

impl Deref for Wire {
    type Target = common::Connection;

    fn deref(&self) -> &common::Connection {
        &self.inner
    }
}

impl Connection for Wire {
    fn liveness(&mut self) -> Liveness {
        self.peer.lock().unwrap().fate.unwrap_or(Liveness::Alive)
    }

    fn poll_liveness(&mut self, cx: &mut Context<'_>) -> Poll<Liveness> {
        let mut peer = self.peer.lock().unwrap();
        match peer.fate {
            Some(fate) => Poll::Ready(fate),
            None => {
                peer.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The peers of all connections, by their numbers.
#[derive(Debug, Default)]
pub struct Wires(BTreeMap<u32, Arc<Mutex<Peer>>>);

impl Wires {
    pub fn connect(&mut self, inner: common::Connection) -> Wire {
        let peer = Arc::<Mutex<Peer>>::default();
        self.0.insert(inner.id, Arc::clone(&peer));
        Wire { inner, peer }
    }

    /// The peer of a connection closes it, or says something, and the driver says so.
    pub fn suffer(&self, id: u32, reason: CloseReason) {
        let reader = {
            let mut peer = self.0[&id].lock().unwrap();
            peer.fate = Some(match reason {
                CloseReason::Dead => Liveness::Closed,
                _ => Liveness::UnexpectedData,
            });
            peer.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
