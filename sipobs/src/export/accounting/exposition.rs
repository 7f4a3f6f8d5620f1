//! What `/metrics` says, read back: the text form of OpenMetrics 1.0, as far as sipobs speaks it.

use std::collections::BTreeMap;

use super::FAMILIES;

/// More than a daemon says of these families on a host of a thousand CPUs, and few enough that each may be looked
/// at once for each other.
const MOST_SERIES: usize = 10_000;

/// Every series in one answer that the accounts take.
#[derive(Clone, Debug, Default)]
pub struct Exposition(BTreeMap<&'static str, Family>);

type Family = BTreeMap<Labels, f64>;
type Labels = BTreeMap<String, String>;

/// Why a text is not what a daemon of ours says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpositionError {
    /// There is nothing of ours in it.
    #[error("it holds no series of sipobs")]
    Foreign,
    /// It lacks its last line.
    #[error("it is cut short: there is no `# EOF`")]
    CutShort,
    /// A line that is no sample.
    #[error("line {0} of it is no sample")]
    Line(usize),
    /// A series that was there before.
    #[error("line {0} of it repeats a series")]
    Repeated(usize),
    /// More than any daemon says.
    #[error("it holds more than {MOST_SERIES} series that the accounts take")]
    TooMany,
    /// A family that the accounts take.
    #[error("it holds no {0}: a sipobs of another version?")]
    Missing(&'static str),
    /// A value that no count has.
    #[error("{0} is no whole number of things")]
    Count(&'static str),
    /// Counts whose sum is none.
    #[error("the series of {0} come to more than can be counted")]
    Sum(&'static str),
}

impl Exposition {
    /// Reads an answer. What the accounts do not take of it is passed over.
    ///
    /// # Errors
    ///
    /// When it is cut short, damaged, too long, or not of sipobs at all.
    pub fn parse(text: &str) -> Result<Self, ExpositionError> {
        Self::of(text, &FAMILIES)
    }

    fn of(text: &str, names: &[&'static str]) -> Result<Self, ExpositionError> {
        let mut families: BTreeMap<&'static str, Family> = BTreeMap::new();
        let (mut foreign, mut series) = (true, 0);
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| line.starts_with("sipobs_")) {
            let (name, labels, value) = sample(line).ok_or(ExpositionError::Line(number))?;
            foreign = false;
            let Some(name) = names.iter().find(|taken| **taken == name) else { continue };
            series += 1;
            if series > MOST_SERIES {
                return Err(ExpositionError::TooMany);
            }
            if families.entry(name).or_default().insert(labels, value).is_some() {
                return Err(ExpositionError::Repeated(number));
            }
        }
        if foreign {
            return Err(ExpositionError::Foreign);
        }
        if text.lines().next_back() != Some("# EOF") {
            return Err(ExpositionError::CutShort);
        }
        Ok(Self(families))
    }

    /// The value of `label` in the one series of `name`, such as a version.
    pub(super) fn text(&self, name: &str, label: &str) -> Option<&str> {
        self.0.get(name)?.keys().next()?.get(label).map(String::as_str)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The sum of those series of `name` that have all of `labels`.
    pub(super) fn sum(&self, name: &'static str, labels: &[(&str, &str)]) -> Result<u64, ExpositionError> {
        self.each(name, labels)?.iter().try_fold(0, |sum, (_, count)| added(name, sum, *count))
    }

    /// The same, for each value of `label`, in the order of these values.
    pub(super) fn sums_by(
        &self,
        name: &'static str,
        label: &str,
        labels: &[(&str, &str)],
    ) -> Result<Vec<(&str, u64)>, ExpositionError> {
        let mut sums: BTreeMap<&str, u64> = BTreeMap::new();
        for (held, count) in self.each(name, labels)? {
            let sum = sums.entry(held.get(label).map_or("", String::as_str)).or_default();
            *sum = added(name, *sum, count)?;
        }
        Ok(sums.into_iter().collect())
    }

    fn each(
        &self,
        name: &'static str,
        labels: &[(&str, &str)],
    ) -> Result<Vec<(&Labels, u64)>, ExpositionError> {
        let family = self.0.get(name).ok_or(ExpositionError::Missing(name))?;
        let has =
            |held: &Labels, (label, value): &(&str, &str)| held.get(*label).is_some_and(|it| it == value);
        let held = family.iter().filter(|(held, _)| labels.iter().all(|label| has(held, label)));
        held.map(|(held, value)| Ok((held, count(*value).ok_or(ExpositionError::Count(name))?))).collect()
    }
}

/// Each count is 2⁵³ at most, but an answer has room for enough of them.
fn added(name: &'static str, sum: u64, count: u64) -> Result<u64, ExpositionError> {
    sum.checked_add(count).ok_or(ExpositionError::Sum(name))
}

/// A count: a float holds whole numbers up to 2⁵³ exactly.
fn count(value: f64) -> Option<u64> {
    const MOST: f64 = 9_007_199_254_740_992.0;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a whole number in these bounds"
    )]
    ((0.0..=MOST).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}

/// `name{label="value",…} number`, with an exemplar or a time behind it, perhaps.
fn sample(line: &str) -> Option<(&str, Labels, f64)> {
    let end = line.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == ':'))?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, behind) = rest.split_once("=\"")?;
            let (value, behind) = quoted(behind)?;
            if labels.insert(label.to_owned(), value).is_some() {
                return None;
            }
            rest = behind.strip_prefix(',').unwrap_or(behind);
            if rest.len() == behind.len() && !rest.starts_with('}') {
                return None;
            }
        }
        rest = &rest[1..];
    }
    let value = rest.strip_prefix(' ')?.split(' ').next()?;
    Some((name, labels, value.parse().ok()?))
}

/// What stands before the closing quote, its escapes undone, and what follows that.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                escaped @ ('\\' | '"') => escaped,
                _ => return None,
            }),
            _ => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &str) -> Result<Exposition, ExpositionError> {
        Exposition::of(
            &format!("# HELP sipobs_x X.\n{lines}# EOF\n"),
            &["sipobs_x_total", "sipobs_g", "sipobs_x"],
        )
    }

    #[test]
    fn series_are_read_with_their_labels() {
        let text = "sipobs_x_total{a=\"1\",b=\"q\\\"\\\\\\n, }\"} 3 # {trace=\"7\"} 1\nsipobs_x_total{a=\"2\",b=\"\"} 4\n\
                    sipobs_g 5.0 1700000000\ngo_goroutines 8\n";
        let read = of(text).unwrap();
        assert_eq!(read.sum("sipobs_x_total", &[]), Ok(7));
        assert_eq!(read.sum("sipobs_x_total", &[("b", "q\"\\\n, }")]), Ok(3));
        assert_eq!(read.sum("sipobs_x_total", &[("a", "3")]), Ok(0));
        assert_eq!(read.sums_by("sipobs_x_total", "a", &[]), Ok(vec![("1", 3), ("2", 4)]));
        assert_eq!(read.sum("sipobs_g", &[]), Ok(5));
        assert_eq!(read.sum("sipobs_y", &[]), Err(ExpositionError::Missing("sipobs_y")));
        assert!(!read.has("go_goroutines"), "not ours");
    }

    #[test]
    fn what_is_damaged_or_foreign_is_told() {
        for line in [
            "sipobs_x",
            "sipobs_x{",
            "sipobs_x{a}",
            "sipobs_x{a=\"1\" 2",
            "sipobs_x{a=\"1\"b=\"2\"} 2",
            "sipobs_x{a=\"1\",a=\"2\"} 2",
            "sipobs_x{a=\"\\q\"} 2",
            "sipobs_x two",
            "sipobs_x{a=\"1\"}2",
        ] {
            assert_eq!(of(&format!("{line}\n")).unwrap_err(), ExpositionError::Line(2), "{line}");
        }
        assert_eq!(of("sipobs_x 1\nsipobs_x 1\n").unwrap_err(), ExpositionError::Repeated(3));
        assert_eq!(Exposition::parse("sipobs_x 1\n").unwrap_err(), ExpositionError::CutShort);
        for foreign in ["", "# EOF\n", "<html>sipobs_x 1</html>", "go_goroutines 8\n# EOF\n"] {
            assert_eq!(Exposition::parse(foreign).unwrap_err(), ExpositionError::Foreign, "{foreign}");
        }
    }

    #[test]
    fn a_sum_that_is_no_count_is_told() {
        let most = (1..=2048).map(|n| format!("sipobs_x{{n=\"{n}\"}} 9007199254740992\n"));
        let read = of(&most.collect::<String>()).unwrap();
        assert_eq!(read.sum("sipobs_x", &[]), Err(ExpositionError::Sum("sipobs_x")));
        assert_eq!(read.sums_by("sipobs_x", "m", &[]), Err(ExpositionError::Sum("sipobs_x")));
        assert_eq!(read.sum("sipobs_x", &[("n", "7")]), Ok(9_007_199_254_740_992));
    }

    #[test]
    fn more_series_than_any_daemon_has_are_refused() {
        let lines = |name: &str, series: usize| -> String {
            (1..=series).map(|n| format!("{name}{{n=\"{n}\"}} 1\n")).collect()
        };
        assert_eq!(of(&lines("sipobs_x", MOST_SERIES)).unwrap().sum("sipobs_x", &[]), Ok(10_000));
        assert_eq!(of(&lines("sipobs_x", MOST_SERIES + 1)).unwrap_err(), ExpositionError::TooMany);
        let both = lines("sipobs_x", MOST_SERIES) + "sipobs_g 1\n";
        assert_eq!(of(&both).unwrap_err(), ExpositionError::TooMany, "of all families together");
        let read = of(&(lines("sipobs_other", 2 * MOST_SERIES) + "sipobs_g 1\n")).unwrap();
        assert!(!read.has("sipobs_other"), "nothing that the accounts do not take");
    }

    #[test]
    fn only_counts_are_counts() {
        for value in ["-1", "0.5", "NaN", "+Inf", "1e17"] {
            let read = of(&format!("sipobs_x {value}\n")).unwrap();
            assert_eq!(read.sum("sipobs_x", &[]), Err(ExpositionError::Count("sipobs_x")), "{value}");
        }
    }
}
