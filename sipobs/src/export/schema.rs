//! `docs/schema.json` and `docs/words.md`, made of the records themselves, and held against what the program says.

use std::fs;

use jsonschema::Validator;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::{ReadFile, Summary, golden, samples};
use crate::bless::hold;
use crate::record::{Alert, Attempt, Call, Line, Notice, OpenCall, Output, SCHEMA};

/// What every line is.
fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let lines = [
        ("transfer", generator.subschema_for::<Attempt>()),
        ("notice", generator.subschema_for::<Notice>()),
        ("call", generator.subschema_for::<Call>()),
        ("open_call", generator.subschema_for::<OpenCall>()),
        ("alert", generator.subschema_for::<Alert>()),
        ("summary", generator.subschema_for::<Summary>()),
    ];
    let lines = lines.map(|(kind, record)| {
        json!({
            "type": "object",
            "properties": {
                "kind": { "const": kind },
                "schema": { "const": SCHEMA, "description": "Grows when the meaning of a field changes." },
                "host": {
                    "type": ["string", "null"],
                    "description": "Where it was captured; null where a file was read."
                },
            },
            "required": ["kind", "schema", "host"],
            "allOf": [record],
        })
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "sipobs",
        "description": "One line of `sipobs pcap --format jsonl` or of `[jsonl] path`, and the body of a webhook's request. \
            Fields may be added.",
        "anyOf": lines,
        "$defs": generator.take_definitions(true),
    })
}

#[test]
fn the_schema_that_is_shipped_is_that_of_the_records() {
    hold("../docs/schema.json", &format!("{:#}\n", schema()));
}

/// What stands on top of `docs/words.md`.
const WORDS: &str = "\
# Words of the output

Every word that a record, a span, a metric or an alert may hold, and what it means; made of the program's own documentation.
`sipobs explain WORD` says the same, [output.md](output.md) where each stands.
";

/// `docs/words.md`.
fn words() -> String {
    let mut page = WORDS.to_owned();
    let mut heading = |title: &str, rows: &[(String, String)]| {
        page += &format!("\n## `{title}`\n\n| | |\n|---|---|\n");
        for (word, meaning) in rows {
            page += &format!("| `{word}` | {} |\n", meaning.replace('\n', " ").trim());
        }
    };
    let all = crate::record::glossary();
    let mut fields: Vec<&str> = all.iter().map(|(field, ..)| *field).collect();
    fields.dedup();
    // What only conditions of causes ask for is in no record.
    let conditions = ["dialect", "answer", "answered_by", "bye", "replaces"];
    for field in fields.into_iter().filter(|field| !conditions.contains(field)) {
        let of_field = all.iter().filter(|(held, ..)| *held == field);
        let rows: Vec<_> =
            of_field.map(|(_, word, meaning)| ((*word).to_owned(), (*meaning).to_owned())).collect();
        heading(field, &rows);
    }
    for (field, structure) in [("quality", "Quality"), ("visibility.*", "Visibility")] {
        let properties = schema()["$defs"][structure]["properties"].as_object().unwrap().clone();
        let rows: Vec<_> = properties
            .into_iter()
            .map(|(name, property)| (name, property["description"].as_str().unwrap_or_default().to_owned()))
            .collect();
        assert!(rows.iter().all(|(_, meaning)| !meaning.is_empty()), "{structure}: {rows:?}");
        heading(field, &rows);
    }
    page
}

#[test]
fn the_words_that_are_documented_are_those_of_the_records() {
    hold("../docs/words.md", &words());
}

#[test]
fn all_that_is_said_of_the_golden_cases_is_as_the_schema_has_it() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let mut kinds = std::collections::BTreeMap::<String, u32>::new();
    let mut check = |what: &str, record: &Value| {
        holds(&validator, what, record);
        *kinds.entry(record["kind"].as_str().unwrap().to_owned()).or_default() += 1;
    };
    for case in golden::cases() {
        let name = case.display().to_string();
        for line in fs::read_to_string(case.join("expected.jsonl")).unwrap().lines() {
            let mut record: Value = serde_json::from_str(line).unwrap();
            if record["kind"] == "summary" {
                // Left out there, as they say what was asked of the program, and of which files.
                record["files"] = json!([]);
                record["shown"] = Value::Null;
                record["tls"] = Value::Null;
            }
            check(&name, &record);
        }
        for output in golden::outputs(&case) {
            check(&name, &serde_json::to_value(output.line(Some("node"))).unwrap());
        }
    }
    check("an alert", &serde_json::to_value(samples::alert().line(None)).unwrap());
    let Output::Call(call) = samples::call() else { panic!("it is a call") };
    check(
        "an open call",
        &serde_json::to_value(Line::new("open_call", None, &OpenCall::from(&*call))).unwrap(),
    );
    let summary = Summary { files: vec![ReadFile::default()], ..Summary::default() };
    check("a summary", &serde_json::to_value(Line::new("summary", None, &summary)).unwrap());
    let found: Vec<&str> = kinds.keys().map(String::as_str).collect();
    assert_eq!(found, ["alert", "call", "notice", "open_call", "summary", "transfer"], "{kinds:?}");
}

#[test]
fn the_schema_refuses_what_is_none() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    let good = serde_json::to_value(Output::Transfer(Box::new(samples::busy())).line(None)).unwrap();
    holds(&validator, "a transfer", &good);
    for (field, value) in [
        ("outcome", json!("engaged")),
        ("kind", json!("transfers")),
        ("started", json!(17)),
        ("id", Value::Null),
        ("schema", json!(0)),
        ("quality", json!({})),
        ("messages", json!([{ "t_ms": 0 }])),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        assert!(!validator.is_valid(&bad), "{field}");
    }
    assert!(good.get("evidence_file").is_none(), "only where a file is written");
    let mut named = good.clone();
    named["evidence_file"] = json!("49c6b89c630d0b84.pcapng");
    holds(&validator, "a transfer with its evidence", &named);
    named["evidence_file"] = json!(1);
    assert!(!validator.is_valid(&named), "evidence_file");
    let mut more = good;
    more["added"] = json!(1);
    holds(&validator, "a field of a later version", &more);
}

fn holds(validator: &Validator, what: &str, record: &Value) {
    let wrong: Vec<String> = validator.iter_errors(record).map(|error| error.to_string()).collect();
    assert!(wrong.is_empty(), "{what}: {record:#}: {wrong:?}");
}
