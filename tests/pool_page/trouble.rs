//! What the page shows when there is no answer, or none that makes sense.

use super::checks::{self, agrees, live};
use super::page::{Clock, Page};
use super::server::{Reply, Server};
use super::states::lively;

/// The page says that there is no answer, and still shows the last one.
fn stale(page: &Page) {
    let shown = page.shown();
    let state = shown["state"].as_str().unwrap();
    let since = state.strip_prefix("no answer since ").unwrap_or_else(|| panic!("{state}"));
    assert!(since.len() == 8 && since.split(':').all(|part| part.len() == 2), "{since}");
    assert_eq!(shown["stale"], true);
    checks::answers(&shown, &lively(3));
    assert!(shown["title"].as_str().unwrap().starts_with("no answer"));
    agrees(&shown);
}

#[test]
fn no_answer_is_said_and_the_last_one_is_kept() {
    let server = Server::start(Reply::Json(lively(3)));
    let page = Page::open(&server.url(), Clock::Manual);
    let troubles = [
        Reply::Close,
        Reply::Status(503),
        Reply::Text("{\"upstreams\": [{"),
        Reply::Text("null"),
        Reply::Text("{\"upstreams\": 3}"),
        Reply::Text("{\"upstreams\": [null]}"),
    ];
    for reply in troubles {
        server.reply(reply);
        page.tick();
        stale(&page);
        page.tick();
        stale(&page);
        server.reply(Reply::Json(lively(3)));
        page.tick();
        let shown = page.shown();
        live(&shown);
        assert!(!shown["title"].as_str().unwrap().contains("no answer"));
    }
    for scheme in ["light", "dark"] {
        page.look(scheme);
        checks::legible(&page);
    }
    drop(server);
    page.tick();
    stale(&page);
    for scheme in ["light", "dark"] {
        page.look(scheme);
        checks::legible(&page);
    }
    checks::fits(&page, 360);
}

#[test]
fn a_proxy_that_hangs_is_given_up_on_and_asked_again() {
    let server = Server::start(Reply::Json(lively(3)));
    let page = Page::open(&server.url(), Clock::Manual);
    server.reply(Reply::Hang);
    page.advance(1_000);
    page.wait_until(|_| server.asked() == 2);
    // One question at a time, however long it takes.
    page.advance(2_999);
    assert_eq!((server.asked(), page.refreshes()), (2, 1));
    live(&page.shown());
    page.advance(1);
    page.wait_until(|page| page.refreshes() == 2);
    stale(&page);
    server.reply(Reply::Json(lively(4)));
    page.advance(0);
    page.wait_until(|page| page.refreshes() == 3);
    live(&page.shown());
    assert_eq!(server.asked(), 3);
}

#[test]
fn before_the_first_answer() {
    let server = Server::start(Reply::Status(500));
    let page = Page::open(&server.url(), Clock::Manual);
    let shown = page.shown();
    assert_eq!(shown["state"], "no answer yet");
    assert_eq!(shown["stale"], true);
    server.reply(Reply::Json(lively(0)));
    page.tick();
    live(&page.shown());
}
