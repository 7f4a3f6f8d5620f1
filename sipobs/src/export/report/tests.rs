//! Reports of records made by hand: what peers put into them stays text, and many stay readable.

use std::collections::BTreeMap;

use super::*;
use crate::export::samples;
use crate::follow::Header;
use crate::sip::Name;

const EVIL: &str = "</title></style></pre><script>hacked()</script>\"'><img src=x onerror=hacked()>\u{202e}\u{200b}\r\n```` [x](javascript:1) |";

fn page(outputs: impl IntoIterator<Item = Output>) -> Report {
    let mut report = Report::new(Look::default(), true);
    outputs.into_iter().for_each(|output| report.output(&output).unwrap());
    report
}

/// An attempt with hostile text in every place.
fn hostile() -> Attempt {
    let mut attempt = samples::second_leg();
    for text in [&mut attempt.transferor, &mut attempt.transferee, &mut attempt.target, &mut attempt.reason] {
        *text = Some(EVIL.to_owned());
    }
    (attempt.call_id, attempt.target_call_id) = (Some(EVIL.to_owned()), Some(EVIL.to_owned()));
    attempt.trunk = EVIL.into();
    attempt.provider_ids = BTreeMap::from([(EVIL.to_owned(), EVIL.to_owned())]);
    for diagnosis in &mut attempt.diagnosis {
        for text in [&mut diagnosis.code, &mut diagnosis.cause, &mut diagnosis.check, &mut diagnosis.because]
        {
            EVIL.clone_into(text);
        }
        diagnosis.source = Some(EVIL.to_owned());
    }
    attempt.messages.iter_mut().for_each(|line| line.line = format!("SIP/2.0 486 {EVIL}"));
    attempt.seq = Some(1);
    attempt
}

#[test]
fn nothing_that_a_peer_says_is_more_than_text() {
    let attempt = hostile();
    let lines = attempt.messages.clone();
    let mut report = page([Output::Transfer(Box::new(attempt))]);
    let header = Header { name: Name::Server, spelling: EVIL.into(), value: EVIL.into() };
    let headers = vec![vec![header]; lines.len()];
    let legs = vec![(crate::record::LegRole::Consultation, EVIL.to_owned())];
    report.whole(1, WholeCall { legs, lines, headers, ..WholeCall::default() });
    let summary = Summary {
        files: vec![crate::export::ReadFile {
            name: EVIL.into(),
            error: Some(EVIL.into()),
            ..Default::default()
        }],
        ..Summary::default()
    };
    report.summary(&summary).unwrap();

    let html = report.html();
    assert!(html.contains("&lt;script&gt;hacked()&lt;/script&gt;"), "{html}");
    for (tag, count) in
        [("<script", 1), ("</script", 1), ("<style", 1), ("</title", 2), ("<img", 0), ("<svg", 2)]
    {
        assert_eq!(html.matches(tag).count(), count, "{tag} {html}");
    }
    let hidden = |c: char| crate::sip::is_invisible(c) || (c.is_control() && c != '\n');
    assert!(!html.contains(hidden));
    // Within a tag, a quote would end an attribute.
    let tags = html.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default());
    assert!(tags.filter(|tag| tag.contains("hacked")).count() == 0, "{html}");

    let text = report.markdown();
    assert!(!text.contains(hidden), "{text}");
    // Outside of code nothing is a tag, a link or a fence.
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        let run = line.len() - line.trim_start_matches('`').len();
        match fence {
            Some(open) if line == open => fence = None,
            Some(_) => {}
            None if run >= 3 => fence = line.get(..run),
            None => {
                assert!(!line.contains("](") && !line.contains("<img") || line.contains('`'), "{line}");
            }
        }
    }
    assert_eq!(fence, None, "{text}");
}

#[test]
fn ten_thousand_stay_light() {
    let attempts = (1..=10_050).map(|seq| Attempt { seq: Some(seq), ..samples::busy() });
    let report = page(attempts.map(|attempt| Output::Transfer(Box::new(attempt))));
    let html = report.html();
    assert_eq!(html.matches("<article ").count(), MOST_TOLD);
    assert_eq!(html.matches("<ol>").count(), MOST_LADDERS);
    assert!(html.len() < 1_200 * MOST_TOLD, "{}", html.len());
    assert!(html.contains("Ladders are drawn for the first 200") && html.contains("50 more that failed"));
    assert!(
        report
            .told
            .iter()
            .skip(MOST_LADDERS)
            .all(|told| { matches!(&told.what, What::Attempt(attempt) if attempt.messages.is_empty()) })
    );
}

#[test]
fn one_sentence_tells_all() {
    let (busy, fine) = (samples::busy, samples::succeeded);
    let headline = |attempts: Vec<Attempt>| {
        page(attempts.into_iter().map(|attempt| Output::Transfer(Box::new(attempt)))).headline()
    };
    assert_eq!(headline(vec![]), "No transfer was seen in this capture.");
    assert_eq!(headline(vec![busy()]), "The only transfer failed.");
    assert_eq!(headline(vec![fine()]), "The only transfer worked.");
    assert_eq!(headline(vec![fine(), fine()]), "None of 2 transfers failed.");
    assert_eq!(headline(vec![busy(), busy()]), "All 2 transfers failed.");
    assert_eq!(headline(vec![busy(), fine()]), "1 of 2 transfers failed.");
    let unknown = Attempt { outcome: crate::record::Outcome::Unknown, ..busy() };
    assert_eq!(
        headline(vec![unknown.clone(), busy()]),
        "1 of 2 transfers failed; what became of 1 is not known."
    );
    assert_eq!(headline(vec![unknown]), "What became of the only transfer is not known.");
}
