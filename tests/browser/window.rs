//! A window of a real browser, driven by `WebDriver`. Its checks wait until they hold.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_testkit::chromium::ChromeDriver;
use fanfare_testkit::wait::eventually;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::python_env::root;
use crate::world::SOON;

/// `WebDriver`'s codes of keys.
pub(super) const TAB: &str = "\u{e004}";
pub(super) const ENTER: &str = "\u{e007}";
pub(super) const SPACE: &str = " ";

/// The member in which `WebDriver` returns the reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A browser of its own, with one window.
pub(super) struct Window {
    driver: SocketAddr,
    session: String,
    origin: String,
}

impl Window {
    /// Opens a window without a session; its paths are those of the server at `address`.
    pub(super) async fn open(driver: &ChromeDriver, address: SocketAddr) -> Self {
        let options = json!({ "args": driver.browser_arguments() });
        let wanted = json!({
            "goog:chromeOptions": options,
            "goog:loggingPrefs": { "browser": "ALL" },
        });
        let wanted = json!({ "capabilities": { "alwaysMatch": wanted } });
        let opened = command(driver.address(), "POST", "/session", &wanted).await.unwrap();
        let session = opened["sessionId"].as_str().unwrap().to_owned();
        let origin = format!("http://{address}");
        let window = Self { driver: driver.address(), session, origin };
        window.emulate(1280, "light").await;
        window
    }

    /// Closes the browser.
    pub(super) async fn close(self) {
        let path = format!("/session/{}", self.session);
        command(self.driver, "DELETE", &path, &Value::Null).await.unwrap();
    }

    /// Sets the window's width in pixels, and the preferred colour scheme, `light` or `dark`.
    pub(super) async fn emulate(&self, width: u32, scheme: &str) {
        let metrics =
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        let features = json!({ "features": [
            { "name": "prefers-color-scheme", "value": scheme },
            { "name": "prefers-reduced-motion", "value": "reduce" },
        ] });
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    /// Goes to a path and waits until its page is loaded.
    pub(super) async fn go(&self, path: &str) {
        let url = format!("{}{path}", self.origin);
        self.post("/url", &json!({ "url": url })).await.unwrap();
    }

    /// The path of the current page, with its query.
    pub(super) async fn path(&self) -> String {
        let path = self.run("return location.pathname + location.search").await.unwrap();
        path.as_str().unwrap().to_owned()
    }

    /// The value that a script returns.
    pub(super) async fn run(&self, script: &str) -> Result<Value, Value> {
        self.post("/execute/sync", &json!({ "script": script, "args": [] })).await
    }

    /// The value that a script passes to its only argument, a callback.
    pub(super) async fn run_async(&self, script: &str) -> Result<Value, Value> {
        self.post("/execute/async", &json!({ "script": script, "args": [] })).await
    }

    /// Waits until an expression is true of the page that is shown, whichever that is by then.
    pub(super) async fn until(&self, expression: &str) {
        eventually(expression, SOON, async || {
            let seen = self.run(&format!("return Boolean({expression})")).await;
            if seen == Ok(Value::Bool(true)) {
                return Ok(());
            }
            let text =
                "return location.pathname + '\\n' + document.querySelector('main')?.innerText";
            Err(self.run(text).await)
        })
        .await;
    }

    /// Waits until an element that the selector finds has this text.
    pub(super) async fn sees(&self, selector: &str, text: &str) {
        let (selector, text) = (json!(selector), json!(text));
        let all = format!("[...document.querySelectorAll({selector})]");
        self.until(&format!("{all}.some(it => it.textContent.includes({text}))")).await;
    }

    /// Waits until the page at this path is loaded.
    pub(super) async fn arrives(&self, path: &str) {
        let path = json!(path);
        self.until(&format!("location.pathname === {path} && document.readyState === 'complete'"))
            .await;
    }

    /// Waits for the element that the selector finds, and clicks it.
    pub(super) async fn click(&self, selector: &str) {
        let path = format!("{}/click", self.element(selector).await);
        self.post(&path, &json!({})).await.unwrap();
    }

    /// Clicks the link or button with this text.
    pub(super) async fn choose(&self, text: &str) {
        self.run("document.querySelector('[data-chosen]')?.removeAttribute('data-chosen')")
            .await
            .unwrap();
        self.until(&format!(
            "(() => {{ const it = [...document.querySelectorAll('a, button, summary')].find(\
             it => it.textContent.trim() === {} && it.checkVisibility()); \
             it?.setAttribute('data-chosen', ''); return it; }})()",
            json!(text)
        ))
        .await;
        self.click("[data-chosen]").await;
    }

    /// Replaces the content of a field.
    pub(super) async fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.post(&format!("{element}/clear"), &json!({})).await.unwrap();
        self.post(&format!("{element}/value"), &json!({ "text": text })).await.unwrap();
    }

    /// Presses keys one after another, wherever the focus is.
    pub(super) async fn press(&self, keys: &str) {
        let presses = keys.chars().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
        });
        let presses: Vec<Value> = presses.collect();
        let keyboard = json!({ "type": "key", "id": "keyboard", "actions": presses });
        self.post("/actions", &json!({ "actions": [keyboard] })).await.unwrap();
    }

    /// The messages of the browser's console since the last call: errors of scripts, and violations
    /// of the page's content security policy.
    pub(super) async fn complaints(&self) -> Vec<String> {
        let log = self.post("/se/log", &json!({ "type": "browser" })).await.unwrap();
        // `INFO` messages are no errors.
        let lines = log.as_array().unwrap().iter().filter(|line| line["level"] != "INFO");
        lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Saves a screenshot of the whole page in `target/screenshots`.
    pub(super) async fn picture(&self, name: &str) {
        let whole = json!({ "format": "png", "captureBeyondViewport": true });
        let bytes = self.screenshot(whole).await;
        let folder: PathBuf = root().join("target/screenshots");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{name}.png")), bytes).unwrap();
    }

    /// The PNG of the upper part of the page, as high as `height` pixels.
    pub(super) async fn picture_of_top(&self, height: u32) -> Vec<u8> {
        let clip = json!({ "x": 0, "y": 0, "width": 1280, "height": height, "scale": 1 });
        self.screenshot(json!({ "format": "png", "clip": clip })).await
    }

    async fn screenshot(&self, options: Value) -> Vec<u8> {
        let shot = self.devtools("Page.captureScreenshot", options).await;
        STANDARD.decode(shot["data"].as_str().unwrap()).unwrap()
    }

    /// A command of Chromium's own protocol.
    async fn devtools(&self, name: &str, parameters: Value) -> Value {
        let body = json!({ "cmd": name, "params": parameters });
        self.post("/goog/cdp/execute", &body).await.unwrap()
    }

    /// The path of an element's commands.
    async fn element(&self, selector: &str) -> String {
        let body = json!({ "using": "css selector", "value": selector });
        let found = eventually(selector, SOON, async || self.post("/element", &body).await).await;
        format!("/element/{}", found[ELEMENT].as_str().unwrap())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value, Value> {
        command(self.driver, "POST", &format!("/session/{}{path}", self.session), body).await
    }
}

/// Sends a command to the driver; returns its answer or its error.
async fn command(
    driver: SocketAddr,
    method: &str,
    path: &str,
    body: &Value,
) -> Result<Value, Value> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {driver}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = BufReader::new(TcpStream::connect(driver).await.unwrap());
    stream.write_all(request.as_bytes()).await.unwrap();
    // The driver keeps its connections open, so only the length says where the answer ends.
    let (mut head, mut length) = (String::new(), 0);
    while head != "\r\n" {
        head.clear();
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "the driver hung up");
        let lower = head.to_ascii_lowercase();
        length =
            lower.strip_prefix("content-length:").map_or(length, |it| it.trim().parse().unwrap());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    let mut answer: Value = serde_json::from_slice(&body).unwrap();
    let value = answer["value"].take();
    if value.get("error").is_some() { Err(value) } else { Ok(value) }
}
