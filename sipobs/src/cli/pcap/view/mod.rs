//! `sipobs view`: the verdicts of capture files as a list on a terminal, to choose from.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use sipobs::capture::file::{Capture, Progress, Stop};
use sipobs::engine::Engine;
use sipobs::export::{Look, WholeCall};

use self::feed::Feed;
#[cfg(all(feature = "live", target_os = "linux"))]
pub(in crate::cli) use self::live::{List, Shown, can_be_shown, list};
use self::page::{Content, Ladder, Page, Told};
use self::rows::Rows;
use self::work::{News, Read, Source, Workers};
use super::find::Find;
use super::write::{Evidence, Redact};
use super::{Pcap, configuration, interrupt, pcap};
use crate::cli::logging::{keep, keep_no_more, take_kept};
use crate::cli::spans::{Spans, WhenFull};
use crate::cli::{Colour, Exit, Failure, Settings, WIDEST};

mod feed;
#[cfg(all(feature = "live", target_os = "linux"))]
mod live;
mod page;
mod rows;
mod save;
mod screen;
mod work;

const AFTER: &str = "\
Keys, as in sngrep:
  arrows, PgUp, PgDn, Home, End   move
  Enter                           the whole call, from INVITE to BYE with all its
                                  legs; there, the headers of a message
  / F7                            show what fits alone: a number, a Call-ID, an
                                  outcome, any word of the line; Esc shows all
  a                               calls without a transfer, too
  Space                           mark, to save several
  s F2                            save the packets as pcapng: what -w writes
  t                               what the whole capture came to
  m                               what was said meanwhile
  ? F1                            these keys
  q Esc                           back, and out

Files are read as sipobs pcap reads them, and numbers are masked as there.
Where standard output is no terminal, this is sipobs pcap.

Examples:
  sipobs view *.pcap
  sipobs view --failed --mask full trunk.pcap";

/// How often the screen is drawn at least, while something goes on.
const TICK: Duration = Duration::from_millis(100);
/// What was said that is kept to be read again.
const MOST_SAID: usize = 1_000;
/// News that are taken up before the screen is drawn again.
const AT_ONCE: usize = 20_000;

/// Choose from the transfers in capture files, on a terminal
///
/// Lists the transfers and the calls worth a look, with who was handed to whom, what came of it and why; Enter draws
/// the whole call, and `s` saves its packets.
#[derive(Debug, Args)]
#[command(after_help = format!("{AFTER}\n\n{}", crate::cli::EXIT_CODES))]
pub(in crate::cli) struct View {
    /// Capture files: pcap, pcapng or snoop, also packed by gzip, zstd or lz4
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Look for SIP on these ports only
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    port: Vec<u16>,
    /// When to colour
    #[arg(long, value_enum, default_value_t)]
    color: Colour,
    #[command(flatten)]
    keys: super::keys::Keys,
    #[command(flatten)]
    find: Find,
    #[command(flatten)]
    settings: Settings,
}

/// Whether standard output is a terminal that a list can be shown on.
fn is_possible() -> bool {
    let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    !is_dumb && io::stdout().is_terminal()
}

/// Shows the list until somebody leaves it.
pub(in crate::cli) fn view(args: &View) -> Result<Exit, Failure> {
    if !is_possible() {
        return pcap(&args.as_lines());
    }
    let config = configuration(&args.settings, &args.port, &args.keys)?;
    let stop = interrupt::stop().map_err(Failure::usage)?;
    let capture = Capture::open(&args.files, &stop).map_err(Failure::usage)?;
    let privacy = config.privacy().map_err(Failure::usage)?;
    let engine = Engine::new(config.engine(), privacy.clone()).map_err(Failure::usage)?;
    let spans = Spans::start(&config, WhenFull::Wait, || {}).map_err(Failure::usage)?;
    let look = args.color.look();
    let find = args.find.for_list();
    let mut workers = Workers::new(Source {
        files: args.files.clone(),
        names: capture.names().collect(),
        can_be_read_again: capture.can_be_read_again(),
        config,
    });
    // What is said from now on would spoil the screen.
    keep();
    let shown = workers.read(capture, engine, spans, find, look, privacy).and_then(|()| {
        let mut terminal = ratatui::try_init().context("cannot take the terminal")?;
        let mut app = App::new(Feed::Files(workers), Rows::default(), look, stop);
        let shown = app.run(&mut terminal);
        ratatui::restore();
        shown.context("cannot show the list")?;
        Ok(app.end())
    });
    keep_no_more();
    shown.map_err(Failure::usage)
}

impl View {
    /// The same, for who has no terminal.
    fn as_lines(&self) -> Pcap {
        Pcap {
            files: self.files.clone(),
            format: None,
            port: self.port.clone(),
            ladders: false,
            verbose: 0,
            color: self.color,
            keys: self.keys.clone(),
            find: self.find.clone(),
            evidence: Evidence::default(),
            reports: Default::default(),
            settings: self.settings.clone(),
        }
    }
}

/// What the reader types.
enum Input {
    /// What to look for.
    Filter,
    /// Where to save the packets of these rows, by their places; none where rows are marked.
    Save { path: String, row: Option<usize>, redact: Option<Redact>, is_sure: bool },
}

/// All that is on the screen.
struct App {
    feed: Feed,
    look: Look,
    /// The end that signals ask for.
    stop: Stop,
    rows: Rows,
    filter: String,
    /// The pages over the list, the last one on top.
    pages: Vec<Page>,
    input: Option<Input>,
    /// How far reading has come; and what it came to, once it is over.
    progress: Option<Progress>,
    read: Option<Box<Read>>,
    /// What was said, the latest last, and whether the latest is still to be seen.
    said: Vec<String>,
    is_news: bool,
    /// A file was not written whole.
    failed: bool,
    is_over: bool,
    /// Whoever leaves again while a file is written means it.
    is_sure_to_leave: bool,
    /// Rows of the list, or lines of a page, that the screen has room for.
    height: usize,
}

impl App {
    fn new(feed: Feed, rows: Rows, look: Look, stop: Stop) -> Self {
        Self {
            feed,
            look,
            stop,
            rows,
            filter: String::new(),
            pages: Vec::new(),
            input: None,
            progress: None,
            read: None,
            said: Vec::new(),
            is_news: false,
            failed: false,
            is_over: false,
            is_sure_to_leave: false,
            height: 0,
        }
    }

    fn run(&mut self, terminal: &mut DefaultTerminal) -> io::Result<()> {
        while !self.is_over && !self.stop.is_asked() {
            let news = self.take_up_news();
            terminal.draw(|frame| screen::draw(frame, self))?;
            // Of many rows some wait.
            let wait = if news == AT_ONCE { Duration::ZERO } else { TICK };
            if is_gone(wait) {
                return Ok(());
            }
            // Where there is no other way to wait for a key.
            let wait = if cfg!(unix) { Duration::ZERO } else { wait };
            let mut more = event::poll(wait)?;
            while more {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => self.key(&key),
                    _ => {}
                }
                more = !self.is_over && !is_gone(Duration::ZERO) && event::poll(Duration::ZERO)?;
            }
        }
        Ok(())
    }

    /// How it exits, once all threads have ended.
    fn end(mut self) -> Exit {
        let read = self.read.take();
        // What was not read is not missed by who left before.
        let is_complete = read.is_none_or(|read| read.is_complete);
        self.stop.ask();
        self.feed.end();
        if self.is_over {
            // That its reader left is no news.
            take_kept();
        }
        if is_complete && !self.failed { Exit::Done } else { Exit::Partial }
    }

    /// How many news there were.
    fn take_up_news(&mut self) -> usize {
        let mut taken = 0;
        while taken < AT_ONCE
            && let Some(news) = self.feed.news()
        {
            taken += 1;
            match news {
                News::Found(found) => self.rows.push(*found),
                News::Progress(progress) => self.progress = Some(progress),
                News::Read(read) => self.read = Some(read),
                News::Whole(whole) => self.whole(whole),
                News::Saved(path, written) => {
                    self.failed |= !matches!(written, Ok(true));
                    match written {
                        Ok(true) => self.say(format!("{} is written", path.display())),
                        // Why, was said.
                        Ok(false) => {}
                        Err(error) => self.say(format!("{error:#}")),
                    }
                }
            }
        }
        for text in take_kept() {
            self.say(text.trim_start_matches("sipobs: ").to_owned());
        }
        taken
    }

    /// All messages of the call that is on the screen have come.
    fn whole(&mut self, whole: anyhow::Result<WholeCall>) {
        let page =
            self.pages.iter_mut().find(|page| matches!(page.content, Content::Output(_, Ladder::Awaited)));
        let Some(page) = page else { return };
        let Content::Output(output, _) = &page.content else { return };
        let ladder = match whole {
            Ok(whole) if whole.lines.is_empty() => Ladder::Missing("No message of it was found.".to_owned()),
            Ok(whole) => Ladder::Whole(Arc::new(whole)),
            Err(error) => Ladder::Missing(sipobs::export::clean(&format!("{error:#}"))),
        };
        page.change(Content::Output(output.clone(), ladder));
    }

    /// What was said, to be said again where it stays.
    #[cfg(all(feature = "live", target_os = "linux"))]
    fn leave_with_what_was_said(mut self) -> Vec<String> {
        self.take_up_news();
        self.said
    }

    fn say(&mut self, text: impl Into<String>) {
        let text: String = text.into();
        if self.said.len() >= MOST_SAID {
            self.said.remove(0);
        }
        self.said.push(sipobs::export::clean(&text));
        self.is_news = true;
    }

    fn key(&mut self, key: &KeyEvent) {
        let with_control = key.modifiers.contains(KeyModifiers::CONTROL);
        self.is_news = false;
        let was_sure = std::mem::take(&mut self.is_sure_to_leave);
        match key.code {
            KeyCode::Char('c') if with_control => self.leave(was_sure),
            KeyCode::Char('q') if self.is_on_the_list() => self.leave(was_sure),
            KeyCode::Esc if self.is_on_the_list() && self.filter.is_empty() => self.leave(was_sure),
            KeyCode::Char('u') if with_control => self.edit(String::clear),
            KeyCode::Char(_) if with_control => {}
            KeyCode::Char(c) if self.input.is_some() => self.typed(c),
            KeyCode::Backspace if self.input.is_some() => {
                self.edit(|text| text.truncate(text.floor_char_boundary(text.len().saturating_sub(1))));
            }
            KeyCode::Tab => self.change_redaction(),
            KeyCode::Enter => self.enter(),
            KeyCode::Esc => self.escape(),
            KeyCode::Up => self.step(-1),
            KeyCode::Down => self.step(1),
            KeyCode::PageUp => self.step(-self.page_length()),
            KeyCode::PageDown => self.step(self.page_length()),
            KeyCode::Home => self.step(isize::MIN),
            KeyCode::End => self.step(isize::MAX),
            KeyCode::F(1) => self.help(),
            KeyCode::F(2) => self.begin_saving(),
            KeyCode::F(7) => self.begin_filter(),
            KeyCode::Left => self.next_message(-1),
            KeyCode::Right => self.next_message(1),
            KeyCode::Char(c) => self.command(c),
            _ => {}
        }
    }

    const fn is_on_the_list(&self) -> bool {
        self.input.is_none() && self.pages.is_empty()
    }

    /// A file that is being written is not left by accident.
    fn leave(&mut self, is_sure: bool) {
        if self.feed.saves() && !is_sure {
            self.is_sure_to_leave = true;
            self.say("The packets are still being written: once more leaves without the file");
        } else {
            self.is_over = true;
        }
    }

    fn command(&mut self, letter: char) {
        match letter {
            'q' => self.back(),
            'k' => self.step(-1),
            'j' => self.step(1),
            'g' => self.step(isize::MIN),
            'G' => self.step(isize::MAX),
            '/' => self.begin_filter(),
            's' => self.begin_saving(),
            '?' | 'h' => self.help(),
            't' => self.totals(),
            'm' => self.messages(),
            ' ' if self.pages.is_empty() && !self.feed.is_live() => self.rows.mark(),
            'a' if self.pages.is_empty() && !self.feed.is_live() => {
                let all = self.rows.toggle_everything();
                self.say(
                    if all { "All calls are shown" } else { "Calls with nothing to say of are hidden" }
                        .to_owned(),
                );
            }
            _ => {}
        }
    }

    fn page_length(&self) -> isize {
        isize::try_from(self.height.saturating_sub(1).max(1)).unwrap_or(1)
    }

    fn step(&mut self, by: isize) {
        match self.pages.last_mut() {
            Some(page) => page.step(by),
            None => self.rows.step(by),
        }
    }

    /// Opens what is chosen, or ends what is typed.
    fn enter(&mut self) {
        match self.input.take() {
            Some(Input::Filter) => {}
            Some(Input::Save { path, row, redact, is_sure }) => self.save(path, row, redact, is_sure),
            None => match self.pages.last() {
                Some(page) => {
                    if let (Content::Output(_, Ladder::Whole(whole)), Some(at)) =
                        (&page.content, page.message())
                    {
                        let message = Page::new(Content::Message(Arc::clone(whole), at));
                        self.pages.push(message);
                    }
                }
                None => self.open(),
            },
        }
    }

    /// Opens the chosen row, and has the files read again for the whole call.
    fn open(&mut self) {
        let Some(row) = self.rows.chosen().and_then(|at| self.rows.get(at)) else { return };
        let told = Told { output: row.found.output.clone(), is_open: row.found.is_open };
        let ladder = self.feed.whole(&row.found);
        self.pages.push(Page::new(Content::Output(Box::new(told), ladder)));
    }

    /// Of a message that is open, to the one so many away.
    fn next_message(&mut self, by: isize) {
        let Some(page) = self.pages.last_mut() else { return };
        if let Content::Message(whole, at) = &page.content {
            let next = at.saturating_add_signed(by).min(whole.lines.len().saturating_sub(1));
            page.change(Content::Message(Arc::clone(whole), next));
        }
    }

    fn escape(&mut self) {
        match self.input.take() {
            Some(Input::Filter) => self.look_for(String::new()),
            Some(Input::Save { .. }) => {}
            None if self.pages.is_empty() && !self.filter.is_empty() => self.look_for(String::new()),
            None => self.back(),
        }
    }

    fn back(&mut self) {
        let Some(left) = self.pages.pop() else { return };
        if let Content::Output(_, Ladder::Awaited) = left.content {
            self.feed.forget_whole();
        }
        // The message that was read last is the chosen one.
        if let (Content::Message(_, at), Some(page)) = (left.content, self.pages.last_mut()) {
            page.choose(at);
        }
    }

    fn begin_filter(&mut self) {
        self.pages.clear();
        self.feed.forget_whole();
        self.input = Some(Input::Filter);
    }

    fn look_for(&mut self, text: String) {
        self.rows.filter(&text);
        self.filter = text;
    }

    fn typed(&mut self, c: char) {
        if !c.is_control() {
            self.edit(|text| text.push(c));
        }
    }

    fn edit(&mut self, change: impl FnOnce(&mut String)) {
        match &mut self.input {
            Some(Input::Filter) => {
                let mut text = std::mem::take(&mut self.filter);
                change(&mut text);
                self.look_for(text);
            }
            Some(Input::Save { path, is_sure, .. }) => {
                change(path);
                *is_sure = false;
            }
            None => {}
        }
    }

    fn help(&mut self) {
        #[cfg(all(feature = "live", target_os = "linux"))]
        let keys = if self.feed.is_live() { live::KEYS } else { AFTER };
        #[cfg(not(all(feature = "live", target_os = "linux")))]
        let keys = AFTER;
        self.over(Content::Text(keys.to_owned()));
    }

    fn messages(&mut self) {
        let said = if self.said.is_empty() { "Nothing was said.".to_owned() } else { self.said.join("\n") };
        self.over(Content::Text(said));
    }

    fn totals(&mut self) {
        match &self.read {
            Some(read) => self.over(Content::Totals(Box::new(read.summary.clone()))),
            None if self.feed.is_live() => {
                self.say("What is counted is told by `sipobs check --live`".to_owned());
            }
            None => self.say("The totals are there once all is read".to_owned()),
        }
    }

    /// A page over the others, in place of one of ours.
    fn over(&mut self, content: Content) {
        if self.pages.last().is_some_and(|page| matches!(page.content, Content::Text(_) | Content::Totals(_)))
        {
            self.pages.pop();
        }
        self.pages.push(Page::new(content));
    }
}

/// Waits for a key, at most so long. Whether nobody is at the terminal any more: that may come without a signal, and who then
/// waited for an event would read nothing from it without end.
fn is_gone(wait: Duration) -> bool {
    #[cfg(unix)]
    {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        // Standard input may be a pipe.
        let stdout = io::stdout();
        let mut terminal = [PollFd::new(&stdout, PollFlags::IN)];
        // A signal is none of the two.
        let asked = Timespec::try_from(wait).map(|wait| poll(&mut terminal, Some(&wait)));
        matches!(asked, Ok(Ok(_))) && terminal[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }
    #[cfg(not(unix))]
    {
        let _ = wait;
        false
    }
}

/// What is drawn on a screen of so many columns.
fn look_of(look: Look, width: u16) -> Look {
    Look { width: usize::from(width).clamp(20, WIDEST), ..look }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn a_file_that_is_written_is_not_left_by_accident() {
        let (done, wait) = channel::<()>();
        let (files, names, config) = (Vec::new(), Vec::new(), sipobs::config::Config::default());
        let mut workers = Workers::new(Source { files, names, config, can_be_read_again: true });
        workers.save_until(wait);
        let mut app = App::new(Feed::Files(workers), Rows::default(), Look::default(), Stop::never());
        let mut leaves = |keys: &[KeyCode]| {
            app.is_over = false;
            keys.iter().for_each(|key| app.key(&KeyEvent::from(*key)));
            app.is_over
        };
        for leave in [KeyCode::Char('q'), KeyCode::Esc] {
            assert!(!leaves(&[leave]), "{leave}");
            assert!(!leaves(&[KeyCode::Down, leave]), "{leave}: asked once");
            assert!(leaves(&[leave]), "{leave}: asked twice");
        }
        drop(done);
        app.feed.end();
        app.is_over = false;
        app.key(&KeyEvent::from(KeyCode::Esc));
        assert!(app.is_over, "nothing is written any more");
    }
}
