//! The cases of the diagnosis table: `tests/causes/ladders.txt`, whose head explains its form, → one capture of them all.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use super::script::Script;

/// From one case to the next: more than any timer lasts.
const APART: u64 = 1_000_000_000;
/// When a case's lines begin, in seconds after its call.
const BEGIN: u64 = 20;
/// Where a target is that a line does not name.
const TARGET: &str = "<sip:+15105550177@10.88.0.1>";

/// The capture of every case in `text`.
pub(super) fn capture(text: &str) -> Result<Vec<u8>> {
    let mut script = Script::new("")?;
    for (number, (name, lines)) in cases(text)?.into_iter().enumerate() {
        script.next_case(name, u64::try_from(number)? * APART);
        write(&mut script, &lines).with_context(|| format!("case {name}"))?;
    }
    script.finish()
}

/// Each case's name and lines, in order.
fn cases(text: &str) -> Result<Vec<(&str, Vec<&str>)>> {
    let mut cases: Vec<(&str, Vec<&str>)> = Vec::new();
    let mut names = BTreeMap::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(rest) = line.strip_prefix("case ") {
            let (name, _) = rest.split_once(':').context("case NAME: CODE")?;
            if names.insert(name, ()).is_some() {
                bail!("two cases are called {name}");
            }
            cases.push((name, Vec::new()));
        } else {
            cases.last_mut().context("a line before the first case")?.1.push(line);
        }
    }
    Ok(cases)
}

fn write(script: &mut Script, lines: &[&str]) -> Result<()> {
    // What every message of a party says is known before its first one.
    let (first, rest): (Vec<&str>, Vec<&str>) = lines.iter().partition(|line| line.starts_with("header "));
    let parties = ["party T 10.88.0.1:5060", "party L 10.88.0.2:5060"];
    let call = "leg a T L from=+15105550138 to=+15105550100 confirmed";
    for line in parties.into_iter().chain(first).chain([call]) {
        script.line(line)?;
    }
    script.wait_until(BEGIN * 1_000_000);
    let mut hung_up = false;
    for line in rest {
        hung_up |= line == "end" || line.contains(" a T>L BYE") || line.contains(" a L>T BYE");
        for line in long(line) {
            script.line(&line).with_context(|| line.clone())?;
        }
    }
    if !hung_up {
        for line in ["+10 a T>L BYE", "+ a L>T 200/BYE"] {
            script.line(line)?;
        }
    }
    Ok(())
}

/// What a short line stands for; any other is itself.
fn long(line: &str) -> Vec<String> {
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    let (word, after) = word.split_once('@').unwrap_or((word, "0.4"));
    let owned = |lines: &[&str]| lines.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
    let dial = ["leg b L T from=+15105550100 to=+15105550177", "+2 b L>T INVITE sdp", "+ b T>L 100"];
    let (to, answer) = match rest.strip_prefix("to=").and_then(|rest| rest.split_once(' ')) {
        Some((to, answer)) => (to, answer),
        None => (TARGET, rest),
    };
    match word {
        "end" => vec![],
        "refused" => [owned(&dial), vec![format!("+{after} b T>L {rest}"), "+ b L>T ACK".into()]].concat(),
        "rang" => {
            let (seconds, answer) = rest.split_once(' ').unwrap_or((rest, "486"));
            let rest = ["+0.8 b T>L 180".into(), format!("+{seconds} b T>L {answer}"), "+ b L>T ACK".into()];
            [owned(&dial), rest.to_vec()].concat()
        }
        "given_up" => {
            // From the INVITE, and 180 came 0.8 s after the 100.
            let seconds: f64 = rest.parse().unwrap_or(30.0);
            let rest = [
                "+0.8 b T>L 180".into(),
                format!("+{:.3} b L>T CANCEL", seconds - 0.801),
                "+ b T>L 200/CANCEL".into(),
                "+ b T>L 487/INVITE".into(),
                "+ b L>T ACK".into(),
            ];
            [owned(&dial), rest.to_vec()].concat()
        }
        "refer" => vec![format!("+ a L>T REFER | Refer-To: {to}"), format!("+0.1 a T>L {answer}")],
        "told" => {
            let state = "Event: refer | Subscription-State: terminated;reason=noresource";
            let (answer, headers) = answer.split_once(" | ").unwrap_or((answer, ""));
            let headers = if headers.is_empty() { String::new() } else { format!(" | {headers}") };
            vec![
                format!("+ a L>T REFER | Refer-To: {to}"),
                "+0.1 a T>L 202".into(),
                format!("+0.1 a T>L NOTIFY frag={answer} | {state}{headers}"),
                "+ a L>T 200".into(),
            ]
        }
        _ => vec![line.to_owned()],
    }
}
