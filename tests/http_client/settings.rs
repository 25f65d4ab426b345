//! A server of HTTP/2 that says, now and then, how many streams it allows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::origin::eventually;
use crate::support::{Asks, Raw, end, fetch, in_time, patient, until};

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const ACK: u8 = 1;
/// `END_STREAM` and `END_HEADERS`.
const WHOLE: u8 = 5;
const MAX_CONCURRENT_STREAMS: u8 = 3;
const PREFACE: usize = 24;

/// What the server is told to do.
#[derive(Default)]
struct Orders {
    /// How many streams it allows. Said at the beginning, and when it is told to.
    streams: AtomicU32,
    say: Notify,
    /// How often the client said that it has heard.
    heard: AtomicU32,
    answer: Notify,
}

impl Orders {
    fn allow(&self, streams: u32) {
        self.streams.store(streams, Ordering::SeqCst);
        self.say.notify_one();
    }
}

async fn write(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let mut frame = vec![0, 0, payload.len() as u8, kind, flags];
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    // Who does not listen any more says so by other means.
    _ = stream.write_all(&frame).await;
}

async fn write_settings(stream: &mut TcpStream, orders: &Orders) {
    let mut payload = vec![0, MAX_CONCURRENT_STREAMS];
    payload.extend(orders.streams.load(Ordering::SeqCst).to_be_bytes());
    write(stream, SETTINGS, 0, 0, &payload).await;
}

/// A frame, once it is whole: its kind, its flags, its stream.
fn next_frame(bytes: &mut Vec<u8>) -> Option<(u8, u8, u32, Vec<u8>)> {
    let head: [u8; 9] = bytes.get(..9)?.try_into().unwrap();
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
    let payload = bytes.get(9..9 + length)?.to_vec();
    bytes.drain(..9 + length);
    let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
    Some((head[3], head[4], id, payload))
}

/// Answers what is asked when it is told to, all at once; the very first request at once.
async fn serve(mut stream: TcpStream, count: impl Fn(), orders: Arc<Orders>) {
    if stream.read_exact(&mut [0; PREFACE]).await.is_err() {
        return;
    }
    write_settings(&mut stream, &orders).await;
    let (mut bytes, mut asked, mut first) = (Vec::new(), Vec::new(), true);
    loop {
        tokio::select! {
            read = stream.read_buf(&mut bytes) => if !matches!(read, Ok(1..)) { return },
            () = orders.say.notified() => write_settings(&mut stream, &orders).await,
            () = orders.answer.notified() => {
                for id in asked.drain(..) {
                    // `:status: 200`, by its number in the table.
                    write(&mut stream, HEADERS, WHOLE, id, &[0x88]).await;
                }
            }
        }
        while let Some((kind, flags, id, payload)) = next_frame(&mut bytes) {
            match kind {
                SETTINGS if flags & ACK == 0 => write(&mut stream, SETTINGS, ACK, 0, &[]).await,
                SETTINGS => drop(orders.heard.fetch_add(1, Ordering::SeqCst)),
                PING if flags & ACK == 0 => write(&mut stream, PING, ACK, 0, &payload).await,
                HEADERS => {
                    count();
                    asked.push(id);
                    if std::mem::take(&mut first) {
                        orders.answer.notify_one();
                    }
                }
                _ => {}
            }
        }
    }
}

/// A server that has said that it allows so many, and a client that may have one connection.
async fn both(streams: u32) -> (Raw, Arc<Orders>, Asks) {
    let orders = Arc::new(Orders::default());
    orders.streams.store(streams, Ordering::SeqCst);
    let told = Arc::clone(&orders);
    let raw = Raw::start(move |wire| {
        let count = wire.counter();
        serve(wire.stream, count, Arc::clone(&told))
    })
    .await;
    let client = patient().http2_only().pool(|pool| pool.max_connections_per_group(1));
    let client = client.build().unwrap();
    fetch(&client, &raw.uri()).await.unwrap();
    until(&client, 1, 0).await;
    (raw, orders, client)
}

fn spawn(client: &Asks, raw: &Raw) -> tokio::task::JoinHandle<bool> {
    let (client, uri) = (client.clone(), raw.uri());
    tokio::spawn(async move { fetch(&client, &uri).await.is_ok() })
}

/// Nothing else happens that could tell them.
#[tokio::test]
async fn who_waits_hears_that_there_may_be_more() {
    let (raw, orders, client) = both(2).await;
    let mut tasks: Vec<_> = (0..5).map(|_| spawn(&client, &raw)).collect();
    eventually(|| client.pool().status().waiting == 3 && raw.requests() == 3).await;
    orders.allow(4);
    eventually(|| client.pool().status().waiting == 1 && raw.requests() == 5).await;
    // Fewer: what is under way goes on.
    orders.allow(2);
    eventually(|| orders.heard.load(Ordering::SeqCst) == 3).await;
    assert_eq!((client.pool().status().waiting, client.pool().status().streams), (1, 4));
    orders.answer.notify_one();
    eventually(|| raw.requests() == 6).await;
    assert_eq!(client.pool().status().waiting, 0);
    orders.answer.notify_one();
    for task in tasks.drain(..) {
        assert!(in_time(task).await.unwrap());
    }
    assert_eq!(raw.accepted(), 1);
    end(&client).await;
}

/// None at all for a while: they wait, and nobody connects in its place.
#[tokio::test]
async fn none_for_a_while() {
    let (raw, orders, client) = both(2).await;
    let mut tasks = vec![spawn(&client, &raw)];
    eventually(|| raw.requests() == 2).await;
    orders.allow(0);
    // All is on one thread: when the server reads this, the client knows.
    eventually(|| orders.heard.load(Ordering::SeqCst) == 2).await;
    tasks.extend((0..3).map(|_| spawn(&client, &raw)));
    eventually(|| client.pool().status().waiting == 3).await;
    orders.answer.notify_one();
    assert!(in_time(tasks.remove(0)).await.unwrap());
    assert_eq!((client.pool().status().waiting, raw.requests()), (3, 2));
    orders.allow(100);
    eventually(|| client.pool().status().waiting == 0 && raw.requests() == 5).await;
    orders.answer.notify_one();
    for task in tasks {
        assert!(in_time(task).await.unwrap());
    }
    assert_eq!(raw.accepted(), 1);
    end(&client).await;
}
