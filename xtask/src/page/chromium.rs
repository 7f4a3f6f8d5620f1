//! Debian's Chromium without a window, driven over its DevTools protocol by two pipes: no port is open meanwhile.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::children::{Running, output, wait_for};
use crate::daemon::METRICS;
use crate::lab::{Lab, Side};
use crate::setup;

/// No command takes longer.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a page may load: itself, and what stands in it; and what the daemon gives whose page it is.
const OWN: [&str; 3] = ["file://", "data:", "blob:"];

/// A browser with one page.
pub(super) struct Chromium {
    // Ends with this.
    _process: Running,
    input: File,
    messages: Receiver<Value>,
    session: String,
    next: u64,
    /// Requests that left the page, and what its console and its policy complained of.
    pub(super) complaints: Vec<String>,
    loaded: bool,
    /// What its user types where a server asks for a password, one after the other; then he gives up.
    passwords: VecDeque<String>,
}

impl Chromium {
    /// Starts it, with what it keeps below `folder`.
    pub(super) fn start(folder: &Path) -> Result<Self> {
        Self::start_by(Command::new("sh"), folder)
    }

    /// The same beside a daemon.
    pub(super) fn start_beside_daemon(lab: &Lab, folder: &Path) -> Result<Self> {
        Self::start_by(lab.inside(Side::Agent, "sh"), folder)
    }

    fn start_by(mut shell: Command, folder: &Path) -> Result<Self> {
        let (to, from) = (folder.join("to-chromium"), folder.join("from-chromium"));
        output(Command::new("mkfifo").args([&to, &from]))?;
        let program = setup::find("chromium").context("chromium is not there")?;
        // The browser reads commands from 3, and writes answers to 4.
        shell.args(["-c", "exec \"$0\" \"$@\" 3<\"$TO\" 4>\"$FROM\""]).arg(program);
        shell.env("TO", &to).env("FROM", &from).env("HOME", folder).env("TZ", "UTC");
        shell.args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-pipe",
            "--no-first-run",
        ]);
        shell.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
        shell.arg(format!("--user-data-dir={}", folder.join("profile").display())).arg("about:blank");
        // For reading and writing, so that opening waits for nobody.
        let open = |path: &PathBuf| OpenOptions::new().read(true).write(true).open(path);
        let (input, answers) = (open(&to)?, open(&from)?);
        let process = Running::start("chromium", shell, &folder.join("chromium.log"))?;
        let mut browser = Self {
            _process: process,
            input,
            messages: listen(answers),
            session: String::new(),
            next: 0,
            complaints: Vec::new(),
            loaded: false,
            passwords: VecDeque::new(),
        };
        browser.attach()?;
        Ok(browser)
    }

    fn attach(&mut self) -> Result<()> {
        let made = self.command("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let target = json!({ "targetId": made["targetId"], "flatten": true });
        let attached = self.command("Target.attachToTarget", &target)?;
        attached["sessionId"].as_str().context("no session")?.clone_into(&mut self.session);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            self.command(&format!("{domain}.enable"), &json!({}))?;
        }
        Ok(())
    }

    /// Opens a file, and waits until it is loaded.
    pub(super) fn open(&mut self, page: &Path) -> Result<()> {
        self.open_url(&format!("file://{}", page.display()))
    }

    /// The same for any address.
    pub(super) fn open_url(&mut self, url: &str) -> Result<()> {
        self.loaded = false;
        let navigated = self.command("Page.navigate", &json!({ "url": url }))?;
        ensure!(navigated["errorText"].is_null(), "{url}: {}", navigated["errorText"]);
        self.wait_loaded()
    }

    /// Presses Enter on what this selects, which leads to another page, and waits until that is loaded.
    pub(super) fn follow(&mut self, link: &str) -> Result<()> {
        self.loaded = false;
        self.evaluate(&format!("document.querySelector({}).focus()", json!(link)))?;
        self.press("Enter", 13)?;
        self.wait_loaded()
    }

    fn wait_loaded(&mut self) -> Result<()> {
        while !self.loaded {
            let message = self.messages.recv_timeout(PATIENCE).context("the page is not loaded in time")?;
            self.note(&message);
        }
        Ok(())
    }

    /// Opens an address whose server asks for a password, and types these until one is taken.
    pub(super) fn sign_in(&mut self, url: &str, passwords: &[&str]) -> Result<()> {
        self.passwords = passwords.iter().map(|&password| password.to_owned()).collect();
        self.command("Fetch.enable", &json!({ "handleAuthRequests": true }))?;
        let opened = self.open_url(url);
        self.command("Fetch.disable", &json!({}))?;
        opened
    }

    /// Asks until an expression is true.
    pub(super) fn until(&mut self, what: &str, expression: &str, limit: Duration) -> Result<()> {
        wait_for(what, limit, || Ok((self.evaluate(expression)? == json!(true)).then_some(())))
    }

    /// What an expression gives.
    pub(super) fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let how = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut result = self.command("Runtime.evaluate", &how)?;
        ensure!(result["exceptionDetails"].is_null(), "{expression}: {}", result["exceptionDetails"]);
        Ok(result["result"]["value"].take())
    }

    /// Presses a key that does not write: `Tab`, `Enter`.
    pub(super) fn press(&mut self, key: &str, code: u32) -> Result<()> {
        let text = if key == "Enter" { "\r" } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text,
            });
            self.command("Input.dispatchKeyEvent", &event)?;
        }
        Ok(())
    }

    /// Writes into what has the focus.
    pub(super) fn write(&mut self, text: &str) -> Result<()> {
        self.command("Input.insertText", &json!({ "text": text })).map(drop)
    }

    /// Sends a command and waits for its answer.
    pub(super) fn command(&mut self, method: &str, params: &Value) -> Result<Value> {
        let id = self.send(method, params)?;
        loop {
            let mut message =
                self.messages.recv_timeout(PATIENCE).with_context(|| format!("{method}: no answer"))?;
            if message["id"] == json!(id) {
                if !message["error"].is_null() {
                    bail!("{method}: {}", message["error"]);
                }
                return Ok(message["result"].take());
            }
            self.note(&message);
        }
    }

    /// Sends a command, and gives its number.
    fn send(&mut self, method: &str, params: &Value) -> Result<u64> {
        self.next += 1;
        let mut command = json!({ "id": self.next, "method": method, "params": params });
        if !self.session.is_empty() {
            command["sessionId"] = json!(self.session);
        }
        let mut bytes = serde_json::to_vec(&command)?;
        bytes.push(0);
        self.input.write_all(&bytes)?;
        Ok(self.next)
    }

    /// Keeps what an event complains of, and answers what it asks for.
    fn note(&mut self, message: &Value) {
        let params = &message["params"];
        match message["method"].as_str() {
            Some("Page.loadEventFired") => self.loaded = true,
            Some("Network.requestWillBeSent") => {
                let url = params["request"]["url"].as_str().unwrap_or_default();
                let is_daemons = url.strip_prefix("http://").is_some_and(|url| url.starts_with(METRICS));
                if !is_daemons && !OWN.iter().any(|own| url.starts_with(own)) {
                    self.complaints.push(format!("request to {url}"));
                }
            }
            // That the browser is gone, the next command tells.
            Some("Fetch.requestPaused") => {
                let _ = self.send("Fetch.continueRequest", &json!({ "requestId": params["requestId"] }));
            }
            Some("Fetch.authRequired") => {
                let given = self.passwords.pop_front();
                let answer = given.map_or_else(
                    || json!({ "response": "CancelAuth" }),
                    |password| json!({ "response": "ProvideCredentials", "username": "anybody", "password": password }),
                );
                let how = json!({ "requestId": params["requestId"], "authChallengeResponse": answer });
                let _ = self.send("Fetch.continueWithAuth", &how);
            }
            Some("Runtime.exceptionThrown") => {
                self.complaints.push(format!("exception: {}", params["exceptionDetails"]));
            }
            Some("Runtime.consoleAPICalled") => self.complaints.push(format!("console: {}", params["args"])),
            Some("Log.entryAdded") => {
                self.complaints.push(format!("log: {} {}", params["entry"]["text"], params["entry"]["url"]));
            }
            _ => {}
        }
    }
}

/// What it says, each message ended by a zero.
fn listen(answers: File) -> Receiver<Value> {
    let (send, messages) = mpsc::channel();
    thread::spawn(move || {
        let mut answers = BufReader::new(answers);
        let mut bytes = Vec::new();
        while answers.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
            bytes.pop();
            let Ok(message) = serde_json::from_slice(&bytes) else { return };
            if send.send(message).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    messages
}
