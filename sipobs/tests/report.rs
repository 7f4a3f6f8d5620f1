//! `--html` and `--md`: what they hold, how long they are, and that nothing is lost on the way to their files.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests")
}

fn capture(name: &str) -> PathBuf {
    tests().join("captures").join(name)
}

fn sipobs(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sipobs")).args(args).env("TZ", "UTC").output().unwrap()
}

fn report(form: &str, files: &[PathBuf], args: &[&str]) -> String {
    let files: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let output = sipobs(&[&[form, "-"][..], args, &files].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A REFER to somebody busy, three second legs that failed each in its own way, and a call that just ends.
fn five() -> Vec<PathBuf> {
    [
        "refer_busy",
        "invite_second_leg_486_fast",
        "invite_second_leg_noanswer",
        "invite_second_leg_403",
        "plain_bye_livekit",
    ]
    .iter()
    .map(|name| capture(&format!("livekit/{name}.pcap")))
    .collect()
}

fn articles(page: &str) -> Vec<&str> {
    page.split("<article ").skip(1).map(|rest| rest.split("</article>").next().unwrap()).collect()
}

#[test]
fn each_failed_transfer_is_told_with_its_cause_and_its_whole_call() {
    let page = report("--html", &five(), &[]);
    let told = articles(&page);
    assert_eq!(told.len(), 5, "{page}");
    for (article, (sentence, cause, verdict)) in told.iter().zip([
        ("busy (486 Busy Here)", "reported busy", "NOTIFY: 486 Busy Here"),
        ("busy (486 Busy Here)", "refused by policy", "486 Busy Here"),
        ("nobody answered", "ring timer", ""),
        ("the far side forbids this call", "access control list", "403 Forbidden"),
        ("No transfer in a call of", "", ""),
    ]) {
        assert!(article.contains(sentence) && article.contains(cause), "{article}");
        assert!(article.contains("INVITE ***") && article.contains("(BYE)</span>"), "{article}");
        if !verdict.is_empty() {
            let row = article.split("<li").find(|row| row.contains("this is the verdict on #")).unwrap();
            assert!(row.contains(&format!("{verdict}</span>")), "{row}");
            assert!(row.contains("CSeq: ") && row.contains("Via: "), "{row}");
        }
    }
    // All headers of few calls are there, and no number.
    let rows: usize = told.iter().map(|article| article.matches("<time>").count()).sum();
    assert_eq!(page.matches("<pre>").count(), rows, "{page}");
    assert!(!page.contains("510555") && !page.contains("Authorization"));
    let text = report("--md", &five(), &[]);
    assert!(text.starts_with("# All 4 transfers failed.\n"), "{text}");
    assert_eq!(text.matches("\n```text\n").count(), 5, "{text}");
    assert_eq!(text.matches("⟵ this is the verdict on #").count(), 4, "{text}");
    assert_eq!(text.matches("- check: ").count(), page.matches("<dt>check</dt>").count(), "{text}");
}

#[test]
fn the_page_loads_and_runs_nothing_but_its_own() {
    let page = report("--html", &five(), &[]);
    let policy =
        page.split("Content-Security-Policy\" content=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    for absent in [" src=", "url(", "@import", " style=", "javascript:", "http-equiv=\"refresh\""] {
        assert!(!page.contains(absent), "{absent}");
    }
    let scripts: Vec<_> = page.match_indices("<script>").collect();
    assert_eq!((scripts.len(), page.matches("<style>").count()), (1, 1));
}

#[test]
fn the_same_capture_gives_the_same_bytes() {
    for form in ["--html", "--md"] {
        assert_eq!(report(form, &five(), &[]), report(form, &five(), &[]));
    }
}

#[test]
fn a_hundred_failed_transfers_take_300_kilobytes() {
    let file = [tests().join("causes/input.pcap")];
    let page = report("--html", &file, &["--failed", "--until", "2026-01-06T13:00:00Z"]);
    assert_eq!(articles(&page).len(), 101);
    assert!(page.len() <= 300_000, "{}", page.len());
    assert_eq!(page.matches("<ol>").count(), 101);
    // Where there is room, that of messages that decided.
    assert!(page.matches("<pre>").count() > 60, "{}", page.matches("<pre>").count());
}

#[test]
fn no_more_ladders_are_drawn_than_a_page_bears() {
    let page = report("--html", &[tests().join("causes/input.pcap")], &[]);
    assert!(articles(&page).len() > 270, "{}", articles(&page).len());
    assert_eq!(page.matches("<ol>").count(), 200);
    assert!(page.contains("Ladders are drawn for the first 200"));
    assert!(page.len() < 800_000, "{}", page.len());
}

#[test]
fn what_is_asked_for_is_in_it_and_nothing_else() {
    let page = report("--html", &five(), &["--call", "#3"]);
    let told = articles(&page);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("nobody answered") && page.contains("Chosen: 1 of 4 transfers"), "{page}");
    // Whatever became of it.
    let page = report("--html", &[capture("livekit/refer_ok_twilio.pcap")], &["--call", "#1"]);
    let told = articles(&page);
    assert!(
        told.len() == 1 && told[0].contains("Transferred to") && told[0].contains("The whole call"),
        "{page}"
    );
    let page = report("--html", &five(), &["--mask", "full"]);
    assert!(page.contains("+15105550177") && !page.contains("are masked"), "{page}");
}

#[test]
fn of_a_pipe_the_transfer_alone_is_drawn() {
    let file = fs::File::open(capture("livekit/refer_busy.pcap")).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_sipobs")).args(["-", "--html", "-"]).stdin(file).output().unwrap();
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.contains("<summary>The transfer: ") && page.contains("this is the verdict on #1"), "{page}");
}

#[test]
fn a_file_gets_its_name_when_it_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let file = capture("livekit/refer_busy.pcap");
    let (page, link) = (at("page.html"), at("link.html"));
    fs::write(&page, "before").unwrap();
    std::os::unix::fs::symlink(&page, &link).unwrap();
    let output = sipobs(&[
        file.to_str().unwrap(),
        "--html",
        link.to_str().unwrap(),
        "--md",
        at("a.md").to_str().unwrap(),
    ]);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    assert!(link.is_symlink() && fs::read_to_string(&page).unwrap().starts_with("<!DOCTYPE html>"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("page.html: 1 transfers, 1 of them failed or in doubt"), "{said}");
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.md", "link.html", "page.html"]);
}

#[test]
fn nothing_is_written_over_a_capture_or_where_nothing_can_be() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let copy = at("call.pcap");
    fs::copy(capture("livekit/refer_busy.pcap"), &copy).unwrap();
    fs::hard_link(&copy, at("other.pcap")).unwrap();
    std::os::unix::fs::symlink(at("nowhere"), at("dangling")).unwrap();
    let before = fs::read(&copy).unwrap();
    for (args, complaint) in [
        (vec!["--html", &copy], "this is a capture that is to be read"),
        (vec!["--md", &at("other.pcap")], "this is a capture that is to be read"),
        (vec!["--html", &at("gone/page.html")], "No such file"),
        (vec!["--html", folder.path().to_str().unwrap()], "a directory"),
        (vec!["--html", "/dev/null"], "a device"),
        (vec!["--html", &at("gone/")], "there is no such directory"),
        (vec!["--html", &at("dangling")], "a link to a file that is not there"),
        (vec!["--html", &at("x"), "--md", &at("x")], "something else is written there"),
        (vec!["-w", &at("x"), "--md", &at("x")], "something else is written there"),
        (vec!["--html", "-", "--md", "-"], "standard output"),
        (vec!["--html", "-", "-w", "-"], "standard output"),
        (vec!["--html", "-", "--format", "jsonl"], "standard output"),
    ] {
        let output = sipobs(&[&[copy.as_str()][..], &args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(complaint), "{args:?}: {said}");
    }
    assert_eq!(fs::read(&copy).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn lines_and_a_page_can_be_had_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let file = capture("livekit/refer_busy.pcap");
    let output = sipobs(&[file.to_str().unwrap(), "--format", "jsonl", "--html", page.to_str().unwrap()]);
    assert!(String::from_utf8(output.stdout).unwrap().starts_with("{\"kind\""));
    assert!(fs::read_to_string(&page).unwrap().contains("The only transfer failed."));
}
