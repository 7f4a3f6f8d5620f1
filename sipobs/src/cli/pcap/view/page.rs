//! A page over the list: a text with a line that is chosen, and messages in it that can be opened.

use std::sync::Arc;

use ansi_to_tui::IntoText as _;
use ratatui::text::Line;
use sipobs::export::{Drawn, Look, Sink, Summary, Terminal, WholeCall};
use sipobs::record::Output;

use crate::cli::pcap::found::tell;

/// What a page tells.
pub(super) enum Content {
    /// An output, and all messages of its call.
    Output(Box<Told>, Ladder),
    /// A message of a call.
    Message(Arc<WholeCall>, usize),
    /// What the whole capture came to.
    Totals(Box<Summary>),
    /// A text of ours.
    Text(String),
}

/// An output that is told.
#[derive(Clone)]
pub(super) struct Told {
    pub(super) output: Output,
    /// A call that was still up when the capture ended.
    pub(super) is_open: bool,
}

/// All messages of a call.
pub(super) enum Ladder {
    /// There are none but those that the record has.
    Own,
    /// The files are being read for it.
    Awaited,
    /// Here it is.
    Whole(Arc<WholeCall>),
    /// It can't be had.
    Missing(String),
}

/// A text, laid out.
pub(super) struct Page {
    pub(super) content: Content,
    lines: Vec<Line<'static>>,
    /// The message that a line is of.
    messages: Vec<Option<usize>>,
    /// The line with the parties' names: it stays over the messages.
    pinned: Option<usize>,
    cursor: usize,
    top: usize,
    /// How broad it was laid out; 0 where it is to be laid out anew.
    width: usize,
}

impl Page {
    pub(super) fn new(content: Content) -> Self {
        let (lines, messages) = (Vec::new(), Vec::new());
        Self { content, lines, messages, pinned: None, cursor: 0, top: 0, width: 0 }
    }

    /// What it says of itself.
    pub(super) fn title(&self) -> &'static str {
        match self.content {
            Content::Output(..) => "call",
            Content::Message(..) => "message",
            Content::Totals(_) => "totals",
            Content::Text(_) => "help",
        }
    }

    /// Shows something else, from where the reader is.
    pub(super) fn change(&mut self, content: Content) {
        self.content = content;
        self.width = 0;
    }

    /// Lays it out for `look`, where it is not yet; a message that was chosen stays chosen.
    pub(super) fn lay_out(&mut self, look: Look) {
        if self.width == look.width {
            return;
        }
        let chosen = self.message();
        self.width = look.width;
        (self.lines, self.messages, self.pinned) = (Vec::new(), Vec::new(), None);
        let (text, drawn) = match &self.content {
            Content::Output(output, ladder) => of_output(look, output, ladder),
            Content::Message(whole, at) => (whole.message(look, *at), None),
            Content::Totals(summary) => (written(look, |sink| sink.summary(summary)), None),
            Content::Text(text) => (text.clone(), None),
        };
        self.add(&text, None);
        if let Some(Drawn { head, parties, rows, tail }) = drawn {
            self.add(&head, None);
            if !parties.is_empty() {
                self.pinned = Some(self.lines.len());
                self.add(&parties, None);
            }
            rows.iter().enumerate().for_each(|(at, row)| self.add(row, Some(at)));
            self.add(&tail, None);
        }
        let again = self.messages.iter().position(|message| message.is_some() && *message == chosen);
        self.cursor = again.unwrap_or(self.cursor).min(self.lines.len().saturating_sub(1));
    }

    fn add(&mut self, text: &str, message: Option<usize>) {
        for line in text.lines() {
            // It is ours, with nothing but colours in it: what came from the wire was made safe.
            let line = line.into_text().ok().and_then(|text| text.lines.into_iter().next());
            self.lines.push(line.unwrap_or_default());
            self.messages.push(message);
        }
    }

    /// Chooses another line, so many away.
    pub(super) fn step(&mut self, by: isize) {
        self.cursor = self.cursor.saturating_add_signed(by).min(self.lines.len().saturating_sub(1));
    }

    /// Chooses a message.
    pub(super) fn choose(&mut self, message: usize) {
        if let Some(at) = self.messages.iter().position(|known| *known == Some(message)) {
            self.cursor = at;
        }
    }

    /// The message that is chosen.
    pub(super) fn message(&self) -> Option<usize> {
        self.messages.get(self.cursor).copied().flatten()
    }

    /// The lines on a screen of so many, and which of them is chosen.
    pub(super) fn window(&mut self, height: usize) -> Vec<(&Line<'static>, bool)> {
        let last_top = self.lines.len().saturating_sub(height);
        let lowest = (self.cursor + 1).saturating_sub(height);
        self.top = self.top.clamp(lowest, self.cursor.max(lowest)).min(last_top);
        // A line less, under the parties' names: so the chosen one must be below the first.
        let pinned = self.pinned.filter(|&pinned| pinned < self.top && height > 2);
        if pinned.is_some() && self.cursor == self.top {
            self.top -= 1;
        }
        let (top, cursor) = (self.top, self.cursor);
        let mut window: Vec<_> = self.lines.iter().enumerate().skip(top).take(height).collect();
        if let (Some(pinned), Some(first)) = (pinned.filter(|&pinned| pinned < top), window.first_mut()) {
            *first = (pinned, &self.lines[pinned]);
        }
        window.into_iter().map(|(at, line)| (line, at == cursor)).collect()
    }
}

fn of_output(look: Look, told: &Told, ladder: &Ladder) -> (String, Option<Drawn>) {
    let has_own = matches!(ladder, Ladder::Own);
    let mut out = Vec::new();
    let mut sink = Terminal::new(&mut out, look, true).asked(true).whole(!has_own);
    // Into memory nothing fails.
    let _ = tell(&told.output, told.is_open, &mut sink);
    let mut text = String::from_utf8_lossy(&out).into_owned();
    let drawn = match ladder {
        Ladder::Own => None,
        Ladder::Awaited => {
            text.push_str("The files are read again for the whole call …");
            None
        }
        Ladder::Missing(why) => {
            text.push_str(why);
            None
        }
        Ladder::Whole(whole) => Some(whole.drawn(look)),
    };
    (text, drawn)
}

fn written(look: Look, write: impl FnOnce(&mut dyn Sink) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    let _ = write(&mut Terminal::new(&mut out, look, true));
    String::from_utf8_lossy(&out).into_owned()
}
