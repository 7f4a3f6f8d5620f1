//! Each kind of shape that people meet has golden cases of at least three stacks: `docs/kinds.md` says which, and is held
//! against the cases.

#![allow(clippy::unwrap_used, reason = "a test that fails here has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use memchr::memmem::find;

/// The kinds, but for that of files.
const KINDS: [&str; 14] = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "13", "14", "15"];
/// Cases of each, of as many stacks.
const LEAST: usize = 3;

#[test]
fn every_kind_has_cases_of_three_stacks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("../docs/kinds.md")).unwrap();
    let mut stacks = BTreeMap::<String, BTreeSet<String>>::new();
    let mut kind = String::new();
    for row in table.lines().filter(|row| row.starts_with("| ") && row.contains('`')).skip(1) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [named, case, stack] = cells[..] else { panic!("three columns: {row}") };
        if let Some((number, _)) = named.split_once(". ") {
            number.clone_into(&mut kind);
        }
        let case = root.join("tests/golden").join(case.trim_matches('`'));
        let (stack, mark) = stack.split_once(": `").unwrap_or_else(|| panic!("STACK: `MARK`: {row}"));
        let mark = mark.trim_end_matches('`').as_bytes();
        let says = |file: &str| fs::read(case.join(file)).is_ok_and(|bytes| find(&bytes, mark).is_some());
        assert!(says("input.pcap") || says("README.md"), "nothing names its stack so: {row}");
        let stack = stack.split(',').next().unwrap().to_owned();
        assert!(stacks.entry(kind.clone()).or_default().insert(stack), "a stack twice: {row}");
    }
    assert_eq!(stacks.keys().map(String::as_str).collect::<BTreeSet<_>>(), KINDS.into());
    for (kind, stacks) in stacks {
        assert!(stacks.len() >= LEAST, "{kind}: {stacks:?}");
    }
}
