//! How the page looks: at every width, in light and in dark, from one refresh to the next.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::checks;
use super::page::{Clock, Page};
use super::server::{Reply, Server};
use super::states::{answer, host, lively, upstream};

/// A page that has seen `seconds` of the lively state.
fn after(seconds: u64) -> (Server, Page) {
    let server = Server::start(Reply::Json(lively(0)));
    let page = Page::open(&server.url(), Clock::Manual);
    for second in 1..=seconds {
        server.reply(Reply::Json(lively(second)));
        page.tick();
    }
    (server, page)
}

#[test]
fn it_fits_and_is_legible_in_light_and_in_dark() {
    let (_server, page) = after(64);
    for scheme in ["light", "dark"] {
        page.look(scheme);
        checks::fits(&page, 1280);
        checks::legible(&page);
        if let Some(folder) = std::env::var_os("SLABPOOL_SCREENSHOTS") {
            let path = Path::new(&folder).join(format!("pool-{scheme}.png"));
            fs::write(&path, page.picture()).unwrap();
        }
    }
    page.run("for (const host of document.querySelectorAll('summary')) host.click()");
    page.tick();
    for width in [320, 360, 500, 759, 761, 999, 1001, 1280, 2560] {
        checks::fits(&page, width);
    }
    checks::legible(&page);
    checks::live(&page.shown());
    checks::quiet(&page);
}

#[test]
fn nothing_moves_between_refreshes() {
    let (server, page) = after(1);
    let places = "return [...document.querySelectorAll(`header > *, .figure, .legend > span,
        .bar, .head > *, .closes, .close, .row > *`)]
      .map((node) => node.getBoundingClientRect())
      .map(({ x, y, height }) => [x, y, height].join(' '))";
    for width in [1280, 360] {
        page.resize(width);
        let before = page.run(places);
        for second in 2..6 {
            server.reply(Reply::Json(lively(second)));
            page.tick();
            assert_eq!(page.run(places), before, "{width} pixels, second {second}");
        }
    }
}

#[test]
fn long_names_and_large_numbers_fit() {
    let name = "x".repeat(300);
    let mut one = host(&name, "draining", 99_999, 99_999, 999_999_999_999);
    one["errors"] = json!(999_999);
    one["connections"][0]["token"] = json!("ffffffffffffffff-ffffffffffffffff");
    one["connections"][0]["uses"] = json!(99_999);
    one["connections"][0]["age_seconds"] = json!(8_630_000.0);
    let mut one = upstream(&name, Some(1_000_000), &[one]);
    one["waiting"] = json!(999_999);
    one["closes"][&name] = json!(999_999_999);
    let server = Server::start(Reply::Json(answer(1e9, &[one])));
    let page = Page::open(&server.url(), Clock::Manual);
    page.run("document.querySelector('summary').click()");
    page.tick();
    for width in [320, 360, 500, 759, 761, 999, 1001, 1280] {
        checks::fits(&page, width);
    }
    checks::live(&page.shown());
}
