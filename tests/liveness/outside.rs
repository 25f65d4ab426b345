//! Tokio's sockets where no runtime is entered, and where it has gone.

use std::task::Poll;

use slabpool::{Connection, Liveness};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use crate::sockets::tcp;
use crate::watcher::Watcher;

/// A runtime whose driver runs, and a connection of it.
fn elsewhere() -> (Runtime, TcpStream, TcpStream) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (client, server) = runtime.block_on(tcp());
    (runtime, client, server)
}

#[test]
fn a_thread_without_a_runtime_can_look_and_watch() {
    let (_runtime, mut client, server) = elsewhere();
    let watcher = Watcher::new();
    assert_eq!(client.liveness(), Liveness::Alive);
    assert_eq!(watcher.poll(&mut client), Poll::Pending);
    assert_eq!(watcher.clones(), 1);
    drop(server);
    watcher.wait();
    assert_eq!((watcher.clones(), watcher.wakes()), (0, 1));
    assert_eq!(watcher.poll(&mut client), Poll::Ready(Liveness::Closed));
    assert_eq!(client.liveness(), Liveness::Closed);
}

#[test]
fn a_thread_of_another_runtime_can_look_and_watch() {
    let (_runtime, mut client, server) = elsewhere();
    let other = Builder::new_current_thread().build().unwrap();
    other.block_on(async {
        let watcher = Watcher::new();
        assert_eq!(watcher.poll(&mut client), Poll::Pending);
        assert_eq!(watcher.clones(), 1);
        drop(server);
        watcher.woken().await;
        assert_eq!(watcher.poll(&mut client), Poll::Ready(Liveness::Closed));
    });
}

#[test]
fn a_connection_ends_with_its_runtime() {
    let (runtime, mut client, _server) = elsewhere();
    let watcher = Watcher::new();
    assert_eq!(watcher.poll(&mut client), Poll::Pending);
    drop(runtime);
    // Those who watch hear of it.
    watcher.wait();
    assert_eq!((watcher.clones(), watcher.wakes()), (0, 1));
    assert_eq!(watcher.poll(&mut client), Poll::Ready(Liveness::Closed));
    assert_eq!(watcher.clones(), 0);
    // A look keeps to what the driver knew.
    assert_eq!(client.liveness(), Liveness::Alive);
}

#[test]
fn what_was_known_outlives_the_runtime() {
    let (runtime, mut client, server) = elsewhere();
    drop(server);
    runtime.block_on(client.readable()).unwrap();
    drop(runtime);
    assert_eq!(client.liveness(), Liveness::Closed);
    assert_eq!(Watcher::new().poll(&mut client), Poll::Ready(Liveness::Closed));
}
