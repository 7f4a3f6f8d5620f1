//! The diagnosis table, row by row: `tests/causes/ladders.txt` has a ladder of a few lines for each, and the real program
//! reads the capture that `cargo xtask ladders` makes of them all.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What a case says: `case NAME: CODE beside` or `case NAME: CODE fault=WORD`.
struct Case<'a> {
    name: &'a str,
    code: &'a str,
    beside: bool,
    fault: Option<&'a str>,
}

#[test]
fn every_case_leads_to_its_cause() {
    let (ladders, transfers) = (read("ladders.txt"), transfers());
    let mut wrong = Vec::new();
    for case in cases(&ladders) {
        if let Err(why) = case.check(transfers.get(case.name).map_or(&[], Vec::as_slice)) {
            wrong.push(format!("{}: {why}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_row_is_led_to() {
    let (ladders, transfers) = (read("ladders.txt"), transfers());
    let mut told = Vec::new();
    for case in cases(&ladders) {
        let causes = transfers.get(case.name).into_iter().flatten().flat_map(causes);
        told.extend(causes.filter(|cause| cause["code"] == case.code).map(words));
    }
    let rows: toml::Table = include_str!("../src/transfer/diagnosis/diagnosis.toml").parse().unwrap();
    let rows = rows["row"].as_array().unwrap();
    let missing: Vec<_> = rows
        .iter()
        .map(|row| ["code", "cause"].map(|field| row[field].as_str().unwrap().to_owned()))
        .filter(|row| !told.contains(row) && !IN_GOLDEN.contains(&row[0].as_str()))
        .collect();
    assert!(rows.len() >= 150, "only {} rows", rows.len());
    assert!(missing.is_empty(), "no case for {missing:#?}");
}

/// Rows that need a configuration, several calls or a damaged capture (`04b_method_switched`, `92_whose_leg`,
/// `93_notify_cut_off` and `r_fragments_lost` of the golden cases have those), and the one for what no other row knows, which
/// the table's own tests have.
const IN_GOLDEN: &[&str] =
    &["method_switched", "capture_incomplete", "message_cut", "unexplained", "whose_leg"];

impl Case<'_> {
    /// Some attempt of the case must say it.
    fn check(&self, transfers: &[Value]) -> Result<(), String> {
        let wrong: Vec<_> = transfers.iter().filter_map(|transfer| self.check_one(transfer).err()).collect();
        match transfers {
            [] => Err("no transfer was seen".to_owned()),
            _ if wrong.len() < transfers.len() => Ok(()),
            _ => Err(wrong.join("; ")),
        }
    }

    fn check_one(&self, transfer: &Value) -> Result<(), String> {
        let codes: Vec<_> = causes(transfer).map(|cause| cause["code"].as_str().unwrap()).collect();
        let told = if self.beside { codes.contains(&self.code) } else { codes.first() == Some(&self.code) };
        let outcome = &transfer["outcome"];
        if !told {
            return Err(format!("{} expected, {codes:?} found; {outcome} {}", self.code, transfer["status"]));
        }
        match self.fault {
            Some(fault) if transfer["fault"] != fault => {
                Err(format!("fault {fault} expected, {} found", transfer["fault"]))
            }
            _ => Ok(()),
        }
    }
}

fn cases(ladders: &str) -> impl Iterator<Item = Case<'_>> {
    ladders.lines().filter_map(|line| line.strip_prefix("case ")).map(|line| {
        let (name, rest) = line.split_once(": ").expect("case NAME: CODE");
        let mut words = rest.split(' ');
        let code = words.next().expect("a code");
        let (mut beside, mut fault) = (false, None);
        for word in words {
            match word.strip_prefix("fault=") {
                Some(word) => fault = Some(word),
                None if word == "beside" => beside = true,
                None => panic!("{name}: what is {word}?"),
            }
        }
        Case { name, code, beside, fault }
    })
}

/// What the program says of each case's attempts, by the case's name.
fn transfers() -> BTreeMap<String, Vec<Value>> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/causes/input.pcap");
    let output = program.args(["pcap", "--format", "jsonl"]).arg(input).output().expect("the program runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut transfers = BTreeMap::<_, Vec<_>>::new();
    for transfer in lines.filter(|line| line["kind"] == "transfer") {
        transfers.entry(name(&transfer).expect("a case's Call-ID")).or_default().push(transfer);
    }
    transfers
}

/// The case's name, from the Call-ID `a-NAME@ladder.example`.
fn name(transfer: &Value) -> Option<String> {
    let call_id = transfer["call_id"].as_str().or(transfer["target_call_id"].as_str())?;
    let (_, name) = call_id.strip_suffix("@ladder.example")?.split_once('-')?;
    Some(name.to_owned())
}

fn causes(transfer: &Value) -> impl Iterator<Item = &Value> {
    transfer["diagnosis"].as_array().expect("a list").iter()
}

fn words(cause: &Value) -> [String; 2] {
    ["code", "cause"].map(|field| cause[field].as_str().unwrap().to_owned())
}

fn read(file: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/causes").join(file)).unwrap()
}
