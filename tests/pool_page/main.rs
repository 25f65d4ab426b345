//! The live page of `examples/reverse_proxy`, in a headless Chromium: what it shows of a
//! `pool.json` that the tests script.
//!
//! Needs `chromium` and `chromedriver` (`.ci/chromium` installs them). With
//! `SLABPOOL_SCREENSHOTS=docs` it also writes `docs/pool-light.png` and `docs/pool-dark.png`.
//!
//! The checks know nothing of the script; they compare what a page shows with the answer
//! that it shows. So they hold for any proxy's page:
//!
//! ```console
//! $ SLABPOOL_POOL_PAGE=http://127.0.0.1:9100/pool cargo test --test pool_page -- --ignored
//! ```

mod checks;
mod looks;
mod page;
mod scripted;
mod server;
mod states;
mod trouble;
mod webdriver;

use page::{Clock, Page};

#[test]
#[ignore = "needs the address of a page in SLABPOOL_POOL_PAGE"]
fn the_page_of_a_proxy_that_runs() {
    let url = std::env::var("SLABPOOL_POOL_PAGE").expect("the address of a page");
    let page = Page::open(&url, Clock::Real);
    for _ in 0..3 {
        checks::live(&page.shown());
        page.wait_refresh();
    }
    checks::fits(&page, 1280);
    checks::fits(&page, 360);
    checks::quiet(&page);
}
