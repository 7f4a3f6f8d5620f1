//! The page that reads captures in the browser alone: the same bytes as the program writes them in a terminal.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::json;

use super::chromium::Chromium;
use super::{CALLS, accessible};
use crate::children::output;
use crate::{root, web};

/// A program that was built for tests takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Chooses captures, reads their report, and saves what belongs to it.
pub(super) fn in_the_browser_alone(
    browser: &mut Chromium,
    sipobs: &Path,
    axe: &str,
    folder: &Path,
) -> Result<()> {
    let page = folder.join("web.html");
    web::write(&page, &web::program(false)?)?;
    let saved = folder.join("saved");
    fs::create_dir_all(&saved)?;
    browser.command(
        "Browser.setDownloadBehavior",
        &json!({ "behavior": "allow", "downloadPath": saved.display().to_string() }),
    )?;
    browser.open(&page)?;
    accessible(browser, axe, "light").context("the page before it has read anything")?;

    let captures = root().join("sipobs/tests/captures/livekit");
    let names = CALLS.map(|name| format!("{name}.pcap"));
    choose(browser, &names.each_ref().map(|name| captures.join(name)))?;
    explain(browser)?;
    let native = |arguments: &[&str]| {
        let mut command = Command::new(sipobs);
        command.arg("pcap").args(arguments).args(&names).current_dir(&captures).env("TZ", "UTC");
        output(&mut command)
    };
    let shown = browser.evaluate("document.querySelector('#report').srcdoc")?;
    let shown = shown.as_str().unwrap_or_default();
    if shown != native(&["--html", "-"])? {
        let other = folder.join("other.html");
        fs::write(&other, shown)?;
        bail!("the browser's report is another than that of sipobs: {}", other.display());
    }
    accessible(browser, axe, "dark").context("the page with a report")?;
    let drawn = browser.evaluate("document.querySelector('#report').getBoundingClientRect().height")?;
    ensure!(drawn.as_f64().is_some_and(|height| height > 200.0), "the report is not seen");

    let text = save(browser, &saved, "text", "sipobs-report.md")?;
    ensure!(fs::read_to_string(text)? == native(&["--md", "-"])?, "the browser's text is another");
    let packets = save(browser, &saved, "packets", "sipobs.pcapng")?;
    let redacted = save(browser, &saved, "redacted", "sipobs-redacted.pcapng")?;
    for written in [&packets, &redacted] {
        let verdicts = output(Command::new(sipobs).args(["pcap", "--format", "jsonl"]).arg(written))?;
        let failed = verdicts.matches("\"kind\":\"transfer\"").count();
        ensure!(failed == CALLS.len() - 1, "{} transfers in {}", failed, written.display());
    }
    ensure!(
        fs::read(&packets)?.windows(6).any(|bytes| bytes == b"510555"),
        "its packets are not as they were"
    );
    ensure!(!fs::read(&redacted)?.windows(6).any(|bytes| bytes == b"510555"), "somebody is named");

    one_call(browser)?;
    no_capture(browser, folder)?;
    println!(
        "   in the browser alone: report, text and packets as in a terminal; one call; a file that is no capture"
    );
    Ok(())
}

fn one_call(browser: &mut Chromium) -> Result<()> {
    browser.evaluate("document.querySelector('#number').value = '0125'")?;
    explain(browser)?;
    let shown = browser.evaluate("document.querySelector('#report').srcdoc.match(/<article/g).length")?;
    ensure!(shown == json!(1), "{shown} calls of one number");
    Ok(())
}

fn no_capture(browser: &mut Chromium, folder: &Path) -> Result<()> {
    let none = folder.join("none.txt");
    fs::write(&none, "<script>hacked=1</script> is no capture")?;
    choose(browser, &[none])?;
    explain(browser)?;
    let said = browser.evaluate("document.querySelector('#said').textContent")?;
    ensure!(
        said.as_str().is_some_and(|said| said.contains("none.txt")),
        "nothing is said of the file: {said}"
    );
    ensure!(
        browser.evaluate("document.querySelector('#state').textContent")?
            == json!("Not all of it could be done: see below."),
        "all is said to be well"
    );
    Ok(())
}

fn choose(browser: &mut Chromium, files: &[PathBuf]) -> Result<()> {
    let input = json!({ "expression": "document.querySelector('#files')" });
    let input = browser.command("Runtime.evaluate", &input)?;
    let files: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let chosen = json!({ "files": files, "objectId": input["result"]["objectId"] });
    browser.command("DOM.setFileInputFiles", &chosen).map(drop)
}

fn explain(browser: &mut Chromium) -> Result<()> {
    browser.evaluate("document.querySelector('#ask').requestSubmit()")?;
    done(browser)
}

/// Waits until the page does nothing.
fn done(browser: &mut Chromium) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if browser.evaluate("document.querySelector('#cancel').hidden")? == json!(true) {
            let said = browser.evaluate(
                "document.querySelector('#state').textContent + ' ' + document.querySelector('#said').textContent",
            )?;
            let failed = said.as_str().is_none_or(|said| said.starts_with("It failed."));
            ensure!(!failed, "{said} {:?}", browser.complaints);
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
    bail!("the page is not done: {}", browser.evaluate("document.querySelector('#state').textContent")?)
}

fn save(browser: &mut Chromium, folder: &Path, what: &str, name: &str) -> Result<PathBuf> {
    browser.evaluate(&format!("document.querySelector('[data-save={what}]').click()"))?;
    done(browser)?;
    let file = folder.join(name);
    let end = Instant::now() + PATIENCE;
    while !file.exists() {
        let said = browser.evaluate("document.querySelector('#said').textContent")?;
        ensure!(Instant::now() < end, "{name} is not saved: {said}");
        thread::sleep(Duration::from_millis(50));
    }
    Ok(file)
}
