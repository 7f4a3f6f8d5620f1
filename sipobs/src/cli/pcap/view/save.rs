//! The packets of what is on the screen, to a file.

use std::path::PathBuf;

use super::page::Content;
use super::{App, Input};
use crate::cli::pcap::write::{Evidence, Redact};

impl App {
    pub(super) fn change_redaction(&mut self) {
        if let Some(Input::Save { redact, .. }) = &mut self.input {
            *redact = match redact {
                None => Some(Redact::Parties),
                Some(Redact::Parties) => Some(Redact::Addresses),
                Some(Redact::Addresses) => None,
            };
        }
    }

    /// Asks where to save the marked rows, or the chosen one.
    pub(super) fn begin_saving(&mut self) {
        let of_page = self.pages.last().and_then(|page| match &page.content {
            Content::Output(told, _) => Some(&told.output),
            Content::Message(..) | Content::Totals(_) | Content::Text(_) => None,
        });
        let chosen = || Some(&self.rows.get(self.rows.chosen()?)?.found.output);
        if let Err(why) = self.feed.may_save(of_page.or_else(chosen), self.read.is_some()) {
            why.into_iter().for_each(|why| self.say(why));
            return;
        }
        // On a page, its call is meant.
        let is_of_marked = self.pages.is_empty() && self.rows.marked().next().is_some();
        let row = self.rows.chosen().filter(|_| !is_of_marked);
        let path = match row.and_then(|at| self.rows.get(at)) {
            Some(row) => row.found.file_name(false),
            None if is_of_marked => "sipobs.pcapng".to_owned(),
            None => return,
        };
        self.input = Some(Input::Save { path, row, redact: None, is_sure: false });
    }

    pub(super) fn save(&mut self, path: String, row: Option<usize>, redact: Option<Redact>, is_sure: bool) {
        let (Some(read), false) = (&self.read, path.trim().is_empty()) else { return };
        let file = PathBuf::from(path.trim());
        // Standard output is the screen.
        if file.as_os_str() == "-" {
            self.say("A file's name is wanted".to_owned());
            return;
        }
        if file.exists() && !is_sure {
            self.say(format!("{} is there already: Enter writes over it", file.display()));
            self.input = Some(Input::Save { path, row, redact, is_sure: true });
            return;
        }
        let mut wants = read.wants.clone();
        match row {
            Some(at) => self.rows.get(at).into_iter().for_each(|row| row.found.add_to(&mut wants)),
            None => self.rows.marked().for_each(|row| row.found.add_to(&mut wants)),
        }
        let Some(workers) = self.feed.workers() else { return };
        if let Err(error) = workers.save(Evidence::to(file.clone(), redact), file, wants) {
            self.say(format!("{error:#}"));
        }
    }
}
