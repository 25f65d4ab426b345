//! One connection of several dies, and no other goes.

use std::time::Duration;

use slabpool::{CloseReason, GroupStats, Miss, Pool};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::world::{self, Journal, Marker};

/// What the peer does.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Fin,
    Rst,
    HalfClose,
    Data,
    DataThenFin,
}

impl Fault {
    const ALL: [Self; 5] = [Self::Fin, Self::Rst, Self::HalfClose, Self::Data, Self::DataThenFin];

    /// Does it. What is returned keeps the peer's end open, if it is.
    async fn happen(self, mut peer: TcpStream) -> Option<TcpStream> {
        match self {
            Self::Fin => None,
            Self::Rst => {
                set_linger(&peer, Some(Duration::ZERO));
                None
            }
            Self::HalfClose => {
                peer.shutdown().await.unwrap();
                Some(peer)
            }
            Self::Data => {
                peer.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
                Some(peer)
            }
            Self::DataThenFin => {
                peer.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
                None
            }
        }
    }

    fn reason(self) -> CloseReason {
        match self {
            Self::Fin | Self::Rst | Self::HalfClose => CloseReason::Dead,
            Self::Data | Self::DataThenFin => CloseReason::UnexpectedData,
        }
    }
}

pub fn set_linger(socket: &TcpStream, linger: Option<Duration>) {
    rustix::net::sockopt::set_socket_linger(socket, linger).unwrap();
}

/// Three idle connections; the fault happens to the one in the middle.
struct Scene {
    pool: Pool<u8, TcpStream>,
    journal: Journal,
    marker: Marker,
    locals: Vec<std::net::SocketAddr>,
    peers: Vec<TcpStream>,
}

impl Scene {
    async fn new() -> Self {
        let (pool, journal) = Journal::pool(|builder| builder);
        let (mut locals, mut peers) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let (client, peer) = world::tcp().await;
            locals.push(client.local_addr().unwrap());
            peers.push(peer);
            pool.put(&1, client).unwrap();
        }
        Self { pool, journal, marker: Marker::new().await, locals, peers }
    }

    async fn suffer(&mut self, fault: Fault, which: usize) -> Option<TcpStream> {
        let rest = fault.happen(self.peers.remove(which)).await;
        self.marker.settle().await;
        rest
    }
}

#[test]
fn the_reaper_closes_the_one_that_has_died() {
    for fault in Fault::ALL {
        world::run(|| async {
            let mut scene = Scene::new().await;
            let _rest = scene.suffer(fault, 1).await;
            assert_eq!(scene.pool.maintain(), 1, "{fault:?}");
            assert_eq!(scene.journal.rest(), [fault.reason()], "{fault:?}");
            assert_eq!(scene.pool.maintain(), 0);
            world::assert_no_close_wait(&scene.locals);
            assert_eq!(scene.pool.stats().closes[fault.reason()], 1);
            assert_eq!(scene.pool.stats().closes.total(), 1);
            let counted = scene.pool.group_stats(&1);
            let expected = match fault.reason() {
                CloseReason::Dead => (1, 0),
                _ => (0, 1),
            };
            assert_eq!((counted.closed_by_peer, counted.unexpected_data), expected);
            assert_eq!(scene.pool.group_stats(&2), GroupStats::default(), "another group");
            for local in [2, 0] {
                let lease = scene.pool.get(&1).unwrap();
                assert_eq!(lease.local_addr().unwrap(), scene.locals[local], "the others stay");
                drop(lease);
            }
        });
    }
}

#[test]
fn a_get_passes_over_the_one_that_has_died() {
    for fault in Fault::ALL {
        world::run(|| async {
            let mut scene = Scene::new().await;
            let _rest = scene.suffer(fault, 2).await;
            let lease = scene.pool.get(&1).unwrap();
            assert_eq!(lease.local_addr().unwrap(), scene.locals[1], "{fault:?}");
            assert_eq!(scene.journal.rest(), [fault.reason()]);
            lease.release();
            world::assert_no_close_wait(&scene.locals);
            assert_eq!(scene.pool.maintain(), 0);
            assert_eq!(scene.pool.status().idle, 2);
        });
    }
}

#[test]
fn one_that_dies_in_use_is_not_taken_back() {
    for fault in Fault::ALL {
        world::run(|| async {
            let mut scene = Scene::new().await;
            let lease = scene.pool.get_owned(&1).unwrap();
            let _rest = scene.suffer(fault, 2).await;
            assert_eq!(scene.pool.maintain(), 0, "it is in use");
            lease.release();
            assert_eq!(scene.journal.rest(), [fault.reason()], "{fault:?}");
            world::assert_no_close_wait(&scene.locals);
            assert_eq!(scene.pool.status().idle, 2);
        });
    }
}

#[test]
fn one_that_dies_after_many_exchanges_is_found() {
    for fault in Fault::ALL {
        world::run(|| async {
            use tokio::io::AsyncReadExt;

            let mut scene = Scene::new().await;
            for round in 0..50_u8 {
                let mut lease = scene.pool.get_owned(&1).unwrap();
                lease.write_all(&[round]).await.unwrap();
                let peer = &mut scene.peers[2];
                // The answer comes before anybody waits for it, and after, in turn.
                if round % 2 == 0 {
                    assert_eq!(peer.read_u8().await.unwrap(), round);
                    peer.write_all(&[round]).await.unwrap();
                    scene.marker.settle().await;
                    assert_eq!(scene.pool.maintain(), 0);
                    assert_eq!(lease.read_u8().await.unwrap(), round);
                } else {
                    let echo = async {
                        let sent = peer.read_u8().await.unwrap();
                        peer.write_all(&[sent]).await.unwrap();
                    };
                    let (answer, ()) = tokio::join!(lease.read_u8(), echo);
                    assert_eq!(answer.unwrap(), round);
                }
                lease.release();
                assert_eq!(scene.pool.maintain(), 0);
            }
            let _rest = scene.suffer(fault, 2).await;
            assert_eq!(scene.pool.maintain(), 1, "{fault:?}");
            assert_eq!(scene.journal.rest(), [fault.reason()]);
            world::assert_no_close_wait(&scene.locals);
        });
    }
}

#[test]
fn the_reaper_task_comes_by_itself() {
    for fault in Fault::ALL {
        world::run(|| async {
            let mut scene = Scene::new().await;
            let reaper = tokio::spawn(scene.pool.reaper());
            // It has begun, and waits.
            scene.marker.settle().await;
            let _rest = fault.happen(scene.peers.remove(0)).await;
            assert_eq!(scene.journal.next().await, fault.reason(), "{fault:?}");
            assert_eq!(scene.pool.status().idle, 2);
            drop(scene);
            world::patiently(reaper).await.unwrap();
        });
    }
}

#[test]
fn a_get_that_finds_all_dead_misses_for_that() {
    for fault in Fault::ALL {
        world::run(|| async {
            let mut scene = Scene::new().await;
            let group = scene.pool.group(&1);
            let mut rest = Vec::new();
            for _ in 0..3 {
                rest.push(scene.suffer(fault, 0).await);
            }
            assert!(group.get().is_none(), "{fault:?}");
            assert_eq!(scene.journal.rest(), [fault.reason(); 3]);
            world::assert_no_close_wait(&scene.locals);
            let (stats, counted) = (scene.pool.stats(), group.stats());
            assert_eq!((stats.misses[Miss::Dead], stats.misses.total(), stats.hits), (1, 1, 0));
            assert_eq!(counted.closed_by_peer + counted.unexpected_data, 3);
            // The bells that have rung are for nobody.
            assert_eq!(scene.pool.maintain(), 0);
            assert_eq!(scene.pool.stats().closes.total(), 3);
        });
    }
}
