//! The page in a browser, and time as the test wants it.

use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::webdriver::Browser;

/// Longer than a refresh takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who moves the page's timers.
#[derive(Clone, Copy, PartialEq)]
pub enum Clock {
    /// The browser.
    Real,
    /// The test, by [`Page::tick`] and [`Page::advance`].
    Manual,
}

pub struct Page {
    browser: Browser,
}

impl Page {
    /// Starts a browser of its own, and returns after the page's first refresh.
    pub fn open(url: &str, clock: Clock) -> Self {
        let page = Self { browser: Browser::start() };
        page.look("light");
        page.resize(1280);
        if clock == Clock::Manual {
            let source = json!({ "source": include_str!("clock.js") });
            page.browser.devtools("Page.addScriptToEvaluateOnNewDocument", &source);
        }
        page.browser.open(url);
        page.wait_until(|page| page.refreshes() > 0);
        page
    }

    pub fn run(&self, script: &str) -> Value {
        self.browser.run(script, &json!([]))
    }

    /// All that the page shows, with the answer that it shows as `answer`.
    pub fn shown(&self) -> Value {
        self.run(include_str!("shown.js"))
    }

    /// How many refreshes have ended, well or not.
    pub fn refreshes(&self) -> u64 {
        self.run("return refreshes").as_u64().unwrap()
    }

    /// Waits for the next refresh to end.
    pub fn wait_refresh(&self) {
        let before = self.refreshes();
        self.wait_until(|page| page.refreshes() > before);
    }

    /// Moves the manual clock by a second, and waits for the refresh that is due.
    pub fn tick(&self) {
        let before = self.refreshes();
        self.advance(1_000);
        self.wait_until(|page| page.refreshes() > before);
    }

    /// Moves the manual clock, and waits for nothing.
    pub fn advance(&self, milliseconds: u64) {
        self.run(&format!("advance({milliseconds})"));
    }

    pub fn wait_until(&self, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition(self) {
            assert!(Instant::now() < deadline, "the page does not get there: {}", self.shown());
            sleep(Duration::from_millis(2));
        }
    }

    /// What the console has shown since this was asked last.
    pub fn console(&self) -> Vec<String> {
        self.browser.console()
    }

    /// `light` or `dark`; and bars that are at once where they move to.
    pub fn look(&self, scheme: &str) {
        let features = json!([
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ]);
        self.browser.devtools("Emulation.setEmulatedMedia", &json!({ "features": features }));
    }

    pub fn resize(&self, width: u64) {
        let size = json!({
            "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false,
        });
        self.browser.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Presses and releases a key in whatever has the focus.
    pub fn press(&self, key: &str, code: u64, text: &str) {
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "code": key,
                "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.browser.devtools("Input.dispatchKeyEvent", &event);
        }
    }

    /// The whole page, as a PNG.
    pub fn picture(&self) -> Vec<u8> {
        let all = json!({ "format": "png", "captureBeyondViewport": true });
        let picture = self.browser.devtools("Page.captureScreenshot", &all);
        base64(picture["data"].as_str().unwrap())
    }
}

/// What `text`, valid base64, stands for.
fn base64(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0u32, 0);
    for letter in text.bytes().filter(|&letter| letter != b'=') {
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}
