//! The HTTP client against a server that sends whatever it likes, whenever it likes: over
//! loopback, on one thread, and by a clock that moves when nothing else does.
//!
//! Nothing panics, and everything ends. Who gets an answer of HTTP/1 gets what was sent for
//! it, and a connection with more in it than its answer is not used again. At the end no lease, no
//! stream, no connect, no socket and no task is left, and the pool's account is exact.

mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arbitrary::Arbitrary;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use slabpool::http::{Body, Client};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{sleep, timeout};

use server::{Act, Book};

#[derive(Arbitrary, Debug)]
pub struct Input {
    http2: bool,
    asks: Vec<Ask>,
    /// What the server does on its first connection, its second, and so on, over and over.
    connections: Vec<Vec<Act>>,
}

const ASKS_MAX: usize = 12;
const ACTS_MAX: usize = 24;

#[derive(Arbitrary, Clone, Debug)]
struct Ask {
    how: How,
    /// It may not be sent twice.
    post: bool,
    /// Milliseconds before it.
    pause: u8,
    /// The next one does not wait for its end.
    apart: bool,
}

#[derive(Arbitrary, Clone, Debug)]
enum How {
    ReadAll,
    /// So many frames of the body, and drops it.
    Read(u8),
    /// Goes away after so many milliseconds.
    Leave(u8),
}

/// What somebody has got: the number in its head, and all of its body.
struct Answer {
    ask: u32,
    whose: Option<u32>,
    body: Bytes,
}

type Asks = Client<Full<Bytes>>;

const PATIENCE: Duration = Duration::from_secs(5);

pub fn run(input: Input) {
    let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let whole = Duration::from_secs(3_600);
    runtime.block_on(async { timeout(whole, play(input)).await.expect("everything ends") });
}

async fn play(mut input: Input) {
    input.asks.truncate(ASKS_MAX);
    input.connections.iter_mut().for_each(|acts| acts.truncate(ACTS_MAX));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}/", listener.local_addr().unwrap());
    let book = Arc::new(Book::default());
    let acceptor =
        tokio::spawn(server::serve(listener, input.connections, input.http2, Arc::clone(&book)));
    let client = client(input.http2);

    let (mut apart, mut answers) = (JoinSet::new(), Vec::new());
    for (number, ask) in (0_u32..).zip(input.asks) {
        sleep(Duration::from_millis(ask.pause.into())).await;
        let asked = one(client.clone(), target.clone(), number, ask.clone());
        if ask.apart {
            apart.spawn(asked);
        } else {
            answers.extend(asked.await);
        }
    }
    while let Some(answer) = apart.join_next().await {
        answers.extend(answer.unwrap());
    }
    at_rest(&client, &book, input.http2).await;
    drop(client);
    eventually("a socket is left", || book.open() == 0).await;
    acceptor.abort();
    let tasks = Handle::current().metrics();
    eventually("a task is left", || tasks.num_alive_tasks() == 0).await;
    book.check();
    for answer in answers.into_iter().filter(|_| !input.http2) {
        assert!(book.explains(answer.ask, answer.whose, &answer.body), "ask {}", answer.ask);
    }
}

fn client(http2: bool) -> Asks {
    let builder = Client::builder().response_timeout(PATIENCE).pool(|pool| {
        pool.max_connections_per_group(4).acquire_timeout(2 * PATIENCE).connect_timeout(PATIENCE)
    });
    if http2 { builder.http2_only().build() } else { builder.build() }.unwrap()
}

/// One request, and what its user does with the answer.
async fn one(client: Asks, target: String, ask: u32, Ask { how, post, .. }: Ask) -> Option<Answer> {
    let method = if post { Method::POST } else { Method::GET };
    let request = Request::builder().method(method).uri(target).header("x-ask", ask);
    let asked = client.request(request.body(Full::default()).unwrap());
    let patience = match how {
        How::Leave(after) => Duration::from_millis(after.into()),
        _ => 10 * PATIENCE,
    };
    let response = match timeout(patience, asked).await {
        Ok(outcome) => outcome.ok()?,
        Err(_) if matches!(how, How::Leave(_)) => return None,
        Err(_) => panic!("a request has no end"),
    };
    let said = response.headers().get("x-for").and_then(|it| it.to_str().ok());
    let whose = said.and_then(|it| it.parse().ok());
    let mut body: Body = response.into_body();
    if let How::Read(count) = how {
        for _ in 0..count {
            if !matches!(timeout(PATIENCE, body.frame()).await, Ok(Some(Ok(_)))) {
                break;
            }
        }
        return None;
    }
    let body = timeout(PATIENCE, body.collect()).await.ok()?.ok()?.to_bytes();
    Some(Answer { ask, whose, body })
}

/// Nobody wants anything any more.
async fn at_rest(client: &Asks, book: &Book, http2: bool) {
    // Longer than anything waits, and than all pauses of the server.
    sleep(24 * PATIENCE).await;
    let pool = client.pool();
    eventually("something is left", || {
        let status = pool.status();
        (status.streams, status.connecting, status.waiting) == (0, 0, 0)
    })
    .await;
    // A connection whose server allows no streams for now stays leased, and nobody has it.
    let (held, usable) = (|| pool.status().leased, || if http2 { book.usable() } else { 0 });
    eventually("a lease is left", || held() <= usable()).await;
    eventually("a dead connection is idle", || pool.status().idle + held() <= book.usable()).await;
    let (stats, status) = (pool.stats(), pool.status());
    let gone = stats.pool.closes.total() + stats.pool.taken;
    assert_eq!(stats.pool.inserts, gone + (status.idle + status.leased) as u64, "{:?}", stats.pool);
    assert_eq!(stats.pool.panics, 0);
    let connects = &stats.connects;
    let ended = connects.opened + connects.errors + connects.timeouts + connects.aborted;
    assert_eq!(connects.started, ended, "{connects:?}");
}

/// What the kernel has still to deliver may take a moment of real time.
async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{what}");
        // The clock goes on as well: who sleeps is woken.
        sleep(Duration::from_millis(1)).await;
        yield_now().await;
    }
}
