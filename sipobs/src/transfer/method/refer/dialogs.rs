//! Which attempt a message under a Call-ID is about: the forks of a call are one leg, and some peers forget tags.

use smallvec::SmallVec;

use crate::leg::{AttemptId, Leg, LegId, Tag};
use crate::record::Side;
use crate::transfer::stage::{Heard, Stage};
use crate::transfer::state::PendingAttempt;

/// The tags of a message's dialog: that of a side first.
pub(super) fn tags_by(stage: &Stage, heard: Heard<'_>, by: Side) -> [Option<Tag>; 2] {
    let [from, to] = [heard.key.from_tag, heard.key.to_tag].map(|tag| stage.legs.tag(tag?));
    if by == heard.event.by { [from, to] } else { [to, from] }
}

/// Whether two pairs of tags are of two dialogs, as far as they are known.
pub(super) fn differ(one: [Option<Tag>; 2], other: [Option<Tag>; 2]) -> bool {
    one.into_iter().zip(other).any(|(one, other)| one.zip(other).is_some_and(|(one, other)| one != other))
}

/// Whether a message of a leg is in the dialog of an attempt's REFER, as far as its tags tell: the forks of a call are one
/// leg.
pub(super) fn is_in_dialog(stage: &Stage, attempt: &PendingAttempt, heard: Heard<'_>) -> bool {
    let leg = heard.event.leg;
    let tags = tags_by(stage, heard, attempt.by_of(leg));
    attempt.dialog != leg || attempt.refer().is_none_or(|refer| !differ(refer.tags, tags))
}

/// The attempts under way in a leg that a message may be about: those of its fork, if there are any.
pub(super) fn open_in_dialog(stage: &Stage, heard: Heard<'_>) -> SmallVec<[AttemptId; 2]> {
    let mut open = stage.open_in(heard.event.leg);
    let is_of =
        |id: &AttemptId| stage.attempts.get(id).is_some_and(|attempt| is_in_dialog(stage, attempt, heard));
    if open.len() > 1 && open.iter().any(is_of) {
        open.retain(|id| is_of(id));
    }
    open
}

/// Whether the messages of a dialog may be about a REFER: it is in that, or under its Call-ID without its tag.
pub(super) fn is_home(stage: &Stage, attempt: &PendingAttempt, dialog: LegId) -> bool {
    attempt.dialog == dialog || attempt.call == Some(dialog) && is_untagged(stage, attempt.dialog, dialog)
}

/// Whether a leg is what a message under a call's Call-ID was taken for as it lacked a tag.
pub(super) fn is_untagged(stage: &Stage, leg: LegId, call: LegId) -> bool {
    let call_id = |id| stage.legs.get(id).map(Leg::call_id);
    leg != call && call_id(leg) == call_id(call)
}
