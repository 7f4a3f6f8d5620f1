//! What a message has decided is said within two seconds of it: by a notice, or by the final record itself.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sipobs::capture::file::Reader;
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::record::{Attempt, Method, Outcome, Output};
use sipobs::timestamp::Timestamp;

/// What is promised.
const WITHIN: Duration = Duration::from_secs(2);
/// How often the daemon looks for what is due.
const TICK: Duration = Duration::from_millis(50);

/// What was said of an attempt, and when.
#[derive(Default)]
struct Said {
    /// The first notice of each outcome.
    notices: BTreeMap<Outcome, Timestamp>,
    /// Whether that was taken back.
    withdrawn: bool,
    settled: Option<(Timestamp, Box<Attempt>)>,
}

#[test]
fn what_a_message_decides_is_said_within_two_seconds() {
    let (mut late, mut in_time) = (Vec::new(), BTreeMap::<Method, u32>::new());
    let (mut not_told, mut withdrawn, mut forgotten) = (0, 0, Vec::new());
    for case in cases() {
        for (id, said) in said_of(&case) {
            let Some((at, attempt)) = said.settled else {
                // What looked like a second leg was a consultation, or none.
                if said.withdrawn {
                    withdrawn += 1;
                } else {
                    forgotten.push(format!("{} {id}", case.display()));
                }
                continue;
            };
            if !is_told(&attempt) {
                continue;
            }
            let first = said.notices.get(&attempt.outcome).copied().unwrap_or(at).min(at);
            if first <= attempt.ended + WITHIN {
                *in_time.entry(attempt.method).or_default() += 1;
            } else if attempt.method == Method::Invite {
                // Whose second leg it is, if any call's, is told by what becomes of both.
                not_told += 1;
            } else {
                late.push(format!(
                    "{} {id}: {} at {}, said at {first}",
                    case.display(),
                    attempt.outcome,
                    attempt.ended
                ));
            }
        }
    }
    assert!(late.is_empty(), "{}", late.join("\n"));
    assert!(forgotten.is_empty(), "said, and never again: {}", forgotten.join("\n"));
    assert!(withdrawn >= 5, "{withdrawn} were taken back");
    assert!(
        not_told * 3 <= in_time[&Method::Invite],
        "{not_told} second legs waited for their call: {in_time:?}"
    );
    assert!(in_time.keys().eq(Method::ALL), "every method: {in_time:?}");
}

/// Whether a message told the outcome, and not silence. Who hands a call over by BYE or Also never tells any.
fn is_told(attempt: &Attempt) -> bool {
    // Of an answer that nobody acknowledges, it is silence that tells.
    if attempt.diagnosis.first().is_some_and(|first| first.code == "contact_unreachable") {
        return false;
    }
    let never = matches!(attempt.method, Method::Also | Method::ReferBye);
    never || !matches!(attempt.outcome, Outcome::Unknown | Outcome::NotifyTimeout | Outcome::ReferUnanswered)
}

/// What the daemon would have said, and when.
fn said_of(case: &Path) -> BTreeMap<String, Said> {
    let file = Some(case.join("config.toml")).filter(|file| file.exists());
    let (mut config, _) = Config::load(file.as_deref(), []).unwrap();
    config.jsonl.notices = true;
    let mut engine = Engine::new(config.engine(), config.privacy().unwrap()).unwrap();
    let mut reader = Reader::open(case.join("input.pcap")).unwrap();
    let (mut now, mut said) = (None, BTreeMap::new());
    while let Some(frame) = reader.next().unwrap() {
        let mut at = now.unwrap_or(frame.time);
        while at < frame.time {
            engine.handle_timeout(at);
            hear(&mut engine, at, &mut said);
            at = at + TICK;
        }
        now = Some(frame.time);
        engine.frame(&frame);
        hear(&mut engine, frame.time, &mut said);
    }
    let end = now.unwrap_or_default();
    let mut at = end;
    while engine.poll_timeout().is_some() && at < end + Duration::from_secs(400) {
        at = at + TICK;
        engine.handle_timeout(at);
        hear(&mut engine, at, &mut said);
    }
    engine.finish(at);
    hear(&mut engine, at, &mut said);
    said
}

fn hear(engine: &mut Engine, now: Timestamp, said: &mut BTreeMap<String, Said>) {
    while let Some(output) = engine.poll_output() {
        match output {
            Output::Notice(notice) => {
                assert!(notice.time <= now, "said before it is known");
                let said = said.entry(notice.id.clone()).or_default();
                said.notices.entry(notice.outcome).or_insert(now);
                said.withdrawn |= notice.withdrawn;
            }
            Output::Transfer(attempt) => {
                let id = attempt.id.clone();
                said.entry(id).or_default().settled = Some((now, attempt));
            }
            Output::Call(_) | Output::Alert(_) => {}
        }
    }
}

fn cases() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut cases: Vec<_> = std::fs::read_dir(golden).unwrap().map(|case| case.unwrap().path()).collect();
    cases.retain(|case| case.join("input.pcap").exists());
    // Live, ticks tell the true time; in these the capture's clock lies.
    cases.retain(|case| !case.file_name().is_some_and(|name| name.to_string_lossy().starts_with("66")));
    cases.sort();
    cases
}
