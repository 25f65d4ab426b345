//! `examples/http_client.rs` runs, and says what has happened.

#[path = "../../examples/http_client.rs"]
#[expect(dead_code, reason = "the example uses more of it")]
mod http_client;

use clap::Parser;
use http_client::{Fetching, Options, act};

use crate::origin::{BOTH, Origin, Speaks};

async fn run(arguments: &[&str]) -> (Vec<String>, u64) {
    let options = Options::try_parse_from(["http_client"].iter().chain(arguments)).unwrap();
    let mut lines = Vec::new();
    let tell = |fetched: Fetching| match fetched {
        Ok(fetched) => lines.push(fetched.to_string()),
        Err(error) => lines.push(error.to_string()),
    };
    let connections = act(options, tell).await.unwrap();
    (lines, connections)
}

#[tokio::test]
async fn the_example_fetches() {
    let origin = Origin::start(Speaks::Http1).await;
    let uri = origin.uri("/large");
    let (lines, connections) = run(&[&uri, &uri, "--times", "2"]).await;
    assert_eq!((lines.len(), connections), (4, 1), "{lines:?}");
    for (number, line) in lines.iter().enumerate() {
        assert!(line.starts_with("200 HTTP/1.1  4194304 bytes"), "{line}");
        let says = if number == 0 { "new after" } else { "reused, use" };
        assert!(line.contains(says) && line.ends_with(&uri), "{line}");
    }
    let origin = Origin::start(Speaks::Http2).await;
    let (lines, connections) =
        run(&[&origin.uri("/"), "--http2", "--together", "--times", "9"]).await;
    assert_eq!((lines.len(), connections), (9, 1), "{lines:?}");
    assert_eq!(lines.iter().filter(|line| line.contains("new after")).count(), 1, "{lines:?}");
}

#[tokio::test]
async fn the_example_over_tls() {
    let origin = Origin::start(BOTH).await;
    let file = std::env::temp_dir().join(format!("slabpool-http-{}.der", std::process::id()));
    std::fs::write(&file, origin.identity.certificate()).unwrap();
    let (lines, connections) = run(&[&origin.uri("/"), "--trust", file.to_str().unwrap()]).await;
    std::fs::remove_file(&file).unwrap();
    assert!(lines[0].starts_with("200 HTTP/2.0        1 bytes"), "{lines:?}");
    assert_eq!(connections, 1);
    // Who trusts nobody says so.
    let (lines, connections) = run(&[&origin.uri("/")]).await;
    assert!(lines[0].ends_with("the target is https, and the client has no TLS"), "{lines:?}");
    assert_eq!(connections, 0);
}
