//! `sipobs mcp` as a client has it: JSON-RPC on the program's own standard input and output.

#![cfg(feature = "mcp")]
#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

mod common;
use common::{first_frames, five};

struct Client {
    child: Child,
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    id: u64,
}

impl Client {
    /// A client that has introduced itself.
    fn of(files: &[PathBuf], args: &[&str]) -> Self {
        let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
        program.arg("mcp").args(args).args(files).env("TZ", "UTC");
        let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (to, from) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut client = Self { child, to, from, id: 0 };
        let me = json!({
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": { "name": "test", "version": "0" },
        });
        let server = client.ask("initialize", &me)["result"].clone();
        assert_eq!(server["serverInfo"]["name"], "sipobs", "{server}");
        assert!(server["capabilities"]["tools"].is_object(), "{server}");
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        client
    }

    fn send(&mut self, message: &Value) {
        let to = self.to.as_mut().unwrap();
        writeln!(to, "{message}").unwrap();
        to.flush().unwrap();
    }

    /// The answer to a request, as it came.
    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.id += 1;
        let id = self.id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let mut line = String::new();
            assert!(self.from.read_line(&mut line).unwrap() > 0, "{method}: no answer");
            let answer: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
            assert_eq!(answer["jsonrpc"], "2.0");
            if answer["id"] == id {
                return answer;
            }
        }
    }

    /// What a tool says, and whether it is a complaint.
    fn tool(&mut self, name: &str, arguments: &Value) -> (String, bool) {
        let answer = self.ask("tools/call", &json!({ "name": name, "arguments": arguments }));
        let result = &answer["result"];
        let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
        (text.to_owned(), result["isError"] == true)
    }

    fn list(&mut self, name: &str, arguments: &Value) -> Value {
        let (text, is_error) = self.tool(name, arguments);
        assert!(!is_error, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// Nobody asks any more.
    fn end(mut self) -> Option<i32> {
        self.to = None;
        self.child.wait().unwrap().code()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

fn transfers(files: &[PathBuf], args: &[&str]) -> Vec<Value> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    let output = program.args(["pcap", "--format", "jsonl"]).args(files).args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == "transfer").collect()
}

#[test]
fn transfers_are_listed_found_and_explained_masked() {
    let all = transfers(&five(), &[]);
    let mut client = Client::of(&five(), &[]);
    let tools = client.ask("tools/list", &json!({}))["result"]["tools"].clone();
    let names: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["list_transfers", "find_calls", "explain_call", "capture_totals"]);
    for tool in tools.as_array().unwrap() {
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
        assert_eq!(tool["inputSchema"]["additionalProperties"], false, "{tool}");
    }

    let listed = client.list("list_transfers", &json!({}));
    assert_eq!((&listed["total"], &listed["next_offset"]), (&json!(all.len()), &Value::Null));
    for (entry, record) in listed["entries"].as_array().unwrap().iter().zip(&all) {
        for field in ["id", "outcome", "status", "fault", "trunk"] {
            assert_eq!(entry[field], record[field], "{field}");
        }
    }
    let failed = client.list("list_transfers", &json!({ "failed": true }));
    let bad = all.iter().filter(|record| record["outcome"] != "succeeded").count();
    assert_eq!(failed["total"], bad);
    let page = client.list("list_transfers", &json!({ "offset": 1, "limit": 2 }));
    assert_eq!(page["entries"].as_array().unwrap().len(), 2);
    assert_eq!((&page["entries"][0]["id"], &page["next_offset"]), (&all[1]["id"], &json!(3)));

    // By a number in full, which no answer shows; and by a Call-ID.
    let full = transfers(&five(), &["--mask", "full"]);
    let user = |record: &Value| {
        let target = record["target"].as_str().unwrap().to_owned();
        target.split_once(':').unwrap().1.split('@').next().unwrap().trim_start_matches('+').to_owned()
    };
    let (number, record) = full
        .iter()
        .map(|record| (user(record), record))
        .find(|(user, _)| user.len() > 6 && user.bytes().all(|byte| byte.is_ascii_digit()))
        .unwrap();
    for text in [number.as_str(), record["call_id"].as_str().unwrap()] {
        let found = client.list("find_calls", &json!({ "text": text }));
        let entries = found["entries"].as_array().unwrap();
        assert!(entries.iter().any(|entry| entry["id"] == record["id"]), "{text}: {found}");
        assert!(!found.to_string().contains(&number), "{found}");
    }
    assert_eq!(client.list("find_calls", &json!({ "text": "nobody's" }))["total"], 0);

    for name in [format!("#{}", record["seq"]), record["id"].as_str().unwrap().to_owned()] {
        let (text, is_error) = client.tool("explain_call", &json!({ "call": name }));
        assert!(
            !is_error && text.contains("The whole call") && text.contains("⟵ this is the verdict"),
            "{text}"
        );
        assert!(text.contains("BYE") && !text.contains(&number), "{text}");
    }
    let (text, is_error) = client.tool("capture_totals", &json!({}));
    assert!(!is_error && text.contains("Read "), "{text}");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn bad_questions_get_answers_and_end_nothing() {
    let mut client = Client::of(&five(), &[]);
    for (tool, arguments, said) in [
        ("explain_call", json!({ "call": "#999" }), "no transfer and no call"),
        ("explain_call", json!({}), "call"),
        ("explain_call", json!({ "call": 7 }), "expected a string"),
        ("find_calls", json!({ "text": " " }), "is wanted"),
        ("find_calls", json!({ "text": "busy", "more": 1 }), "more"),
        ("list_transfers", json!({ "limit": -1 }), "-1"),
    ] {
        let (text, is_error) = client.tool(tool, &arguments);
        assert!(is_error && text.contains(said), "{tool}: {text}");
    }
    for tool in ["write_evidence", "rm", "\u{1b}[2J"] {
        let answer = client.ask("tools/call", &json!({ "name": tool, "arguments": { "call": "#1" } }));
        assert!(answer["error"]["code"].is_i64(), "{answer}");
    }
    assert!(client.ask("no/such", &json!({}))["error"].is_object());
    // What is no JSON, and cannot have an id, gets an answer without one.
    for (line, code) in [("{\"jsonrpc\": \"2.0\", ", -32700), ("hello", -32700), ("{}", -32600)] {
        writeln!(client.to.as_mut().unwrap(), "{line}").unwrap();
        let mut answer = String::new();
        client.from.read_line(&mut answer).unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&Value::Null, &json!(code)),
            "{line}: {answer}"
        );
    }
    assert_eq!(client.list("list_transfers", &json!({}))["total"], 4);
    assert_eq!(client.end(), Some(0));

    let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    let gone = program.args(["mcp", "gone.pcap"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(gone.status.code(), Some(2));
    let mut program = Command::new(env!("CARGO_BIN_EXE_sipobs"));
    let gone =
        program.args(["mcp", "--evidence", "/nowhere/at/all"]).args(five()).stdin(Stdio::null()).output();
    assert_eq!(gone.unwrap().status.code(), Some(2));
}

#[test]
fn evidence_goes_into_the_folder_and_gives_the_same_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let all = transfers(&five(), &[]);
    let mut client = Client::of(&five(), &["--evidence", dir.path().to_str().unwrap()]);
    let tools = client.ask("tools/list", &json!({}))["result"]["tools"].clone();
    assert_eq!(tools[4]["name"], "write_evidence");
    assert_eq!(tools[4]["annotations"]["readOnlyHint"], false);
    let id = all[0]["id"].as_str().unwrap();
    for (arguments, end) in
        [(json!({ "call": "#1" }), ""), (json!({ "call": id, "redact": "parties" }), "-redacted")]
    {
        let (text, is_error) = client.tool("write_evidence", &arguments);
        assert!(!is_error && text.ends_with("is written"), "{text}");
        let file = dir.path().join(format!("sipobs-{id}{end}.pcapng"));
        let again = transfers(&[file], &[]);
        assert_eq!(again.len(), 1);
        assert_eq!((&again[0]["outcome"], &again[0]["started"]), (&all[0]["outcome"], &all[0]["started"]));
    }
    let (text, is_error) = client.tool("write_evidence", &json!({ "call": "#1", "redact": "all" }));
    assert!(is_error && text.contains("parties"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    // What stands there under its name leads nowhere else.
    let place = dir.path().join(format!("sipobs-{id}.pcapng"));
    std::fs::remove_file(&place).unwrap();
    std::os::unix::fs::symlink(dir.path().join("elsewhere"), &place).unwrap();
    let (text, is_error) = client.tool("write_evidence", &json!({ "call": "#1" }));
    assert!(is_error && text.contains("link"), "{text}");
    assert_eq!(client.end(), Some(0));
}

/// Whoever is stopped while it writes leaves no half of a file behind.
#[test]
fn a_signal_leaves_no_half_written_file() {
    use rustix::process::{Pid, Signal, kill_process};
    let dir = tempfile::tempdir().unwrap();
    // So many calls that their file takes a while.
    let many = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/causes/input.pcap");
    let mut client = Client::of(&[many], &["--evidence", dir.path().to_str().unwrap()]);
    client.send(&json!({
        "jsonrpc": "2.0", "id": 99, "method": "tools/call",
        "params": { "name": "write_evidence", "arguments": { "call": "#1", "redact": "addresses" } },
    }));
    let names = || -> Vec<_> {
        std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    while !names().iter().any(|name| name.ends_with(".part")) {
        assert!(client.child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&client.child), Signal::TERM).unwrap();
    assert_eq!(client.child.wait().unwrap().code(), Some(1));
    assert!(!names().iter().any(|name| name.ends_with(".part")), "{:?}", names());
}

#[test]
fn a_call_that_is_still_up_is_found_and_explained() {
    let dir = tempfile::tempdir().unwrap();
    let part = dir.path().join("part.pcapng");
    first_frames(&five()[0], &part, 4);
    let mut client = Client::of(&[part], &[]);
    assert_eq!(client.list("list_transfers", &json!({}))["total"], 0);
    let found = client.list("find_calls", &json!({ "text": "still up" }));
    assert_eq!((&found["total"], &found["entries"][0]["kind"]), (&json!(1), &json!("open_call")), "{found}");
    let id = found["entries"][0]["id"].clone();
    let (text, is_error) = client.tool("explain_call", &json!({ "call": id }));
    assert!(!is_error && text.contains("still up") && text.contains("INVITE"), "{text}");
    assert_eq!(client.end(), Some(0));
}
