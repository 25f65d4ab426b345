//! TLS by rustls: how the pool closes a stream, and streams out of the ordinary.

use super::*;

#[tokio::test]
async fn both_modes_say_goodbye() {
    for version in VERSIONS {
        for mode in [CloseMode::Graceful, CloseMode::Abort] {
            let (mut client, mut server) = pair(version).await;
            // What rustls has not sent yet goes first.
            if *version == TLS13 {
                client.get_mut().1.refresh_traffic_keys().unwrap();
            }
            client.prepare_close(mode);
            assert!(!client.get_ref().1.wants_write(), "one attempt sends it all");
            client.prepare_close(mode);
            drop(client);
            // Without a goodbye this is an error.
            assert_eq!(server.read(&mut [0]).await.unwrap(), 0);
        }
    }
}

#[tokio::test]
async fn a_goodbye_to_nobody_does_no_harm() {
    let (mut client, server) = pair(&TLS13).await;
    reset(server.into_inner().0);
    heard(&client).await;
    client.prepare_close(CloseMode::Graceful);
    assert_eq!(client.liveness(), Liveness::Closed);
}

#[tokio::test]
async fn a_goodbye_does_not_wait() {
    let (mut client, mut server) = pair(&TLS13).await;
    // Until the system takes no more.
    let socket = client.get_ref().0;
    while socket.try_write(&[0; 65_536]).is_ok() {}
    client.prepare_close(CloseMode::Graceful);
    assert!(client.get_ref().1.wants_write(), "it could not be sent");
    drop(client);
    server.read(&mut [0]).await.unwrap_err();
}

/// Its handshake goes on when something is written, and is not ours to go on with.
#[tokio::test]
async fn a_stream_that_may_send_early_data_is_left_alone() {
    let (mut client_config, mut server_config) = configs(&TLS13, 2);
    Arc::get_mut(&mut client_config).unwrap().enable_early_data = true;
    Arc::get_mut(&mut server_config).unwrap().max_early_data_size = 1_024;
    let connector = TlsConnector::from(client_config).early_data(true);
    let acceptor = TlsAcceptor::from(server_config);
    // For a ticket.
    let (client, server) = tcp().await;
    let name = ServerName::try_from("localhost").unwrap();
    let (client, server) =
        tokio::join!(connector.connect(name.clone(), client), acceptor.accept(server));
    exchange(&mut client.unwrap(), &mut server.unwrap()).await;

    let (client, _server) = tcp().await;
    let mut client = connector.connect(name, client).await.unwrap();
    assert!(client.get_ref().1.is_handshaking());
    let watcher = Watcher::new();
    assert_eq!(client.liveness(), Liveness::Alive);
    assert_eq!(watcher.poll(&mut client), Poll::Ready(Liveness::Alive));
    assert_eq!((watcher.clones(), watcher.wakes()), (0, 0));
    assert!(client.get_ref().1.is_handshaking());
}

#[tokio::test]
async fn one_clone_is_kept() {
    let (mut client, mut server) = pair(&TLS13).await;
    let (first, second) = (Watcher::new(), Watcher::new());
    assert_eq!(first.poll(&mut client), IDLE);
    assert_eq!(second.poll(&mut client), IDLE);
    assert_eq!((first.clones(), second.clones()), (0, 1));
    // A look takes nobody's place, even when there is something.
    server.get_mut().1.refresh_traffic_keys().unwrap();
    server.flush().await.unwrap();
    second.woken().await;
    assert_eq!(first.poll(&mut client), IDLE);
    assert_eq!(client.liveness(), Liveness::Alive);
    assert_eq!((first.clones(), second.clones()), (1, 0));
    drop(client);
    assert_eq!(first.clones(), 0);
}

#[tokio::test]
async fn either_end_in_one_type() {
    let (client, server) = pair(&TLS13).await;
    let (mut client, mut server) = (TlsStream::from(client), TlsStream::from(server));
    let watcher = Watcher::new();
    assert_eq!(server.liveness(), Liveness::Alive);
    assert_eq!(watcher.poll(&mut server), IDLE);
    client.prepare_close(CloseMode::Graceful);
    watcher.woken().await;
    assert_eq!(watcher.poll(&mut server), CLOSED);
    assert_eq!(server.liveness(), Liveness::Closed);
    assert_eq!(client.liveness(), Liveness::Alive);
    assert_eq!(watcher.poll(&mut client), IDLE);
    server.prepare_close(CloseMode::Graceful);
    watcher.woken().await;
    assert_eq!(watcher.poll(&mut client), CLOSED);
    assert_eq!(client.liveness(), Liveness::Closed);
}
