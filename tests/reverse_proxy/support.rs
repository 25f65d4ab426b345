//! A proxy that runs, and what the tests ask it with.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use slabpool::http::Client;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use crate::origin::{PATIENCE, eventually};
use crate::proxy::config::Config;
use crate::proxy::{End, Proxy, Upstream, serve};

/// A proxy with its listeners.
pub struct Running {
    pub proxy: Arc<Proxy>,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub stop: oneshot::Sender<()>,
    pub serving: JoinHandle<End>,
}

impl Running {
    /// What this file of YAML says, but for where it listens.
    pub async fn start(config: &str) -> Self {
        let config = Config::parse(config, "yaml").unwrap();
        let proxy = Arc::new(Proxy::new(&config).unwrap());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (address, pages) = (listener.local_addr().unwrap(), admin.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel();
        let stopped = async { _ = stopped.await };
        let serving = tokio::spawn(serve(Arc::clone(&proxy), listener, Some(admin), stopped));
        Self { proxy, address, admin: pages, stop, serving }
    }

    pub fn upstream(&self, index: usize) -> &Upstream {
        &self.proxy.upstreams()[index]
    }

    pub fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A page of those for who looks after the proxy.
    pub async fn page(&self, path: &str) -> (StatusCode, String) {
        let client = Client::<Full<Bytes>>::new();
        get(&client, &format!("http://{}{path}", self.admin)).await
    }
}

/// Status and body of an answer.
pub async fn get(client: &Client<Full<Bytes>>, uri: &str) -> (StatusCode, String) {
    ask(client, Request::get(uri).body(Full::default()).unwrap()).await
}

pub async fn ask(
    client: &Client<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> (StatusCode, String) {
    let response = timeout(PATIENCE, client.request(request)).await.expect("no answer").unwrap();
    let status = response.status();
    let body = timeout(PATIENCE, response.into_body().collect()).await.expect("no end").unwrap();
    (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

/// A head and its body, whose length it tells.
pub async fn read_message(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let lengths = head.lines().filter_map(|line| line.strip_prefix("content-length: "));
            if body.len() == lengths.map(|length| length.parse::<usize>().unwrap()).sum::<usize>() {
                return text.into_owned();
            }
        }
        let read = timeout(PATIENCE, stream.read_buf(&mut bytes)).await.expect("nothing comes");
        assert_ne!(read.unwrap(), 0, "ended in the middle of {bytes:?}");
    }
}
