//! The reference of all settings, made of the documentation of the structures that hold them: `docs/configuration.md`,
//! and the file that `sipobs config --commented` prints. `SIPOBS_BLESS=1 cargo test -p sipobs reference` writes both.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use syn::{Attribute, Expr, Fields, Item, Lit, Meta, Type};
use toml::{Table, Value};

use super::{Config, ConfigError, bounds, keys};
use crate::bless::hold;

/// Where structures and choices are looked for: those of `config` first, and a name with a module in front in that one.
const SOURCES: &[&str] = &[
    "config/mod.rs",
    "config/hep.rs",
    "config/limits.rs",
    "config/log.rs",
    "config/metrics.rs",
    "config/page.rs",
    "config/otlp.rs",
    "config/recorder.rs",
    "config/webhook.rs",
    "capture/config.rs",
    "packet/mod.rs",
    "stream/mod.rs",
    "privacy/mod.rs",
    "trunk.rs",
    "link/config.rs",
    "transfer/config.rs",
    "transfer/identity.rs",
    "transfer/absent.rs",
    "transfer/ratio/mod.rs",
];

/// Every setting with another value than its default.
const SAMPLE: &str = include_str!("sample.toml");

/// What stands on top of `docs/configuration.md`.
const INTRODUCTION: &str = "\
# Configuration

Made of the program's source, and held to it by a test. `sipobs config --commented` prints all of this as a file to begin
with, `sipobs config` the settings in effect. Nothing has to be set but the interfaces of `sipobs run`.

Defaults, then the file (`--config`, `SIPOBS_CONFIG`), then the environment, then flags: what comes later wins. A variable
is `SIPOBS_`, the section, `__`, the key: `SIPOBS_CAPTURE__PORTS=5060,5080-5090`; the standard `OTEL_*` variables set
`[otlp]`.

- **duration**: a number with its unit, such as `\"500ms\"`, `\"35s\"`, `\"1h 30m\"`, `\"7days\"`; a year at most.
- **size**: a number of bytes, or a text such as `\"256MiB\"`.
- **ports**: a port, a range in quotes (`\"5080-5090\"`), or a list of these.
- **list**: in brackets, or one text with commas between the entries.
- **secret**: a text in quotes that no output shows.

The variables that OpenTelemetry names for traces set `[otlp]`, and those of sipobs win over them: `OTEL_EXPORTER_OTLP_ENDPOINT`
(over HTTP `/v1/traces` is added), `_HEADERS`, `_TIMEOUT` (milliseconds), `_PROTOCOL`, `_COMPRESSION`, `_CERTIFICATE`,
`_CLIENT_CERTIFICATE`, `_CLIENT_KEY`; the same for traces alone (`OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`, taken as it stands, and so on),
which win; `OTEL_SERVICE_NAME` over the `service.name` of `OTEL_RESOURCE_ATTRIBUTES`; `OTEL_SDK_DISABLED`; and
`OTEL_TRACES_EXPORTER`, of which only `none` has a meaning.

A change is taken up **while running** within some seconds, or at SIGHUP; or it takes a **restart**, and the log names the
key. What flags and the environment set wins over a changed file, too.
";

const COMMENTED_INTRODUCTION: &str = "\
# Every setting of sipobs with its default. What has none is commented out, with an example. All are optional:
# a file needs to hold only what it changes. `sipobs config -c FILE` prints what a file comes to.
";

/// A key of a section.
struct Key {
    /// `capture.ports`.
    path: String,
    doc: String,
    /// What it takes, in words.
    kind: String,
    /// What may stand there, with what each means, where that is a choice.
    choices: Vec<(String, String)>,
}

struct Section {
    /// `capture`, `link.weights`.
    path: String,
    doc: String,
    /// Whether there may be several.
    is_list: bool,
    keys: Vec<Key>,
}

/// The source files, parsed.
struct Sources(Vec<(&'static str, syn::File)>);

impl Sources {
    fn read() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let parse = |name: &&'static str| {
            let text = fs::read_to_string(folder.join(name)).unwrap();
            (*name, syn::parse_file(&text).unwrap())
        };
        Self(SOURCES.iter().map(parse).collect())
    }

    /// The structure or choice that `name` is in `file`, and the file where it is found.
    fn find(&self, name: &syn::Path, file: &str) -> Option<(&'static str, &Item)> {
        let last = &name.segments.last()?.ident;
        let module = name.segments.iter().rev().nth(1).map(|it| it.ident.to_string());
        let is_it = |item: &&Item| match item {
            Item::Struct(it) => it.ident == *last,
            Item::Enum(it) => it.ident == *last,
            _ => false,
        };
        let mut files: Vec<_> = self.0.iter().collect();
        files.sort_by_key(|(path, _)| *path != file);
        let of_module = |path: &str| module.as_ref().is_none_or(|it| path.starts_with(&format!("{it}/")));
        files
            .into_iter()
            .filter(|(path, _)| of_module(path))
            .find_map(|(path, parsed)| Some((*path, parsed.items.iter().find(is_it)?)))
    }

    /// The sections, in the order of the source.
    fn sections(&self) -> Vec<Section> {
        let (file, config) = self.find(&syn::parse_str("Config").unwrap(), "config/mod.rs").unwrap();
        let mut sections = Vec::new();
        for field in fields(config) {
            let name = field.ident.as_ref().unwrap().to_string();
            self.section(&name, doc(&field.attrs), inner(&field.ty), file, &mut sections);
        }
        sections
    }

    fn section(&self, path: &str, doc_of_field: String, ty: &Type, file: &str, into: &mut Vec<Section>) {
        let (is_list, ty) = listed(ty);
        let (file, item) = self.find(path_of(ty), file).unwrap();
        let doc_of_type = doc(attributes(item));
        // Whichever says clearly more.
        let says_more = 2 * doc_of_type.len() > 3 * doc_of_field.len();
        let doc_of_section = if says_more { doc_of_type } else { doc_of_field };
        let place = into.len();
        into.push(Section { path: path.to_owned(), doc: doc_of_section, is_list, keys: Vec::new() });
        for field in fields(item) {
            let path = format!("{path}.{}", field.ident.as_ref().unwrap());
            let ty = inner(&field.ty);
            let found = match listed(ty).1 {
                Type::Path(ty) => self.find(&ty.path, file),
                _ => None,
            };
            match found {
                // A table of its own; in a list, each entry is told with the key.
                Some((_, Item::Struct(it))) if !listed(ty).0 && !matches!(it.fields, Fields::Unnamed(_)) => {
                    self.section(&path, doc(&field.attrs), ty, file, into);
                }
                found => {
                    let choices = found.map(|(file, item)| self.choices(item, file)).unwrap_or_default();
                    let kind = kind(field, ty);
                    into[place].keys.push(Key { path, doc: doc(&field.attrs), kind, choices });
                }
            }
        }
    }

    /// What an enumeration's values mean, or the keys of a table in a list.
    fn choices(&self, item: &Item, file: &str) -> Vec<(String, String)> {
        match item {
            Item::Enum(it) => {
                let lowercase = serde(&it.attrs).contains("rename_all");
                let words = it.variants.iter().filter(|variant| matches!(variant.fields, Fields::Unit));
                words
                    .map(|variant| {
                        let renamed = serde(&variant.attrs);
                        let renamed =
                            renamed.split_once("rename = \"").and_then(|(_, it)| it.split('"').next());
                        let name = variant.ident.to_string();
                        let name = if lowercase { name.to_lowercase() } else { name };
                        (format!("\"{}\"", renamed.unwrap_or(&name)), doc(&variant.attrs))
                    })
                    .collect()
            }
            item => fields(item)
                .into_iter()
                .filter(|_| file.ends_with(".rs"))
                .map(|field| (field.ident.as_ref().unwrap().to_string(), doc(&field.attrs)))
                .collect(),
        }
    }
}

/// The named fields that can be set.
fn fields(item: &Item) -> Vec<&syn::Field> {
    let Item::Struct(item) = item else { return Vec::new() };
    let Fields::Named(named) = &item.fields else { return Vec::new() };
    named.named.iter().filter(|field| !is_skipped(&field.attrs)).collect()
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        _ => &[],
    }
}

/// The documentation, a paragraph a line, without what is for rustdoc and for those who change the code.
fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter(|it| it.path().is_ident("doc")).map(|it| match &it.meta {
        Meta::NameValue(doc) => match &doc.value {
            Expr::Lit(text) => match &text.lit {
                Lit::Str(text) => text.value().trim().to_owned(),
                _ => String::new(),
            },
            _ => String::new(),
        },
        _ => String::new(),
    });
    let text =
        lines.map(|line| if line.is_empty() { "\n\n".to_owned() } else { line + " " }).collect::<String>();
    let text = text.replace(" Those marked \\[H\\] are heuristics, no RFC's.", "");
    let text = text.replace(" \\[H\\]", "").replace("[`", "`").replace("`]", "`");
    text.split("\n\n").map(str::trim).collect::<Vec<_>>().join("\n\n")
}

/// What stands in the attributes of serde.
fn serde(attributes: &[Attribute]) -> String {
    let lists = attributes.iter().filter(|it| it.path().is_ident("serde"));
    lists.filter_map(|it| Some(it.meta.require_list().ok()?.tokens.to_string())).collect()
}

fn is_skipped(attributes: &[Attribute]) -> bool {
    serde(attributes).split(',').any(|it| it.trim() == "skip")
}

fn path_of(ty: &Type) -> &syn::Path {
    let Type::Path(ty) = ty else { panic!("a field's type is a path") };
    &ty.path
}

fn name(ty: &Type) -> String {
    path_of(ty).segments.last().unwrap().ident.to_string()
}

/// `ty`, or what may be in it.
fn inner(ty: &Type) -> &Type {
    if name(ty) == "Option" { argument(ty) } else { ty }
}

/// Whether it is a list, and of what.
fn listed(ty: &Type) -> (bool, &Type) {
    if ["Vec", "BTreeSet"].contains(&&*name(ty)) { (true, argument(ty)) } else { (false, ty) }
}

fn argument(ty: &Type) -> &Type {
    let syn::PathArguments::AngleBracketed(arguments) = &path_of(ty).segments.last().unwrap().arguments
    else {
        panic!("of something")
    };
    let Some(syn::GenericArgument::Type(last)) = arguments.args.last() else { panic!("of a type") };
    last
}

/// What a field takes, in words.
fn kind(field: &syn::Field, ty: &Type) -> String {
    let (is_list, of) = listed(ty);
    if serde(&field.attrs).contains("ports") {
        return "ports".to_owned();
    }
    let word = match &*name(of) {
        "bool" => "`true` or `false`",
        "u32" | "u64" | "usize" => "whole number",
        "f64" => "number",
        "Duration" => "duration",
        "Size" => "size",
        "PathBuf" => "path",
        "SocketAddr" => "IP address and port",
        "Secret" => "secret",
        "Endpoint" | "HepUrl" => "URL",
        "String" => "text",
        "HeaderName" => "header",
        "HeaderPattern" => "header, or table of `name` and `value`",
        "LinkHeader" => "table",
        "BTreeMap" if name(argument(of)) == "Secret" => "table of names and secrets",
        "BTreeMap" => "table of names and texts",
        _ => "one of those below",
    };
    match (is_list, word) {
        (true, "header, or table of `name` and `value`") => {
            "list of headers, or of tables of `name` and `value`".into()
        }
        (true, word) => format!("list of {word}s"),
        (false, word) => word.to_owned(),
    }
}

/// `docs/configuration.md`.
fn page(sections: &[Section]) -> String {
    let (defaults, at_once) = (defaults(), at_once());
    let mut page = INTRODUCTION.to_owned();
    for section in sections {
        let header = header(section);
        write!(page, "\n## `{header}`\n\n{}\n", section.doc).unwrap();
        page += "\n| Key | | Default | A change takes |\n|---|---|---|---|\n";
        for key in &section.keys {
            let default = lookup(&defaults, &key.path).map_or("none".to_owned(), |it| format!("`{it}`"));
            let when = if is_among(&key.path, &at_once) { "effect while running" } else { "a restart" };
            let choices: String =
                key.choices.iter().map(|(word, doc)| format!("<br>`{word}`: {doc}")).collect();
            let text =
                format!("{} *{}*{choices}", key.doc.replace("\n\n", "<br>"), takes(key)).replace('|', "\\|");
            writeln!(page, "| `{}` | {text} | {default} | {when} |", short(section, key)).unwrap();
        }
    }
    page
}

/// The file that `sipobs config --commented` prints.
fn commented(sections: &[Section]) -> String {
    let (defaults, at_once) = (defaults(), at_once());
    let sample: Table = toml::from_str(SAMPLE).unwrap();
    let mut file = COMMENTED_INTRODUCTION.to_owned();
    for section in sections {
        let is_set = !section.is_list;
        write!(
            file,
            "\n{}{}{}\n",
            wrapped(&section.doc, "# "),
            if is_set { "" } else { "# " },
            header(section)
        )
        .unwrap();
        for key in &section.keys {
            let when = if is_among(&key.path, &at_once) { "" } else { " A change takes a restart." };
            let choices: String =
                key.choices.iter().map(|(word, doc)| format!("\n\n{word}: {doc}")).collect();
            file += &wrapped(&format!("{} ({}.){when}{choices}", key.doc, capital(&takes(key))), "# ");
            let name = short(section, key);
            match lookup(&defaults, &key.path).filter(|_| is_set) {
                Some(value) => writeln!(file, "{name} = {value}").unwrap(),
                None => writeln!(file, "# {name} = {}", lookup(&sample, &key.path).unwrap()).unwrap(),
            }
        }
    }
    file
}

fn header(section: &Section) -> String {
    if section.is_list { format!("[[{}]]", section.path) } else { format!("[{}]", section.path) }
}

/// The key within its section.
fn short<'a>(section: &Section, key: &'a Key) -> &'a str {
    &key.path[section.path.len() + 1..]
}

/// What a key takes, with its bounds.
fn takes(key: &Key) -> String {
    match bounds::of(&key.path) {
        Some(bounds::Bound::OrZero(_)) if key.doc.contains("0: ") || key.doc.contains("0 for never") => {
            key.kind.clone()
        }
        Some(bounds::Bound::OrZero(meaning)) => format!("{}; 0: {meaning}", key.kind),
        Some(bounds::Bound::Finite) | None => key.kind.clone(),
        Some(bound) => format!("{}; {bound}", key.kind),
    }
}

fn capital(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

fn wrapped(text: &str, indent: &str) -> String {
    let options =
        textwrap::Options::new(110).initial_indent(indent).subsequent_indent(indent).break_words(false);
    let lines = text.split("\n\n").flat_map(|paragraph| textwrap::wrap(paragraph, &options));
    lines.fold(String::new(), |text, line| text + line.trim_end() + "\n")
}

fn defaults() -> Table {
    Table::try_from(Config::default()).unwrap()
}

/// The settings that a running daemon takes up.
fn at_once() -> Vec<String> {
    let sample: Config = toml::from_str(SAMPLE).unwrap();
    Config::default().adopt(&sample).adopted
}

/// Whether `path` or what it is in is among `names`.
fn is_among(path: &str, names: &[String]) -> bool {
    names
        .iter()
        .any(|name| path == name || path.strip_prefix(name.as_str()).is_some_and(|it| it.starts_with('.')))
}

/// The value at `path`, of the first entry where that is a list of tables.
fn lookup(table: &Table, path: &str) -> Option<Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    match (table.get(first)?, rest) {
        (value, None) => Some(value.clone()),
        (Value::Table(inner), Some(rest)) => lookup(inner, rest),
        (Value::Array(entries), Some(rest)) => lookup(entries.first()?.as_table()?, rest),
        _ => None,
    }
}

fn load(text: &str) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    fs::write(file.path(), text).unwrap();
    Config::load(Some(file.path()), []).map(|(config, _)| config)
}

#[test]
fn the_reference_is_that_of_the_source() {
    let sections = Sources::read().sections();
    hold("../docs/configuration.md", &page(&sections));
    hold("src/config/commented.toml", &commented(&sections));
}

#[test]
fn every_setting_is_in_the_reference_with_a_meaning() {
    let sections = Sources::read().sections();
    let all: Vec<&Key> = sections.iter().flat_map(|section| &section.keys).collect();
    for (section, keys) in keys::KEYS {
        for key in *keys {
            let path = format!("{section}.{key}");
            let is_there = all.iter().any(|it| it.path == path) || sections.iter().any(|it| it.path == path);
            assert!(is_there, "{path}");
        }
    }
    for key in all {
        assert!(key.doc.len() > 5, "{}: no documentation", key.path);
        assert!(key.kind != "one of those below" || key.choices.len() > 1, "{}: of what kind?", key.path);
        assert!(key.choices.iter().all(|(_, doc)| !doc.is_empty()), "{}: what does each mean?", key.path);
    }
}

#[test]
fn the_commented_file_is_the_defaults_and_so_are_its_examples_good() {
    assert_eq!(toml::from_str::<Config>(Config::COMMENTED).unwrap(), Config::default());
    // With what is commented out, all the same: examples are settings.
    let is_setting = |line: &&str| {
        line.starts_with("# [[") || line.split_once(" = ").is_some_and(|(key, _)| !key[2..].contains(' '))
    };
    let all: String = Config::COMMENTED
        .lines()
        .map(|line| if line.starts_with("# ") && is_setting(&line) { &line[2..] } else { line })
        .fold(String::new(), |all, line| all + line + "\n");
    let config: Config = toml::from_str(&all).unwrap_or_else(|error| panic!("{error}\n{all}"));
    assert_eq!(config.trunk[0].name, "twilio");
    assert!(config.otlp.client_key.is_some() && config.state.path.is_some() && config.privacy.key.is_some());
}

#[test]
fn the_sample_changes_every_setting() {
    let (sample, defaults) = (toml::from_str::<Table>(SAMPLE).unwrap(), defaults());
    let sections = Sources::read().sections();
    for key in sections.iter().flat_map(|section| &section.keys) {
        let value = lookup(&sample, &key.path);
        assert!(value.is_some() && value != lookup(&defaults, &key.path), "{}", key.path);
    }
    load(
        &SAMPLE
            .lines()
            .filter(|line| !line.contains("_file") && !line.contains("causes"))
            .fold(String::new(), |text, line| text + line + "\n"),
    )
    .unwrap();
}

/// Zero, less than zero, and no number at all are refused wherever the reference does not give them a meaning.
#[test]
fn what_is_no_sensible_number_is_refused_with_its_place() {
    let sections = Sources::read().sections();
    let mut refused = 0;
    for section in sections.iter().filter(|section| !section.is_list) {
        for key in &section.keys {
            let bound = bounds::of(&key.path);
            let senseless: &[&str] = match &*key.kind {
                "duration" => &["\"0s\""],
                "whole number" => &["0"],
                "number" => &["nan", "inf", "-inf"],
                _ => continue,
            };
            let bound = bound.unwrap_or_else(|| panic!("{}: what may it be?", key.path));
            for value in senseless {
                let text = format!("\n[{}]\n{} = {value}\n", section.path, short(section, key));
                let result = load(&text);
                if matches!(bound, bounds::Bound::OrZero(_)) && !value.contains("inf") && *value != "nan" {
                    assert!(result.is_ok(), "{text}: {result:?}");
                    continue;
                }
                let error = result.expect_err(&text).to_string();
                let place =
                    format!(".toml:3:{}: {}: must be {bound}", short(section, key).len() + 4, key.path);
                assert!(error.contains(&place), "{text}: {error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 80, "{refused}");
}
