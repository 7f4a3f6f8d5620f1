//! `sipobs mcp`: what capture files hold, for a program that asks by the Model Context Protocol over standard input and output.

use std::borrow::Cow;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData, Implementation,
    JsonObject, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
    ToolAnnotations,
};
use rmcp::service::RequestContext;
use rmcp::{RoleServer, ServerHandler, ServiceExt as _};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sipobs::capture::file::{Capture, Progress, Stop};
use sipobs::config::Config;
use sipobs::engine::Engine;
use sipobs::export::{Look, Sink as _, Summary, Terminal};
use sipobs::follow::Keep;
use sipobs::privacy::Privacy;
use sipobs::record::Output;

use super::find::{Find, Unmasked};
use super::found::{Filter, Found};
use super::reading::{Listener, Reading};
use super::write::{Evidence, Redact, Wants};
use super::{configuration, interrupt, whole};
use crate::cli::{Exit, Failure, Settings, zone};

mod lines;

/// How often is looked whether a signal has asked for the end.
const TICK: std::time::Duration = std::time::Duration::from_millis(50);
/// What is kept of a capture; the rest is only counted.
const MOST: usize = 200_000;
/// Entries in one answer.
const MOST_LISTED: usize = 100;
/// Bytes of one answer.
const LONGEST: usize = 48 << 10;
/// Columns of what is told in text.
const WIDTH: usize = 110;

const AFTER: &str = "\
The files are read once, at the start. Then tools answer: list_transfers,
find_calls (by number, Call-ID, or any word), explain_call (the verdict and the
whole ladder), capture_totals; and with --evidence FOLDER write_evidence, which
writes what -w writes into that folder and nowhere else. Numbers are masked in
answers, whatever was asked for by (--mask full shows them), answers are bounded,
and nothing else is written.

Example, for a client's configuration:
  { \"command\": \"sipobs\", \"args\": [\"mcp\", \"--evidence\", \"/tmp/case\", \"trunk.pcap\"] }";

/// Answer a program's questions about capture files (Model Context Protocol)
///
/// Speaks JSON-RPC on standard input and output, until the input ends.
#[derive(Debug, Args)]
#[command(after_help = format!("{AFTER}\n\n{}", crate::cli::EXIT_CODES))]
pub(in crate::cli) struct Mcp {
    /// Capture files: pcap, pcapng or snoop, also packed by gzip, zstd or lz4
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where evidence may be written; without it, nothing is
    #[arg(long, value_name = "FOLDER")]
    evidence: Option<PathBuf>,
    /// Look for SIP on these ports only
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    port: Vec<u16>,
    #[command(flatten)]
    keys: super::keys::Keys,
    #[command(flatten)]
    settings: Settings,
}

/// Reads the files, and answers until nobody asks any more.
pub(in crate::cli) fn mcp(args: &Mcp) -> Result<Exit, Failure> {
    let config = configuration(&args.settings, &args.port, &args.keys)?;
    if let Some(folder) = &args.evidence
        && !folder.is_dir()
    {
        return Err(Failure::usage(anyhow!("--evidence {}: there is no such directory", folder.display())));
    }
    let stop = interrupt::stop().map_err(Failure::usage)?;
    let capture = Capture::open(&args.files, &stop).map_err(Failure::usage)?;
    if !capture.can_be_read_again() {
        return Err(Failure::usage(anyhow!("files are read again for each question, and a pipe can't be")));
    }
    let server = Server(Arc::new(Captured::read(args, config, capture).map_err(Failure::usage)?));
    let is_complete = server.0.is_complete;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::usage)?;
    let served = runtime.block_on(async {
        let (ends, written) = lines::standard();
        let served = async {
            let service = server.serve(ends).await.context("no client speaks")?;
            service.waiting().await.context("the client is gone")
        };
        tokio::select! {
            served = served => {
                let _ = written.await;
                served.map(drop)
            }
            () = asked(&stop) => Ok(()),
        }
    });
    // Whoever reads standard input would go on waiting for it, and so would a file that nobody waits for any more.
    runtime.shutdown_background();
    #[cfg(unix)]
    super::new_file::discard_unfinished();
    if stop.is_asked() {
        return Ok(Exit::Partial);
    }
    served.map_err(|error| Failure { exit: Exit::Partial, error })?;
    Ok(if is_complete { Exit::Done } else { Exit::Partial })
}

/// Waits until a signal asks for the end.
async fn asked(stop: &Stop) {
    while !stop.is_asked() {
        tokio::time::sleep(TICK).await;
    }
}

/// What was read.
struct Captured {
    files: Vec<PathBuf>,
    names: Vec<String>,
    config: Config,
    folder: Option<PathBuf>,
    found: Vec<Found>,
    more: u64,
    summary: Summary,
    wants: Wants,
    is_complete: bool,
}

/// Keeps what reading finds, and counts what finds no room.
struct Keeper {
    privacy: Privacy,
    found: Vec<Found>,
    more: u64,
}

impl Keeper {
    fn keep(&mut self, found: Found) {
        if self.found.len() < MOST {
            self.found.push(found);
        } else {
            self.more += 1;
        }
    }
}

impl Listener for Keeper {
    fn heard(&mut self, output: Output, unmasked: Unmasked) {
        let Some(found) = Found::new(look(), &self.privacy, output, unmasked, false) else { return };
        self.keep(found);
    }

    fn open_call(&mut self, call: Output, unmasked: Unmasked) {
        let Some(found) = Found::open_call(look(), &self.privacy, call, unmasked) else { return };
        self.keep(found);
    }

    fn progress(&mut self, _progress: Progress) {}
}

fn look() -> Look {
    Look { width: WIDTH, colour: false, offset: zone::offset }
}

/// Which transfers.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ListTransfers {
    failed: bool,
    offset: usize,
    limit: Option<usize>,
}

/// Which calls.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FindCalls {
    text: String,
    offset: usize,
    limit: Option<usize>,
}

/// Which one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct OneCall {
    call: String,
}

/// Which one, and what is rewritten.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WriteEvidence {
    call: String,
    #[serde(default)]
    redact: Option<Redact>,
}

impl Captured {
    fn read(args: &Mcp, config: Config, mut capture: Capture) -> anyhow::Result<Self> {
        let privacy = config.privacy()?;
        let engine = Engine::new(config.engine(), privacy.clone())?;
        let find = Find::default().for_list();
        let names = capture.names().collect();
        let mut keeper = Keeper { privacy, found: Vec::new(), more: 0 };
        let mut reading = Reading::new(engine, None, &find, config.absent.min_call);
        reading.listen(&mut capture, &mut keeper)?;
        let is_complete = reading.summary.all_read();
        let (summary, wants) = (std::mem::take(&mut reading.summary), std::mem::take(&mut reading.wants));
        let Keeper { found, more, .. } = keeper;
        Ok(Self {
            files: args.files.clone(),
            names,
            config,
            folder: args.evidence.clone(),
            found,
            more,
            summary,
            wants,
            is_complete,
        })
    }

    fn call(&self, tool: &str, arguments: JsonObject) -> anyhow::Result<String> {
        match tool {
            "list_transfers" => self.list(&parsed(arguments)?),
            "find_calls" => self.find(&parsed(arguments)?),
            "explain_call" => self.explain(&parsed::<OneCall>(arguments)?.call),
            "capture_totals" => parsed::<NoArguments>(arguments).and_then(|NoArguments {}| self.totals()),
            "write_evidence" => self.write(&parsed(arguments)?),
            _ => bail!("there is no tool of this name"),
        }
    }

    fn list(&self, asked: &ListTransfers) -> anyhow::Result<String> {
        let is_listed = |found: &&Found| match &found.output {
            Output::Transfer(attempt) => !asked.failed || sipobs::export::has_failed(attempt),
            Output::Notice(_) | Output::Call(_) | Output::Alert(_) => false,
        };
        self.page(self.found.iter().filter(is_listed), asked.offset, asked.limit)
    }

    fn find(&self, asked: &FindCalls) -> anyhow::Result<String> {
        if asked.text.trim().is_empty() {
            bail!("text: a number, a Call-ID or another word is wanted");
        }
        let filter = Filter::new(&asked.text);
        self.page(self.found.iter().filter(|found| filter.fits(found)), asked.offset, asked.limit)
    }

    /// A part of what is listed, as JSON.
    fn page<'a>(
        &self,
        listed: impl Iterator<Item = &'a Found>,
        offset: usize,
        limit: Option<usize>,
    ) -> anyhow::Result<String> {
        let listed: Vec<&Found> = listed.collect();
        let limit = limit.unwrap_or(MOST_LISTED).clamp(1, MOST_LISTED);
        let mut entries: Vec<Value> =
            listed.iter().skip(offset).take(limit).map(|found| entry(found)).collect();
        let text = |entries: &[Value]| {
            let end = offset.saturating_add(entries.len());
            json!({
                "total": listed.len(),
                "entries": entries,
                "next_offset": (end < listed.len()).then_some(end),
                "not_kept": self.more,
                "all_files_read": self.is_complete,
            })
            .to_string()
        };
        while text(&entries).len() > LONGEST && entries.len() > 1 {
            entries.truncate(entries.len() / 2);
        }
        Ok(text(&entries))
    }

    /// The one of this name.
    fn one(&self, name: &str) -> anyhow::Result<&Found> {
        let name = name.trim();
        let is_it = |found: &&Found| found.is_called(name);
        let found: Vec<&Found> = self.found.iter().filter(is_it).collect();
        let of = |is: fn(&Output) -> bool| found.iter().copied().filter(move |found| is(&found.output));
        if let Some(transfer) = of(|output| matches!(output, Output::Transfer(_))).next() {
            return Ok(transfer);
        }
        // What is masked may be the same of two calls.
        if of(|output| matches!(output, Output::Call(_))).nth(1).is_some() {
            bail!("more than one call has this Call-ID as it is shown: name the one by its id");
        }
        found.first().copied().context("no transfer and no call has this number (#1), id or Call-ID")
    }

    fn explain(&self, name: &str) -> anyhow::Result<String> {
        let found = self.one(name)?;
        let mut out = Vec::new();
        let mut sink = Terminal::new(&mut out, look(), true).asked(true).whole(true);
        found.tell(&mut sink)?;
        if let Some(asked) = found.asked() {
            let open = || Capture::open(&self.files, &Stop::never());
            let (whole, faults) = whole::of(&self.config, &[asked], Keep::Line, open)?;
            sink.whole_call(&whole)?;
            for fault in faults {
                writeln!(out, "{fault}: the whole call lacks what stands behind that")?;
            }
        }
        Ok(bounded(&String::from_utf8_lossy(&out)))
    }

    fn totals(&self) -> anyhow::Result<String> {
        let mut out = Vec::new();
        Terminal::new(&mut out, look(), false).summary(&self.summary)?;
        Ok(bounded(&String::from_utf8_lossy(&out)))
    }

    fn write(&self, asked: &WriteEvidence) -> anyhow::Result<String> {
        let folder = self.folder.as_ref().context("no folder for evidence was named at the start")?;
        let found = self.one(&asked.call)?;
        // Named by us: nothing that somebody asks for leads out of the folder.
        let path = folder.join(found.file_name(asked.redact.is_some()));
        if path.is_symlink() {
            bail!("{} is a link, and may lead anywhere: remove it", path.display());
        }
        let mut wants = self.wants.clone();
        found.add_to(&mut wants);
        let evidence = Evidence::to(path.clone(), asked.redact);
        let is_whole = evidence.save(&self.files, &self.config, &wants, &self.names, &Stop::never())?;
        let doubt = if is_whole {
            ""
        } else {
            "; not all of it could be written, or its verdict rests on other calls, too"
        };
        Ok(format!("{} is written{doubt}", path.display()))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NoArguments {}

fn parsed<T: DeserializeOwned>(arguments: JsonObject) -> anyhow::Result<T> {
    serde_json::from_value(Value::Object(arguments)).context("arguments")
}

fn entry(found: &Found) -> Value {
    let (id, status, kind) = match &found.output {
        Output::Transfer(attempt) => (Some(attempt.id.clone()), attempt.status, "transfer"),
        Output::Call(call) if found.is_open => (Some(call.id()), call.status, "open_call"),
        Output::Call(call) => (Some(call.id()), call.status, "call"),
        Output::Alert(_) => (None, None, "alert"),
        Output::Notice(_) => (None, None, "notice"),
    };
    let outcome = match &found.output {
        Output::Transfer(attempt) => attempt.outcome.as_str(),
        Output::Notice(_) | Output::Call(_) | Output::Alert(_) => &found.entry.outcome,
    };
    json!({
        "kind": kind,
        "name": (!found.name.is_empty()).then_some(&found.name),
        "id": id,
        "began": found.entry.time,
        "outcome": outcome,
        "status": status,
        "who": found.entry.who,
        "fault": found.entry.fault,
        "trunk": found.entry.trunk,
        "cause": found.entry.cause,
    })
}

/// So much of a text as an answer may hold, in whole lines.
fn bounded(text: &str) -> String {
    if text.len() <= LONGEST {
        return text.to_owned();
    }
    let head = text.get(..text.floor_char_boundary(LONGEST)).unwrap_or_default();
    let head = head.rsplit_once('\n').map_or(head, |(head, _)| head);
    let left = text.lines().count().saturating_sub(head.lines().count());
    format!("{head}\n… and {left} more lines\n")
}

struct Server(Arc<Captured>);

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("sipobs", env!("CARGO_PKG_VERSION")))
            .with_instructions(
                "Explains the SIP call transfers in capture files that were named at the start.",
            )
    }

    async fn list_tools(
        &self,
        _request: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools(self.0.folder.is_some())))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !tools(self.0.folder.is_some()).iter().any(|tool| tool.name == request.name) {
            return Err(ErrorData::invalid_params("there is no tool of this name", None));
        }
        let captured = Arc::clone(&self.0);
        // It may read all files again.
        let work = move || captured.call(&request.name, request.arguments.unwrap_or_default());
        let answer = tokio::task::spawn_blocking(work).await;
        let answer = answer.map_err(|_| ErrorData::internal_error("the tool failed", None))?;
        Ok(match answer {
            Ok(text) => CallToolResult::success(vec![ContentBlock::text(text)]),
            Err(error) => CallToolResult::error(vec![ContentBlock::text(format!("{error:#}"))]),
        }
        .into())
    }
}

fn tools(with_evidence: bool) -> Vec<Tool> {
    let offset = json!({ "type": "integer", "minimum": 0, "description": "Leave out so many: next_offset of the answer before" });
    let limit = json!({ "type": "integer", "minimum": 1, "maximum": MOST_LISTED });
    let call = json!({ "type": "string", "description": "#N, id or Call-ID, as lists name it" });
    let mut tools = vec![
        tool(
            "list_transfers",
            "The transfer attempts in the capture, in the order in which they were settled: when, who was handed to whom, what came of it, whose fault it is and the likeliest cause. Numbers are masked.",
            json!({
                "failed": { "type": "boolean", "description": "Only those that failed, or whose outcome is not known" },
                "offset": offset, "limit": limit,
            }),
            &[],
        ),
        tool(
            "find_calls",
            "Transfers, calls without one, and alerts that fit: by a party's number or its last digits (masked or not), a Call-ID or a part of it, an outcome, a cause, a trunk, or any other word. Several words must all fit.",
            json!({ "text": { "type": "string" }, "offset": offset, "limit": limit }),
            &["text"],
        ),
        tool(
            "explain_call",
            "One transfer or call in full: the verdict, what it rests on, likely causes with what to check, and the ladder of the whole call from INVITE to BYE with all its legs.",
            json!({ "call": call }),
            &["call"],
        ),
        tool(
            "capture_totals",
            "What the whole capture came to: outcomes, packets, what could not be read.",
            json!({}),
            &[],
        ),
    ];
    if with_evidence {
        let write = tool(
            "write_evidence",
            "Write the packets of one transfer or call to a pcapng file in the folder that was named at the start.",
            json!({
                "call": call,
                "redact": { "enum": ["parties", "addresses"], "description": "Rewrite numbers, names and credentials; or addresses, too" },
            }),
            &["call"],
        );
        tools.push(write.annotate(
            ToolAnnotations::new().read_only(false).destructive(false).idempotent(true).open_world(false),
        ));
    }
    tools
}

/// A tool that only reads.
fn tool(name: &'static str, description: &'static str, properties: Value, required: &[&str]) -> Tool {
    let schema = [
        ("type", "object".into()),
        ("properties", properties),
        ("required", json!(required)),
        ("additionalProperties", false.into()),
    ];
    let schema: JsonObject = schema.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Tool::new(Cow::Borrowed(name), Cow::Borrowed(description), Arc::new(schema))
        .annotate(ToolAnnotations::new().read_only(true).open_world(false))
}
