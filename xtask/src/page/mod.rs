//! The report as its reader meets it: in a browser, by keyboard, without a network, and whatever peers put into their names.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use self::chromium::Chromium;
use crate::children::Running;
use crate::{ladder, root, setup};

mod chromium;
mod daemon;
mod web;

pub(crate) use self::daemon::as_it_happens;

const LIMIT: Duration = Duration::from_secs(120);

/// Calls as a platform's support gets them: a REFER to somebody busy, three second legs that failed each in its own way,
/// and a call that just ends.
const CALLS: [&str; 5] = [
    "refer_busy",
    "invite_second_leg_486_fast",
    "invite_second_leg_noanswer",
    "invite_second_leg_403",
    "plain_bye_livekit",
];

/// Numbers as somebody writes them who looks for one, and how many are found by each.
const NUMBERS: &[(&str, u64)] =
    &[("0177", 4), ("+1 510 555 0177", 4), ("***0125", 1), ("0125", 1), ("***9999", 0)];

/// Runs all checks.
pub(crate) fn run_all(sipobs: &Path) -> Result<()> {
    let folder = root().join("target/page");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let captures = root().join("sipobs/tests/captures/livekit");
    let five = CALLS.map(|name| captures.join(name).with_extension("pcap"));
    let hostile = hostile(&folder)?;

    let five = report(sipobs, &five, &folder.join("five.html"))?;
    let hostile = report(sipobs, &[hostile], &folder.join("hostile.html"))?;
    let many = report(sipobs, &[root().join("sipobs/tests/causes/input.pcap")], &folder.join("many.html"))?;
    let worked =
        ["refer_ok_twilio", "invite_second_leg_ok"].map(|name| captures.join(name).with_extension("pcap"));
    let worked = report(sipobs, &worked, &folder.join("worked.html"))?;
    let axe = fs::read_to_string(setup::axe().context("axe-core is not there")?)?;

    let mut browser = Chromium::start(&folder)?;
    browser.open(&five)?;
    found_by_number(&mut browser)?;
    opened_by_keyboard(&mut browser)?;
    printed(&mut browser)?;
    without_script(&mut browser, &five)?;
    browser.open(&hostile)?;
    nothing_injected(&mut browser, "article", &["#"])?;
    many_filtered(&mut browser, &many)?;
    for (page, scheme) in [(&five, "light"), (&five, "dark"), (&hostile, "light"), (&worked, "light")] {
        browser.open(page)?;
        accessible(&mut browser, &axe, scheme).with_context(|| format!("{} {scheme}", page.display()))?;
    }
    narrow(&mut browser, &five)?;
    web::in_the_browser_alone(&mut browser, sipobs, &axe, &folder)?;
    ensure!(browser.complaints.is_empty(), "the pages complain: {:#?}", browser.complaints);
    Ok(())
}

/// A capture of peers who write for the reader of a page.
fn hostile(folder: &Path) -> Result<PathBuf> {
    let capture = folder.join("hostile.pcap");
    fs::write(&capture, ladder::capture(include_str!("hostile.txt"), "\"><img/src=x/onerror=hacked=1>")?)?;
    Ok(capture)
}

fn report(sipobs: &Path, captures: &[PathBuf], page: &Path) -> Result<PathBuf> {
    let mut command = Command::new(sipobs);
    command.arg("pcap").args(captures).arg("--html").arg(page).env("TZ", "UTC");
    let mut program = Running::start("sipobs", command, &page.with_extension("log"))?;
    program.succeed(LIMIT)?;
    Ok(page.to_owned())
}

fn found_by_number(browser: &mut Chromium) -> Result<()> {
    for &(number, wanted) in NUMBERS {
        let look = format!(
            "(() => {{ const text = document.querySelector('input[type=search]'); text.value = {};
              document.querySelector('form').requestSubmit();
              return [...document.querySelectorAll('article')].filter((one) => !one.hidden).length }})()",
            json!(number)
        );
        let found = browser.evaluate(&look)?;
        ensure!(found == json!(wanted), "{number}: {found} found, and not {wanted}");
    }
    let all = browser.evaluate(
        "(() => { document.querySelector('input').value = ''; document.querySelector('form').requestSubmit();
          return document.querySelectorAll('article:not([hidden])').length })()",
    )?;
    ensure!(all == json!(CALLS.len()), "{all} calls are told");
    let text = browser.evaluate("document.querySelector('main').textContent")?;
    let text = text.as_str().unwrap_or_default();
    for cause in ["reported busy", "refused by policy", "ring timer", "access control list", "No transfer"] {
        ensure!(text.contains(cause), "{cause} is not told");
    }
    ensure!(!text.contains("510555"), "a number is shown whole");
    println!("   five calls: found by number, told with their causes, masked");
    Ok(())
}

/// From the top by Tab to the filter, to a call's ladder and to a message's headers.
fn opened_by_keyboard(browser: &mut Chromium) -> Result<()> {
    browser.evaluate("document.activeElement.blur(); scrollTo(0, 0)")?;
    tab_to(browser, "a.skip")?;
    tab_to(browser, "input[type=search]")?;
    browser.write("0125")?;
    browser.press("Enter", 13)?;
    let shown = browser.evaluate("document.querySelectorAll('article:not([hidden])').length")?;
    ensure!(shown == json!(1), "{shown} shown by keyboard");
    tab_to(browser, "article .w > summary")?;
    let state = "document.activeElement.parentElement.open";
    let before = browser.evaluate(state)?;
    browser.press("Enter", 13)?;
    ensure!(browser.evaluate(state)? != before, "Enter does not open the ladder");
    if before == json!(true) {
        browser.press("Enter", 13)?;
    }
    tab_to(browser, "article .l summary")?;
    let outline = browser.evaluate("getComputedStyle(document.activeElement).outlineStyle")?;
    ensure!(outline == json!("solid"), "the focus is not seen");
    browser.press("Enter", 13)?;
    let headers =
        browser.evaluate("document.activeElement.parentElement.querySelector('pre').textContent")?;
    let headers = headers.as_str().unwrap_or_default();
    ensure!(headers.contains("CSeq: ") && headers.contains("Via: "), "the message's headers: {headers}");
    println!("   by keyboard: filter, ladder, headers of a message");
    Ok(())
}

fn tab_to(browser: &mut Chromium, what: &str) -> Result<()> {
    const MOST: usize = 60;
    for _ in 0..MOST {
        browser.press("Tab", 9)?;
        if browser.evaluate(&format!("document.activeElement.matches({})", json!(what)))? == json!(true) {
            return Ok(());
        }
    }
    anyhow::bail!("Tab does not lead to {what}")
}

fn printed(browser: &mut Chromium) -> Result<()> {
    let pdf = browser.command("Page.printToPDF", &json!({ "printBackground": true }))?;
    let data = pdf["data"].as_str().unwrap_or_default();
    // `%PDF-` in base64, and more than an empty page.
    ensure!(data.starts_with("JVBERi") && data.len() > 20_000, "printed: {} bytes", data.len());
    println!("   printed to a PDF of {} KiB", data.len() * 3 / 4 / 1024);
    Ok(())
}

fn without_script(browser: &mut Chromium, page: &Path) -> Result<()> {
    browser.command("Emulation.setScriptExecutionDisabled", &json!({ "value": true }))?;
    browser.open(page)?;
    let seen = browser.evaluate(
        "[document.querySelector('form').hidden, document.querySelectorAll('article .l li').length > 20,
          document.querySelectorAll('article dl').length]",
    )?;
    ensure!(seen == json!([true, true, 4]), "without its script: {seen}");
    browser.command("Emulation.setScriptExecutionDisabled", &json!({ "value": false }))?;
    println!("   all is there without the script");
    Ok(())
}

/// Peers' names and phrases stand in what `told` selects as text, and links lead where they may.
fn nothing_injected(browser: &mut Chromium, told: &str, links: &[&str]) -> Result<()> {
    let seen = browser.evaluate(&format!(
        "({{ hacked: typeof hacked, scripts: document.scripts.length, styles: document.querySelectorAll('style').length,
            foreign: document.querySelectorAll('img,iframe,object,embed,svg[onload],[onerror],[onmouseover]').length,
            links: [...document.links].map((link) => link.getAttribute('href'))
              .filter((to) => !{}.some((begin) => to.startsWith(begin))),
            hidden: /[\\u200b-\\u200f\\u202a-\\u202e\\u2066-\\u2069]/.test(document.documentElement.outerHTML),
            shown: document.body.textContent.includes('<script>hacked=1</script>'),
            told: document.querySelectorAll({}).length }})",
        json!(links),
        json!(told)
    ))?;
    let wanted = json!({
        "hacked": "undefined", "scripts": 1, "styles": 1, "foreign": 0, "links": [], "hidden": false, "shown": true,
        "told": seen["told"],
    });
    ensure!(seen == wanted && seen["told"].as_u64() > Some(0), "hostile names: {seen}");
    println!("   hostile names and phrases are text");
    Ok(())
}

/// Of hundreds, those of an outcome, and none of a number that nobody has.
fn many_filtered(browser: &mut Chromium, page: &Path) -> Result<()> {
    browser.open(page)?;
    let seen = browser.evaluate(
        "(() => { const form = document.querySelector('form'), [text, outcome] = form.querySelectorAll('input,select');
          const filter = () => { form.requestSubmit();
            return [...document.querySelectorAll('article')].filter((one) => !one.hidden) };
          const all = filter().length; outcome.value = 'busy'; const busy = filter();
          text.value = '+15105559999'; const none = filter().length;
          return { many: all > 250, some: busy.length > 9 && busy.length < all,
            busy: busy.every((one) => one.dataset.o === 'busy'), none, said: form.querySelector('output').textContent } })()",
    )?;
    let said = seen["said"].as_str().unwrap_or_default().to_owned();
    let wanted = json!({ "many": true, "some": true, "busy": true, "none": 0, "said": said });
    ensure!(seen == wanted && said.starts_with("0 of "), "many: {seen}");
    println!("   hundreds are filtered: {said}");
    Ok(())
}

fn accessible(browser: &mut Chromium, axe: &str, scheme: &str) -> Result<()> {
    let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
    browser.command("Emulation.setEmulatedMedia", &media)?;
    let background = browser.evaluate("getComputedStyle(document.documentElement).backgroundColor")?;
    ensure!((background == json!("rgb(255, 255, 255)")) == (scheme == "light"), "{scheme}: {background}");
    // All that can be opened is looked at, too.
    browser.evaluate(axe)?;
    let found = browser.evaluate(
        "[...document.querySelectorAll('details')].slice(0, 40).forEach((one) => { one.open = true });
         axe.run().then((found) => found.violations.map(({ id, impact, nodes }) =>
           ({ id, impact, where: nodes.slice(0, 3).map((node) => node.html.slice(0, 200)) })))",
    )?;
    let is_serious = |one: &&Value| one["impact"] == json!("serious") || one["impact"] == json!("critical");
    let all = found.as_array().context("axe says nothing")?;
    let serious: Vec<_> = all.iter().filter(is_serious).collect();
    ensure!(serious.is_empty(), "axe-core finds {}", serde_json::to_string_pretty(&serious)?);
    println!("   axe-core, {scheme}: nothing serious; {} lesser", all.len());
    Ok(())
}

/// On a phone nothing is broader than the page.
fn narrow(browser: &mut Chromium, page: &Path) -> Result<()> {
    let phone = json!({ "width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": true });
    browser.command("Emulation.setDeviceMetricsOverride", &phone)?;
    browser.open(page)?;
    let broad = browser.evaluate("document.documentElement.scrollWidth")?;
    ensure!(broad == json!(390), "on a phone it is {broad} broad");
    println!("   fits on a phone");
    Ok(())
}
