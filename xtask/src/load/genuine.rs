//! Calls whose transfers are known: golden ladders, each played many times over with numbers and Call-IDs of its
//! own, and what must be said of each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::daemon::json_lines;
use crate::{ladder, root, wire};

/// The stories that a voice agent's transfers have, over UDP and TCP.
pub(super) const STORIES: &[&str] = &[
    "01_486_fast",
    "01b_486_geo_32205",
    "03_403_bare",
    "03b_403_32201",
    "04_no_refer",
    "05_fixed_optimistic",
    "06_trunk_success",
    "06d_refer_over_ipv6_tcp",
    "07_busy_then_retry",
    "08_refused_403",
    "08d_refused_603",
    "12_optimistic_overridden",
    "13_attended",
    "14_refer_sub_false",
    "15_refer_to_bye",
    "15b_caller_hangs_up",
    "15e_split_over_segments",
    "17_second_leg_ok",
    "17d_second_leg_abandoned",
    "20_through_proxy",
];

/// Those of them in which a REFER and what is said of it are all there is.
pub(super) const REFERS: &[&str] = &[
    "05_fixed_optimistic",
    "06_trunk_success",
    "06d_refer_over_ipv6_tcp",
    "07_busy_then_retry",
    "08_refused_403",
    "08d_refused_603",
    "14_refer_sub_false",
    "15_refer_to_bye",
    "15e_split_over_segments",
    "20_through_proxy",
];

/// The agent in the ladders.
pub(super) const AGENT: &str = "10.88.0.2/32";

/// What must be right of an attempt. The rest (numbers, times, frame numbers) differs from copy to copy.
const OF_TRANSFER: &[&str] = &[
    "call_id",
    "method",
    "type",
    "outcome",
    "status",
    "evidence",
    "target_call_id",
    "refer_cseq",
    "quality",
];
/// And of a leg. Whether the absence of a REFER is worth a word depends on the other calls.
const OF_CALL: &[&str] = &["call_id", "status", "ended_by", "transfers"];

/// The calls, as frames and as the truth of them.
pub(super) struct Calls {
    /// Time in microseconds, and the frame.
    pub(super) frames: Vec<(u64, Vec<u8>)>,
    /// By the name in its Call-IDs: the attempts and the legs of each call.
    truth: BTreeMap<String, Vec<String>>,
    attempts: usize,
}

/// How what was said compares with the truth.
pub(super) struct Comparison {
    pub(super) right: usize,
    /// What was said of the others, a line each.
    pub(super) wrong: Vec<String>,
    /// How many of these say that calls were let go of for want of memory.
    pub(super) excused: usize,
    /// Attempts of calls that are none of ours.
    pub(super) others: usize,
}

impl Calls {
    /// `count` calls of these stories that begin at even distances within `seconds`.
    pub(super) fn spread(cases: &[&'static str], count: usize, seconds: u64) -> Result<Self> {
        let mut calls = Self { frames: Vec::new(), truth: BTreeMap::new(), attempts: 0 };
        let sources = cases.iter().map(|case| Source::read(case)).collect::<Result<Vec<_>>>()?;
        for number in 0..count {
            let start = seconds * 1_000_000 * number as u64 / count as u64;
            calls.add(&sources[number % sources.len()], number, start)?;
        }
        Ok(calls)
    }

    pub(super) fn len(&self) -> usize {
        self.truth.len()
    }

    /// How many attempts there are to find.
    pub(super) const fn attempts(&self) -> usize {
        self.attempts
    }

    /// Holds the truth against what was said.
    pub(super) fn compare(&self, lines: &[Value]) -> Comparison {
        let mut said: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut excused = BTreeSet::new();
        let mut others = 0;
        for line in lines {
            let Some(told) = told(line) else { continue };
            // The call of a leg that is tied to none is that leg's own.
            let call_id = line["call_id"].as_str().or(line["target_call_id"].as_str());
            match call_id.and_then(name_in).filter(|name| self.truth.contains_key(*name)) {
                Some(name) => {
                    said.entry(name).or_default().push(told);
                    if line["quality"]["evicted_calls"].as_u64().is_some_and(|calls| calls > 0) {
                        excused.insert(name);
                    }
                }
                None => others += usize::from(line["kind"] == "transfer"),
            }
        }
        let mut comparison = Comparison { right: 0, wrong: Vec::new(), excused: 0, others };
        for (name, truth) in &self.truth {
            let mut said = said.remove(name.as_str()).unwrap_or_default();
            said.sort();
            if said == *truth {
                comparison.right += 1;
            } else {
                comparison.excused += usize::from(excused.contains(name.as_str()));
                comparison.wrong.push(format!("{name}: {said:?} instead of {truth:?}"));
            }
        }
        comparison
    }

    fn add(&mut self, source: &Source, number: usize, start: u64) -> Result<()> {
        let name = format!("{}-{number:05}", source.case);
        let text = source.text_of(number, &name);
        let file = ladder::capture(&text, &name).with_context(|| source.case.to_owned())?;
        self.frames.extend(wire::frames(&file).map(|(time, frame)| (start + time, frame.to_vec())));
        let expected = json_lines(&source.expected.replace(source.case, &name))?;
        self.attempts += expected.iter().filter(|line| line["kind"] == "transfer").count();
        let mut truth: Vec<_> = expected.iter().filter_map(told).collect();
        truth.sort();
        self.truth.insert(name, truth);
        Ok(())
    }
}

/// A golden case.
struct Source {
    case: &'static str,
    ladder: String,
    expected: String,
}

impl Source {
    fn read(case: &'static str) -> Result<Self> {
        let dir = root().join("sipobs/tests/golden").join(case);
        let read = |name: &str| {
            let path = dir.join(name);
            fs::read_to_string(&path).with_context(|| path.display().to_string())
        };
        let source = Self { case, ladder: read("ladder.txt")?, expected: read("expected.jsonl")? };
        ensure!(source.ladder.contains(LINE), "{case} has other numbers than {LINE}…");
        Ok(source)
    }

    /// The ladder with Call-IDs and numbers that no other copy has; over TCP with a trunk of its own, too, as two
    /// connections can't have the same ends.
    fn text_of(&self, number: usize, name: &str) -> String {
        let text = self.ladder.replace(self.case, name).replace(LINE, &format!("1{:06}", 200_000 + number));
        if !text.lines().any(|line| line.starts_with("leg ") && line.contains(" tcp")) {
            return text;
        }
        let (high, low) = (1 + number / 250, 1 + number % 250);
        text.replace("10.88.0.1:", &format!("10.88.{high}.{low}:"))
            .replace("[2001:db8::1]", &format!("[2001:db8::{high}:{low}]"))
    }
}

/// How the numbers of the ladders begin.
const LINE: &str = "1510555";

/// How the Call-IDs of the ladders end.
pub(super) const MARK: &str = "@ladder.example";

/// The case and number in a Call-ID `leg-CASE-NUMBER@ladder.example`.
fn name_in(call_id: &str) -> Option<&str> {
    Some(call_id.split_once('-')?.1.split_once('@')?.0)
}

/// What must be right of a line, if it is of an attempt or a leg.
fn told(line: &Value) -> Option<String> {
    let fields = match line["kind"].as_str()? {
        "transfer" => OF_TRANSFER,
        "call" => OF_CALL,
        _ => return None,
    };
    let mut line = line.clone();
    // What else was let go of between the same hosts makes no verdict wrong.
    line["quality"].as_object_mut().and_then(|quality| quality.remove("evicted_calls"));
    let values: Vec<_> = fields.iter().map(|field| line[*field].to_string()).collect();
    Some(values.join(" "))
}
