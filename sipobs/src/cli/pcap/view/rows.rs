//! The rows of the list: all that was found, and which of it is shown.

use crate::cli::pcap::found::{Filter, Found};

/// Rows that are kept; the others are only counted.
const MOST: usize = 200_000;

/// What was found, in a line.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) found: Found,
    /// Somebody chose it, to save it with others.
    pub(super) is_marked: bool,
}

/// All rows, and those that are shown.
#[derive(Debug)]
pub(super) struct Rows {
    /// So many are kept.
    most: usize,
    /// The oldest make way for new ones, and who is at the end goes on with them.
    is_of_late: bool,
    all: Vec<Row>,
    /// By their place in `all`.
    shown: Vec<usize>,
    filter: Filter,
    /// Calls that there is nothing to say of are shown, too.
    everything: bool,
    /// The chosen one of those that are shown, and the first one on the screen.
    cursor: usize,
    top: usize,
    /// Rows that found no room, or made way.
    more: u64,
}

impl Default for Rows {
    fn default() -> Self {
        Self {
            most: MOST,
            is_of_late: false,
            all: Vec::new(),
            shown: Vec::new(),
            filter: Filter::default(),
            everything: false,
            cursor: 0,
            top: 0,
            more: 0,
        }
    }
}

impl Rows {
    /// The latest of rows that come without end.
    #[cfg(any(test, all(feature = "live", target_os = "linux")))]
    pub(super) fn of_late(most: usize) -> Self {
        Self { most, is_of_late: true, ..Self::default() }
    }

    /// Adds a row, behind all others.
    pub(super) fn push(&mut self, found: Found) {
        let row = Row { found, is_marked: false };
        if self.all.len() >= self.most {
            if !self.is_of_late {
                self.more += 1;
                return;
            }
            self.make_room();
        }
        if self.shows(&row) {
            let is_at_end = self.cursor + 1 == self.shown.len();
            self.shown.push(self.all.len());
            self.cursor += usize::from(is_at_end && self.is_of_late);
        }
        self.all.push(row);
    }

    /// Lets go of the oldest, a tenth at once.
    fn make_room(&mut self) {
        let gone = (self.most / 10).max(1).min(self.all.len());
        self.all.drain(..gone);
        let hidden = self.shown.partition_point(|&at| at < gone);
        self.shown.drain(..hidden);
        self.shown.iter_mut().for_each(|at| *at -= gone);
        self.cursor = self.cursor.saturating_sub(hidden);
        self.top = self.top.saturating_sub(hidden);
        self.more += gone as u64;
    }

    fn shows(&self, row: &Row) -> bool {
        (self.everything || row.found.entry.is_of_note) && self.filter.fits(&row.found)
    }

    /// Shows what fits `text` alone.
    pub(super) fn filter(&mut self, text: &str) {
        self.filter = Filter::new(text);
        self.choose_anew();
    }

    /// Shows calls that there is nothing to say of, or hides them again; whether they are shown now.
    pub(super) fn toggle_everything(&mut self) -> bool {
        self.everything = !self.everything;
        self.choose_anew();
        self.everything
    }

    /// The chosen row stays chosen where it is still shown.
    fn choose_anew(&mut self) {
        let chosen = self.shown.get(self.cursor).copied().unwrap_or_default();
        self.shown = (0..self.all.len()).filter(|&at| self.shows(&self.all[at])).collect();
        let at = self.shown.partition_point(|&at| at < chosen);
        self.cursor = at.min(self.shown.len().saturating_sub(1));
    }

    /// Chooses another one, so many rows away.
    pub(super) fn step(&mut self, by: isize) {
        let last = self.shown.len().saturating_sub(1);
        self.cursor = self.cursor.saturating_add_signed(by).min(last);
    }

    /// The chosen one, by its place among all.
    pub(super) fn chosen(&self) -> Option<usize> {
        self.shown.get(self.cursor).copied()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Row> {
        self.all.get(at)
    }

    /// Marks the chosen one, or takes its mark away, and goes on to the next.
    pub(super) fn mark(&mut self) {
        if let Some(row) = self.chosen().and_then(|at| self.all.get_mut(at)) {
            row.is_marked = !row.is_marked;
        }
        self.step(1);
    }

    /// The marked ones.
    pub(super) fn marked(&self) -> impl Iterator<Item = &Row> {
        self.all.iter().filter(|row| row.is_marked)
    }

    /// What is on a screen of so many rows, and which of it is chosen.
    pub(super) fn window(&mut self, height: usize) -> impl Iterator<Item = (&Row, bool)> {
        let last_top = self.shown.len().saturating_sub(height);
        let lowest = (self.cursor + 1).saturating_sub(height);
        self.top = self.top.clamp(lowest, self.cursor.max(lowest)).min(last_top);
        let (all, top, cursor) = (&self.all, self.top, self.cursor);
        let window = self.shown.iter().enumerate().skip(top).take(height);
        window.map(move |(at, &row)| (&all[row], at == cursor))
    }

    /// How many are shown, of how many.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.shown.len(), self.all.len())
    }

    /// Rows that found no room.
    pub(super) fn more(&self) -> u64 {
        self.more
    }

    /// Which of the shown ones is chosen, from 1.
    pub(super) fn place(&self) -> usize {
        if self.shown.is_empty() { 0 } else { self.cursor + 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::pcap::found::tests::sample;

    fn rows(number: usize) -> Rows {
        let mut rows = Rows::default();
        (0..number).for_each(|at| rows.push(sample(at)));
        rows
    }

    fn window(rows: &mut Rows, height: usize) -> Vec<(String, bool)> {
        rows.window(height).map(|(row, is_chosen)| (row.found.name.clone(), is_chosen)).collect()
    }

    #[test]
    fn the_chosen_row_is_always_on_the_screen() {
        let mut rows = rows(100);
        assert_eq!(rows.counts(), (50, 100));
        for by in [1, 7, 30, -3, 1_000, -1, -1_000, 5, isize::MAX, isize::MIN] {
            rows.step(by);
            for height in [1, 3, 10, 60] {
                let window = window(&mut rows, height);
                assert_eq!(window.len(), height.min(50), "{by} {height}");
                assert_eq!(window.iter().filter(|(_, is_chosen)| *is_chosen).count(), 1, "{by} {height}");
            }
        }
        assert!(Rows::default().window(5).next().is_none());
    }

    #[test]
    fn the_oldest_make_way_and_the_choice_stays() {
        let mut rows = Rows::of_late(20);
        (0..20).for_each(|at| rows.push(sample(at)));
        // At the end, the list goes on by itself.
        assert_eq!(rows.place(), 10);
        rows.step(-3);
        let chosen = |rows: &Rows| rows.get(rows.chosen().unwrap()).unwrap().found.name.clone();
        assert_eq!(chosen(&rows), "#12");
        (20..30).for_each(|at| rows.push(sample(at)));
        assert_eq!((chosen(&rows).as_str(), rows.counts().1, rows.more()), ("#12", 20, 10));
        (30..300).for_each(|at| rows.push(sample(at)));
        assert!(rows.counts().1 <= 20 && rows.more() + rows.counts().1 as u64 == 300);
        assert_eq!(window(&mut rows, 5).iter().filter(|(_, is_chosen)| *is_chosen).count(), 1);
    }

    #[test]
    fn a_filter_keeps_the_choice() {
        let mut rows = rows(100);
        rows.step(21);
        assert_eq!(rows.chosen(), Some(42));
        assert!(rows.toggle_everything());
        assert_eq!((rows.chosen(), rows.counts()), (Some(42), (100, 100)));
        for (text, found) in
            [("row 42", 1), ("+4930 0000042", 1), ("0000042", 1), ("BUSY", 100), ("", 100), ("gone", 0)]
        {
            rows.filter(text);
            assert_eq!(rows.counts().0, found, "{text}");
        }
        rows.filter("");
        assert_eq!(rows.place(), 1);
    }

    #[test]
    fn a_hundred_thousand_rows_are_drawn_as_fast_as_ten() {
        let mut rows = rows(100_000);
        rows.step(isize::MAX);
        assert_eq!(
            window(&mut rows, 40).last().map(|(name, chosen)| (name.as_str(), *chosen)),
            Some(("#99998", true))
        );
    }
}
