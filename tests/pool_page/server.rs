//! A server of the page and of whatever a test wants `pool.json` to be.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

const PAGE: &str = include_str!("../../examples/reverse_proxy/pool.html");

const EMPTY: &str = "{\"uptime_seconds\": 1, \"upstreams\": []}";

/// What becomes of those who ask for `pool.json`.
#[derive(Clone)]
pub enum Reply {
    Json(Value),
    Text(&'static str),
    Status(u16),
    /// The connection is closed without an answer.
    Close,
    /// The connection stays open without an answer.
    Hang,
}

/// Listens until it is dropped; then nobody does at its address.
pub struct Server {
    address: SocketAddr,
    inner: Arc<Inner>,
}

struct Inner {
    reply: Mutex<Reply>,
    asked: AtomicUsize,
    others: Mutex<Vec<String>>,
    ended: AtomicBool,
    hanging: Mutex<Vec<TcpStream>>,
}

impl Server {
    pub fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let inner = Arc::new(Inner {
            reply: Mutex::new(reply),
            asked: AtomicUsize::new(0),
            others: Mutex::new(Vec::new()),
            ended: AtomicBool::new(false),
            hanging: Mutex::new(Vec::new()),
        });
        let shared = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming() {
                // Acquire: pairs with the Release in `drop`.
                if shared.ended.load(Ordering::Acquire) {
                    return;
                }
                let shared = Arc::clone(&shared);
                // One each: a browser opens connections that it may never use.
                thread::spawn(move || shared.serve(stream.unwrap()));
            }
        });
        Self { address, inner }
    }

    /// Under a prefix, as behind another proxy.
    pub fn url(&self) -> String {
        format!("http://{}/inner/admin/pool", self.address)
    }

    pub fn reply(&self, reply: Reply) {
        *self.inner.reply.lock().unwrap() = reply;
    }

    /// How often `pool.json` was asked for.
    pub fn asked(&self) -> usize {
        // Relaxed: a count, by itself.
        self.inner.asked.load(Ordering::Relaxed)
    }

    /// What was asked for and is neither the page nor `pool.json`.
    pub fn others(&self) -> Vec<String> {
        self.inner.others.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Release: pairs with the Acquire of the listening thread, which this connection
        // wakes.
        self.inner.ended.store(true, Ordering::Release);
        let _ = TcpStream::connect(self.address);
    }
}

impl Inner {
    fn serve(&self, stream: TcpStream) {
        let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
        let Some(first) = lines.next() else { return };
        let _headers = lines.find(String::is_empty);
        let path = first.split(' ').nth(1).unwrap_or_default();
        match path {
            "/inner/admin/pool" => answer(&stream, 200, "text/html; charset=utf-8", PAGE),
            "/inner/admin/pool.json" => self.serve_json(stream),
            _ => {
                self.others.lock().unwrap().push(path.to_owned());
                answer(&stream, 404, "text/plain", "not here");
            }
        }
    }

    fn serve_json(&self, stream: TcpStream) {
        let reply = self.reply.lock().unwrap().clone();
        self.asked.fetch_add(1, Ordering::Relaxed);
        match reply {
            Reply::Json(json) => answer(&stream, 200, "application/json", &json.to_string()),
            Reply::Text(text) => answer(&stream, 200, "application/json", text),
            // What is said with it could be taken for an answer.
            Reply::Status(status) => answer(&stream, status, "application/json", EMPTY),
            Reply::Close => {}
            Reply::Hang => self.hanging.lock().unwrap().push(stream),
        }
    }
}

fn answer(mut stream: &TcpStream, status: u16, kind: &str, body: &str) {
    // A browser that left does not care.
    let _ = write!(
        stream,
        "HTTP/1.1 {status} it\r\nconnection: close\r\ncontent-type: {kind}\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
}
