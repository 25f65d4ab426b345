//! What the page shows of answers that change.

use serde_json::{Value, json};

use super::checks::{self, agrees, list, live};
use super::page::{Clock, Page};
use super::server::{Reply, Server};
use super::states::{answer, host, lively, upstream};

/// Shows `answer` at the next refresh.
fn show(server: &Server, page: &Page, answer: &Value) -> Value {
    server.reply(Reply::Json(answer.clone()));
    page.tick();
    let shown = page.shown();
    checks::answers(&shown, answer);
    live(&shown);
    shown
}

fn start(answer: &Value) -> (Server, Page) {
    let server = Server::start(Reply::Json(answer.clone()));
    let page = Page::open(&server.url(), Clock::Manual);
    let shown = page.shown();
    checks::answers(&shown, answer);
    live(&shown);
    (server, page)
}

#[test]
fn numbers_and_bars_are_the_answer_s() {
    let (server, page) = start(&lively(0));
    for second in 1..8 {
        show(&server, &page, &lively(second));
    }
    // From nothing to more than anyone has: zero, the limit, above it after it was lowered.
    for (limit, idle, leased) in [(Some(0), 0, 0), (Some(7), 3, 3), (Some(2), 3, 60), (None, 0, 0)]
    {
        let mut only = upstream("only", limit, &[host("a:1", "up", idle, leased, 1_234_567_890)]);
        only["closes"]["idle"] = json!(9_007_199_254_740_991u64);
        only["wait_p50_us"] = json!(999.6);
        only["wait_p99_us"] = json!(12_345_678.9);
        show(&server, &page, &answer(100.0, &[only]));
    }
    checks::quiet(&page);
    assert_eq!(server.others(), Vec::<String>::new());
}

#[test]
fn an_upstream_that_did_nothing_yet() {
    let mut fresh = upstream("fresh", Some(4), &[host("a:1", "up", 0, 0, 0)]);
    for field in ["connecting", "misses"] {
        fresh[field] = json!(0);
    }
    fresh["closes"] = json!({});
    fresh["wait_p50_us"] = Value::Null;
    fresh["wait_p99_us"] = Value::Null;
    let (server, page) = start(&answer(0.0, &[fresh]));
    let shown = show(&server, &page, &answer(1.0, &[]));
    assert_eq!(shown["totals"], "no upstreams");
    checks::quiet(&page);
}

#[test]
fn each_second_there_is_one_refresh() {
    let (server, page) = start(&lively(0));
    for asked in 1..=5 {
        assert_eq!(server.asked(), asked);
        // Nothing else is going to happen before.
        assert_eq!(page.run("return due()"), json!([1_000]));
        page.tick();
    }
    // However long an answer takes.
    page.advance(999);
    assert_eq!(page.run("return due()"), json!([1]));
    assert_eq!(server.asked(), 6);
}

#[test]
fn it_refreshes_itself() {
    let server = Server::start(Reply::Json(lively(0)));
    let page = Page::open(&server.url(), Clock::Real);
    page.wait_until(|_| server.asked() >= 3);
    server.reply(Reply::Json(lively(7)));
    let uptime = lively(7)["uptime_seconds"].as_f64();
    page.wait_until(|page| page.shown()["answer"]["uptime_seconds"].as_f64() == uptime);
    checks::answers(&page.shown(), &lively(7));
    live(&page.shown());
}

#[test]
fn upstreams_and_hosts_come_and_go() {
    let [a, b, c] = ["a:1", "b:1", "c:1"].map(|address| host(address, "up", 2, 1, 400));
    let one = |hosts: &[Value]| upstream("one", Some(10), hosts);
    let two = upstream("two", None, std::slice::from_ref(&b));
    let (server, page) = start(&answer(1.0, &[one(&[a.clone(), b.clone()])]));
    // What the user opened stays open, whatever comes and goes around it.
    page.run("document.querySelectorAll('summary')[1].click()");
    let shown = show(&server, &page, &answer(2.0, &[two.clone(), one(&[c, b.clone(), a.clone()])]));
    let open = |shown: &Value, upstream: usize| -> Vec<bool> {
        let hosts = list(&shown["upstreams"][upstream]["hosts"]).iter();
        hosts.map(|host| host["open"].as_bool().unwrap()).collect()
    };
    assert_eq!((open(&shown, 0), open(&shown, 1)), (vec![false], vec![false, true, false]));
    // So does what has the focus, when what is before it goes.
    let focus = "return document.activeElement.querySelector('.address').textContent";
    page.run("document.querySelectorAll('.upstream')[1].querySelectorAll('summary')[1].focus()");
    assert_eq!(page.run(focus), "b:1");
    show(&server, &page, &answer(3.0, &[one(std::slice::from_ref(&b))]));
    assert_eq!(page.run(focus), "b:1");
    let shown = show(&server, &page, &answer(4.0, &[one(&[b, a.clone()]), two]));
    assert_eq!(page.run(focus), "b:1");
    assert_eq!((open(&shown, 0), open(&shown, 1)), (vec![true, false], vec![false]));
    assert_eq!(list(&show(&server, &page, &answer(5.0, &[]))["upstreams"]).len(), 0);
    let shown = show(&server, &page, &answer(6.0, &[one(&[a])]));
    assert_eq!(open(&shown, 0), [false]);
    checks::quiet(&page);
}

#[test]
fn a_host_that_goes_down_says_so_in_words_and_by_its_shape() {
    let state =
        |health: &str| answer(1.0, &[upstream("one", Some(9), &[host("a:1", health, 1, 0, 9)])]);
    let (server, page) = start(&state("up"));
    let mut shapes = Vec::new();
    for health in ["up", "draining", "down"] {
        let shown = show(&server, &page, &state(health));
        shapes.push(shown["upstreams"][0]["hosts"][0]["shape"].as_str().unwrap().to_owned());
        let down = shown["totals"].as_str().unwrap().contains("1 host down");
        assert_eq!(down, health == "down");
    }
    shapes.sort();
    shapes.dedup();
    assert_eq!(shapes.len(), 3, "{shapes:?}");
    let shown = show(&server, &page, &state("up"));
    assert_eq!(shown["upstreams"][0]["hosts"][0]["health"], "up");
}

#[test]
fn rates_are_by_the_proxy_s_clock() {
    let at = |seconds: f64, acquired: u64, opened: u64, waiting: u64| {
        let mut one = upstream("one", Some(9), &[host("a:1", "up", 1, 0, acquired)]);
        one["opened"] = json!(opened);
        one["reused"] = json!(acquired - opened);
        one["waiting"] = json!(waiting);
        answer(seconds, &[one])
    };
    let (server, page) = start(&at(10.0, 1_000, 10, 0));
    let rates = |shown: &Value| {
        let figures = &shown["upstreams"][0]["figures"];
        ["acquired", "opened"].map(|rate| figures[rate].as_str().unwrap().to_owned())
    };
    assert_eq!(rates(&page.shown()), ["–", "–"]);
    assert_eq!(rates(&show(&server, &page, &at(12.0, 6_000, 13, 4))), ["2\u{202f}500", "1.5"]);
    assert_eq!(rates(&show(&server, &page, &at(13.0, 6_000, 13, 4))), ["0.0", "0.0"]);
    // The line ends where it is now, a minute wide: half a minute is half of it.
    let shown = show(&server, &page, &at(42.0, 9_000, 13, 0));
    let line = shown["upstreams"][0]["reuse_line"].as_str().unwrap();
    assert_eq!(line, "M120.0 2.0L240.0 2.0");
    // A proxy that was started anew has no past.
    assert_eq!(rates(&show(&server, &page, &at(0.5, 3, 3, 0))), ["–", "–"]);
    assert_eq!(rates(&show(&server, &page, &at(1.5, 8, 5, 0))), ["5.0", "2.0"]);
}

#[test]
fn connections_are_listed_by_keyboard() {
    let (server, page) = start(&lively(0));
    // Each host is one stop of the tabulator.
    page.press("Tab", 9, "");
    page.press("Enter", 13, "\r");
    // What is opened is filled after that, by a refresh at the latest.
    page.tick();
    let shown = page.shown();
    let first = &shown["upstreams"][0]["hosts"][0];
    assert_eq!(first["open"], true);
    assert_eq!(list(&first["connections"]).len(), 22);
    agrees(&shown);
    live(&show(&server, &page, &lively(1)));
    page.press("Enter", 13, "\r");
    assert_eq!(page.shown()["upstreams"][0]["hosts"][0]["open"], false);

    let mut old = upstream("old", None, &[host("a:1", "up", 6, 0, 5)]);
    let ages = [59.9375, 59.96875, 3_599.0, 3_599.75, 86_399.75, 2_000_000_000.0];
    for (at, age) in ages.into_iter().enumerate() {
        let connection = &mut old["hosts"][0]["connections"][at];
        connection["age_seconds"] = json!(age);
        connection["idle_seconds"] = json!(age);
    }
    show(&server, &page, &answer(8.0, &[old]));
    page.run("document.querySelector('summary').click()");
    page.tick();
    agrees(&page.shown());

    // Of more than the answer lists, the rest is said.
    let many = upstream("many", None, &[host("a:1", "up", 100, 30, 5)]);
    show(&server, &page, &answer(9.0, &[many]));
    page.run("document.querySelector('summary').click()");
    page.tick();
    let shown = page.shown();
    agrees(&shown);
    assert_eq!(list(&shown["upstreams"][0]["hosts"][0]["connections"]).len(), 64);
    assert_eq!(page.run("return document.querySelector('.list p').textContent"), "and 66 more");
}

#[test]
fn hostile_names_are_text() {
    let hostile = "<img src=x onerror=\"document.title='owned';owned=1\"><script>owned=1</script>";
    let mut one = host(&format!("{hostile}:1"), "up", 1, 0, 5);
    one["connections"][0]["token"] = json!(hostile);
    one["connections"][0]["state"] = json!("<b>idle</b>");
    let mut one = upstream(hostile, Some(3), &[one]);
    one["closes"]["<svg/onload=owned=1>"] = json!(3);
    one["closes"]["constructor"] = json!(2);
    let names = ["__proto__", "constructor", "\u{202e}gnorts", "", "a\nb", "&lt;b&gt;"];
    let others = names.map(|name| upstream(name, None, &[]));
    let mut all = vec![one];
    all.extend(others);
    let (server, page) = start(&answer(1.0, &all));
    page.run("document.querySelector('summary').click()");
    let shown = show(&server, &page, &answer(2.0, &all));
    assert_eq!(shown["upstreams"][0]["hosts"][0]["connections"][0][0], hostile);
    let markup =
        "return [typeof owned, document.querySelectorAll('img, main script, main b b').length]";
    assert_eq!(page.run(markup), json!(["undefined", 0]));
    // Even a mistake in the page could not: Chromium refuses markup from text.
    let refused =
        "try { document.querySelector('main').innerHTML = '<i>'; } catch (e) { return e.name }";
    checks::quiet(&page);
    assert_eq!(page.run(refused), "TypeError");
    assert_eq!(server.others(), Vec::<String>::new());
}
