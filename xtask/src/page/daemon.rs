//! The daemon's page as its reader has it: open in a browser while calls go by on the wire.

use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use base64::Engine as _;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::chromium::Chromium;
use super::{CALLS, NUMBERS, accessible, hostile, nothing_injected};
use crate::children::{output, run as run_command, wait_for};
use crate::daemon::{METRICS, Metrics, exchange, json_lines, read_capture};
use crate::faults::{Plan, VERDICT};
use crate::lab::{AGENT_INTERFACE, Lab, Side, ip};
use crate::{ladder, recording, root, setup};

/// Of a machine that is busy with other things; nothing here waits as long.
const LIMIT: Duration = Duration::from_secs(180);
const TOKEN: &str = "0123456789abcdef-page";
/// Where a trace would be shown.
const TRACES: &str = "https://traces.example/trace/";
/// The daemon's and a reader's of what it has written: a verdict comes soon.
const IMPATIENT: [(&str, &str); 2] = [("SIPOBS_TIMERS__TARGET", "1s"), ("SIPOBS_TIMERS__GRACE", "1s")];
/// Verdicts that the page keeps.
const KEPT: usize = 10_000;
/// So many more push out those that came first.
const MORE: usize = 60;
/// Calls that come at once: a ring has room for them.
const AT_ONCE: usize = 1_000;
/// Lines of the list that are in the page, until more are asked for.
const STEP: usize = 200;

/// Runs all checks.
pub(crate) fn as_it_happens(sipobs: &Path) -> Result<()> {
    let lab = Lab::for_replay(&crate::scratch("test-page")?)?;
    let evidence = lab.dir.join("evidence");
    let mut plan = Plan::new(&lab, sipobs)
        // Of a collector that is not there: attempts have their traces all the same.
        .exporting("http://127.0.0.1:4318")
        .set("SIPOBS_PAGE__ENABLED", "true")
        .set("SIPOBS_PAGE__TRACE_URL", format!("{TRACES}{{trace_id}}"))
        .set("SIPOBS_METRICS__TOKEN", TOKEN)
        .set("SIPOBS_RECORDER__FOLDER", &evidence)
        .set("SIPOBS_RECORDER__AFTER", "1s");
    for (name, value) in IMPATIENT {
        plan = plan.set(name, value);
    }
    let subject = plan.start()?;
    only_with_the_token(&lab)?;

    let folder = lab.dir.join("browser");
    let saved = folder.join("saved");
    fs::create_dir_all(&saved)?;
    let axe = fs::read_to_string(setup::axe().context("axe-core is not there")?)?;
    let mut browser = Chromium::start_beside_daemon(&lab, &folder)?;
    let downloads = json!({ "behavior": "allow", "downloadPath": saved.display().to_string() });
    browser.command("Browser.setDownloadBehavior", &downloads)?;
    signed_in(&mut browser)?;

    let hostile = hostile(&folder)?;
    let mut all = listed(&read_capture(sipobs, &hostile)?);
    for call in CALLS {
        all += listed(&read_capture(sipobs, &livekit(call))?);
    }
    thread::scope(|scope| {
        let calls = scope.spawn(|| played(&lab, &hostile));
        let found = found_while_they_go_by(&mut browser, all).and_then(|()| drawn_live(&mut browser));
        calls.join().map_err(|_| anyhow!("the calls panicked"))??;
        found
    })?;
    let first = opened_and_downloaded(&mut browser, sipobs, &lab, &evidence, &saved)?;
    hostile_names(&mut browser, all)?;
    for scheme in ["light", "dark"] {
        browser.open_url(&page("/"))?;
        all_there(&mut browser, all)?;
        accessible(&mut browser, &axe, scheme).with_context(|| format!("the list, {scheme}"))?;
    }
    browser.open_url(&page(&format!("/verdict/{first}")))?;
    accessible(&mut browser, &axe, "light").context("a verdict")?;
    ten_thousand(&mut browser, &lab, all, &first)?;

    ensure!(browser.complaints.is_empty(), "the pages complain: {:#?}", browser.complaints);
    in_bad_health(&mut browser, &lab)?;
    subject.signal(Signal::TERM)?;
    let not_known = "document.querySelector('#state .bad')?.textContent.includes('does not answer') ?? false";
    browser.until("that the daemon is gone", not_known, LIMIT)?;
    // Its collector takes nothing.
    subject.over(LIMIT)?;
    println!("   what is wrong with the capture is told, and that nothing is known");
    Ok(())
}

/// Verdicts and flagged calls among what is said of a capture: what the page lists.
fn listed(lines: &[Value]) -> usize {
    let is_flagged =
        |call: &Value| call["refer_absent"] == "suspected" || call["refer_absent"] == "method_switched";
    let is_listed = |line: &&Value| line["kind"] == "transfer" || line["kind"] == "call" && is_flagged(line);
    lines.iter().filter(is_listed).count()
}

fn livekit(call: &str) -> PathBuf {
    root().join("sipobs/tests/captures/livekit").join(call).with_extension("pcap")
}

fn page(path: &str) -> String {
    format!("http://{METRICS}{path}")
}

fn ask(lab: &Lab, path: &str, authorization: &str) -> Result<(u16, String)> {
    exchange(lab, METRICS, &format!("GET {path} HTTP/1.0\r\nHost: {METRICS}\r\n{authorization}\r\n"))
}

fn bearer() -> String {
    format!("Authorization: Bearer {TOKEN}\r\n")
}

fn metrics(lab: &Lab) -> Result<Metrics> {
    let (status, text) = ask(lab, "/metrics", &bearer())?;
    ensure!(status == 200, "/metrics answers {status}");
    Metrics::parse(text)
}

/// The page takes what `/metrics` takes.
fn only_with_the_token(lab: &Lab) -> Result<()> {
    let basic = |pair: &str| {
        format!("Authorization: Basic {}\r\n", base64::engine::general_purpose::STANDARD.encode(pair))
    };
    let file = "/evidence/0123456789abcdef.pcapng";
    for (path, permitted) in [("/metrics", 200), ("/", 200), ("/verdict/0123456789abcdef", 404), (file, 404)]
    {
        for (authorization, wanted) in [
            (String::new(), 401),
            (basic(&format!("anybody:{TOKEN}x")), 401),
            (basic(TOKEN), 401),
            ("Authorization: Bearer 0123456789abcdef\r\n".to_owned(), 401),
            (basic(&format!("anybody:{TOKEN}")), permitted),
            (bearer(), permitted),
        ] {
            let (status, _) = ask(lab, path, &authorization)?;
            ensure!(status == wanted, "{path} answers {status} to {authorization:?}, and not {wanted}");
        }
    }
    let (status, _) = ask(lab, "/events", "")?;
    ensure!(status == 401, "/events answers {status} to anybody");
    println!("   the token is asked for, and taken as /metrics takes it");
    Ok(())
}

fn signed_in(browser: &mut Chromium) -> Result<()> {
    browser.sign_in(&page("/"), &["wrong"])?;
    let said = browser.evaluate("document.body.textContent")?;
    ensure!(said.as_str().is_some_and(|said| said.contains("metrics.token")), "refused: {said}");
    browser.complaints.retain(|complaint| !complaint.contains("401"));
    browser.sign_in(&page("/"), &["wrong", TOKEN])?;
    browser.until(
        "it is connected",
        "document.querySelector('output').textContent === '0 of 0 shown, 0 there'",
        LIMIT,
    )
}

/// The mission's calls, one after the other, as calls of one number that are up at once can't all be told apart; and those of a
/// hostile peer beside them.
fn played(lab: &Lab, hostile: &Path) -> Result<()> {
    let play = |capture: &Path, agent: &str| recording::replay_at(lab, capture, agent);
    thread::scope(|scope| {
        let beside = scope.spawn(|| play(hostile, "10.88.0.2/32"));
        let calls = CALLS.iter().try_for_each(|name| play(&livekit(name), "10.78.0.2/32"));
        beside.join().map_err(|_| anyhow!("a replay panicked"))??;
        calls
    })
}

fn filter(browser: &mut Chromium, text: &str) -> Result<u64> {
    let rows = browser.evaluate(&format!(
        "(() => {{ const form = document.querySelector('form'); form.elements.text.value = {};
          form.requestSubmit(); return document.querySelectorAll('#rows tr').length }})()",
        json!(text)
    ))?;
    rows.as_u64().context("no rows")
}

/// Waits until the list has so many verdicts.
fn all_there(browser: &mut Chromium, count: usize) -> Result<()> {
    let there = format!("/ {count} there$/.test(document.querySelector('output').textContent)");
    browser.until(&format!("{count} verdicts"), &there, LIMIT)
}

/// How the capture is and how transfers were tried changes with what goes by; each trunk has a picture of its own.
fn drawn_live(browser: &mut Chromium) -> Result<()> {
    let words = "document.querySelector('#chart-words')?.textContent ?? ''";
    let methods = format!("/REFER/.test({words}) && /second leg/.test({words})");
    browser.until("both methods are drawn", &methods, LIMIT)?;
    let state =
        |said: &str| format!("document.querySelector('#state').textContent.includes({})", json!(said));
    browser.until("the capture is well", &state("Capture: ok"), LIMIT)?;
    browser.evaluate(
        "(() => { const trunk = document.forms[0].elements.trunk; trunk.value = 'other';
          trunk.dispatchEvent(new Event('change', { bubbles: true })) })()",
    )?;
    browser.until(
        "a trunk's own",
        "document.querySelector('#time')?.textContent.includes('other')",
        LIMIT,
    )?;
    // The table stays open for its reader, whatever comes.
    browser.evaluate(
        "document.querySelector('#over details').open = true; document.forms[0].elements.trunk.value = ''",
    )?;
    browser.until(
        "all of them again",
        "!document.querySelector('#time').textContent.includes('other')",
        LIMIT,
    )?;
    ensure!(
        browser.evaluate("document.querySelector('#over details').open")? == true,
        "the table was closed"
    );
    println!("   how transfers were tried is drawn as they go by, by trunk; and how the capture is");
    Ok(())
}

/// The page is open, and nobody loads it anew.
fn found_while_they_go_by(browser: &mut Chromium, all: usize) -> Result<()> {
    browser.evaluate("globalThis.mine = 'the same page'")?;
    all_there(browser, all)?;
    for &(number, wanted) in NUMBERS {
        let found = filter(browser, number)?;
        ensure!(found == wanted, "{number}: {found} found, and not {wanted}");
    }
    ensure!(filter(browser, "")? == all as u64, "not all are shown without a filter");
    let shown = browser.evaluate("document.body.textContent")?;
    ensure!(shown.as_str().is_some_and(|shown| !shown.contains("510555")), "a number is shown whole");
    ensure!(browser.evaluate("mine")? == "the same page", "it was loaded anew");
    println!("   five calls: listed as they go by, found by number, masked");
    Ok(())
}

/// One of the calls in full, with its packets: the id of its attempt.
fn opened_and_downloaded(
    browser: &mut Chromium,
    sipobs: &Path,
    lab: &Lab,
    evidence: &Path,
    saved: &Path,
) -> Result<String> {
    ensure!(filter(browser, "***0125")? == 1, "not one call of this number");
    let to = browser.evaluate("document.querySelector('#rows a').getAttribute('href')")?;
    let id =
        to.as_str().and_then(|to| to.strip_prefix("/verdict/")).context("no link to a verdict")?.to_owned();
    let name = format!("{id}.pcapng");
    wait_for("its packets are written", LIMIT, || Ok(evidence.join(&name).exists().then_some(())))?;
    browser.follow("#rows a")?;
    let seen = browser.evaluate(
        "[document.querySelectorAll('article').length, document.querySelectorAll('article .l li').length > 5,
          [...document.querySelectorAll('article a[href]')].map((link) => link.getAttribute('href'))]",
    )?;
    let links: Vec<&str> = seen[2].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let is_trace = |link: &&str| {
        link.strip_prefix(TRACES)
            .is_some_and(|id| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    };
    ensure!(seen[0] == 1 && seen[1] == true, "the verdict in full: {seen}");
    ensure!(links.iter().any(is_trace), "no link to its trace: {links:?}");
    let packets = format!("/evidence/{name}");
    ensure!(links.contains(&&*packets), "no link to its packets: {links:?}");

    browser
        .evaluate(&format!("document.querySelector({}).click()", json!(format!("a[href='{packets}']"))))?;
    let file = saved.join(&name);
    wait_for("they are downloaded", LIMIT, || {
        // Events are read, so that the browser goes on.
        browser.evaluate("0")?;
        Ok(file.exists().then_some(()))
    })?;
    ensure!(fs::read(&file)? == fs::read(evidence.join(&name))?, "other bytes than were written");
    let told = fs::read_to_string(lab.dir.join("sipobs.jsonl"))?;
    let told = json_lines(told.rfind('\n').map_or("", |end| &told[..end]))?;
    let told = told
        .iter()
        .find(|line| line["kind"] == "transfer" && line["id"] == *id)
        .context("no record of it")?;
    let mut read = Command::new(sipobs);
    let read = json_lines(&output(read.args(["pcap", "--format", "jsonl"]).arg(&file).envs(IMPATIENT))?)?;
    let read: Vec<_> = read.iter().filter(|line| line["kind"] == "transfer").collect();
    let [read] = read[..] else { anyhow::bail!("{} transfers in {}", read.len(), file.display()) };
    for field in VERDICT {
        ensure!(
            read[*field] == told[*field],
            "{field} is {}, and was told as {}",
            read[*field],
            told[*field]
        );
    }
    println!("   one is opened, with its ladder and trace, and its packets, downloaded, say the same");
    Ok(id)
}

fn hostile_names(browser: &mut Chromium, all: usize) -> Result<()> {
    browser.open_url(&page("/"))?;
    all_there(browser, all)?;
    nothing_injected(browser, "#rows tr", &["#", "/"])?;
    let to = browser.evaluate(
        "[...document.querySelectorAll('#rows tr')].find((row) => row.textContent.includes('<script>'))
           .querySelector('a').getAttribute('href')",
    )?;
    browser.open_url(&page(to.as_str().context("no hostile call")?))?;
    nothing_injected(browser, "article", &["#", "/evidence/", TRACES])
}

/// What is watched by its name is gone.
fn in_bad_health(browser: &mut Chromium, lab: &Lab) -> Result<()> {
    ip(&["-n", lab.namespace(Side::Agent), "link", "delete", AGENT_INTERFACE])?;
    let told = format!(
        "document.querySelector('#state .bad')?.textContent.includes({}) ?? false",
        json!(format!("wanted by name, and not watched: {AGENT_INTERFACE}"))
    );
    browser.until("that an interface is gone", &told, LIMIT)
}

/// More than the page keeps: it stays as it was for its reader, and says what made way.
fn ten_thousand(browser: &mut Chromium, lab: &Lab, all: usize, first: &str) -> Result<()> {
    browser.open_url(&page("/"))?;
    all_there(browser, all)?;
    let mut judged = metrics(lab)?.sum("sipobs_transfer_attempts_total", &[])?;
    for first in (0..KEPT + MORE).step_by(AT_ONCE) {
        let some = first..(first + AT_ONCE).min(KEPT + MORE);
        judged += some.len() as u64;
        let capture = lab.dir.join("many.pcap");
        fs::write(&capture, ladder::capture(&redirects(some), "many")?)?;
        let mut tcpreplay = recording::replayer_at(lab, &capture, "10.88.0.2/32")?;
        tcpreplay.args(["--pps=2000", &capture.display().to_string()]).stdout(Stdio::null());
        run_command(&mut tcpreplay, LIMIT)?;
        // The next come once there is room for them, however slow this daemon is.
        wait_for("all are judged", LIMIT, || {
            // Events are read, so that the browser goes on.
            browser.evaluate("0")?;
            Ok((metrics(lab)?.sum("sipobs_transfer_attempts_total", &[])? == judged).then_some(()))
        })?;
    }
    let last = format!("m{}-many@ladder.example", KEPT + MORE - 1);
    all_there(browser, KEPT)?;
    browser.until(
        "the last one is shown",
        &format!("document.querySelector('#rows a') && {}", shows(&last)),
        LIMIT,
    )?;
    usable(browser, &last)?;

    // Read anew, it is the same.
    browser.open_url(&page("/"))?;
    all_there(browser, KEPT)?;
    usable(browser, &last)?;
    let said = browser.evaluate("document.querySelector('#kept').textContent")?;
    ensure!(said.as_str().is_some_and(|said| said.contains("older ones made way")), "{said}");
    ensure!(filter(browser, first)? == 0, "what made way is in the list");
    let removed = metrics(lab)?.sum("sipobs_page_verdicts_removed_total", &["reason=\"count\""])?;
    ensure!(removed == (all + MORE) as u64, "{removed} made way, and not {}", all + MORE);
    let (status, said) = ask(lab, &format!("/verdict/{first}"), &bearer())?;
    ensure!(status == 404 && said.contains("not kept any more"), "{status}: {said}");
    println!("   of {} attempts {KEPT} are kept, found, and {STEP} drawn", KEPT + MORE);
    Ok(())
}

/// The first row is of this call.
fn shows(call_id: &str) -> String {
    format!(
        "(() => {{ const form = document.querySelector('form'); form.elements.text.value = {}; form.requestSubmit();
          return document.querySelectorAll('#rows tr').length === 1 }})()",
        json!(call_id)
    )
}

fn usable(browser: &mut Chromium, last: &str) -> Result<()> {
    ensure!(filter(browser, last)? == 1, "{last} is not found");
    ensure!(filter(browser, "nobody's")? == 0, "nobody is found");
    ensure!(filter(browser, "")? == STEP as u64, "other than {STEP} lines are in the page");
    let elements = browser.evaluate(
        "(() => { document.querySelector('#more').click();
          return [document.querySelectorAll('#rows tr').length, document.querySelectorAll('*').length,
            document.querySelectorAll('option').length] })()",
    )?;
    ensure!(elements[0] == 2 * STEP, "{} lines after more were asked for", elements[0]);
    let all = elements[1].as_u64().context("no elements")?;
    ensure!(all < 5_000, "{all} elements for {} lines", 2 * STEP);
    Ok(())
}

/// Calls that are sent on by those who were called: of all attempts those with the fewest messages, and nothing in them failed.
fn redirects(which: Range<usize>) -> String {
    let mut text = String::from("party T 10.88.0.1:5060\nparty L 10.88.0.2:5060\n");
    for n in which {
        let _ = write!(
            text,
            "leg m{n} T L from=+15105550138 to=+1510557{n:05}\n\
             + m{n} T>L INVITE\n\
             + m{n} L>T 302 | Contact: <sip:+1510558{n:05}@10.88.0.4>\n\
             + m{n} T>L ACK\n"
        );
    }
    text
}
