//! What the first message of a leg says that may tie it to others.

use smallvec::SmallVec;

use super::LinkConfig;
use crate::leg::{HeaderValue, Leg, Legs, MOST_OF_EACH, Media, Party, Rare};
use crate::sip::{Join, Message, Name, NameAddr, Params, Replaces, TargetDialog, sdp};

/// What is needed of it only as the leg begins: what names another dialog is looked up at once.
#[derive(Debug, Default)]
pub(super) struct Clues<'a> {
    /// Call-ID that Replaces names (RFC 3891).
    pub(super) replaces: Option<&'a [u8]>,
    /// Call-ID that Join names (RFC 3911).
    pub(super) join: Option<&'a [u8]>,
    /// Call-ID that Target-Dialog names (RFC 4538).
    pub(super) target_dialog: Option<&'a [u8]>,
    /// Those of the configured headers that it has: index into their list, value.
    pub(super) headers: SmallVec<[(u8, &'a [u8]); 4]>,
}

impl<'a> Clues<'a> {
    /// Reads them.
    pub(super) fn of(message: &Message<'a>, config: &LinkConfig) -> Self {
        Self {
            replaces: message.header(Name::Replaces).and_then(Replaces::parse).map(|named| named.call_id),
            join: message.header(Name::Join).and_then(Join::parse).map(|named| named.call_id),
            target_dialog: message
                .header(Name::TargetDialog)
                .and_then(TargetDialog::parse)
                .map(|named| named.call_id),
            headers: headers(message, config).collect(),
        }
    }
}

/// Keeps what ties a leg that begins, of its first message.
pub(super) fn keep(legs: &mut Legs, leg: crate::leg::LegId, message: &Message<'_>, clues: &Clues<'_>) {
    // A recorder gets a call's media, not the call (RFC 7866): nothing but its Call-ID is told of it.
    let recording = message.values(Name::Require).any(|option| option.eq_ignore_ascii_case(b"siprec"));
    let media = media(legs, message);
    let replaces = clues.replaces.map(|call_id| legs.hash(call_id));
    let values: SmallVec<[HeaderValue; 4]> =
        clues.headers.iter().map(|&(header, value)| HeaderValue { header, hash: legs.hash(value) }).collect();
    let sessions = sessions(legs, message);
    let Some(leg) = legs.get_mut(leg) else { return };
    (leg.ties.recording, leg.ties.media[0]) = (recording, media);
    if !recording {
        identities(leg, message);
    }
    if let Some(by) = message.referred_by().and_then(|by| Party::of_uri(by.uri)) {
        leg.rare_mut().referred_by = Some(by);
    }
    if replaces.is_some() {
        leg.rare_mut().replaces = replaces;
    }
    for uuid in sessions {
        leg.rare_mut().add_session(uuid);
    }
    for value in values {
        leg.rare_mut().add_header(value);
    }
}

/// Asserted identities that are not those of From anyway, and who diverted the call.
fn identities(leg: &mut Leg, message: &Message<'_>) {
    let from = super::evidence::from(leg);
    let mut keep = |name: Name, list: fn(&mut Rare) -> &mut Vec<Party>, but: Option<&Party>| {
        for value in message.values(name).take(MOST_OF_EACH) {
            let party = NameAddr::parse(value).and_then(|address| Party::of_uri(address.uri));
            let Some(party) = party.filter(|party| Some(party) != but) else { continue };
            let known = list(leg.rare_mut());
            if known.len() < MOST_OF_EACH && !known.contains(&party) {
                known.push(party);
            }
        }
    };
    for name in [Name::PAssertedIdentity, Name::PPreferredIdentity, Name::RemotePartyId] {
        keep(name, |rare| &mut rare.asserted, from.as_ref());
    }
    for name in [Name::Diversion, Name::HistoryInfo] {
        keep(name, |rare| &mut rare.diverted, None);
    }
}

/// Those of the configured headers that a message has: index into their list, value.
pub(super) fn headers<'a, 'm>(
    message: &'m Message<'a>,
    config: &'m LinkConfig,
) -> impl Iterator<Item = (u8, &'a [u8])> + 'm {
    config.headers.iter().zip(0u8..).filter_map(move |(header, index)| {
        let value = message.called(&header.name)?;
        let value = match &header.param {
            Some(param) => Params::new(value).get(param)?,
            None => value,
        };
        Some((index, value))
    })
}

/// The UUIDs of an RFC 7989 §5 Session-ID but nil, hashed.
pub(super) fn sessions(legs: &Legs, message: &Message<'_>) -> SmallVec<[u64; 2]> {
    let Some(value) = message.header(Name::SessionId) else { return SmallVec::new() };
    let local = value.split(|byte| *byte == b';').next();
    let remote = Params::new(&value[local.map_or(0, <[u8]>::len)..]).get("remote");
    let uuids = [local, remote].into_iter().flatten().map(<[u8]>::trim_ascii);
    uuids
        .filter(|uuid| uuid.len() == 32 && uuid.iter().any(|byte| *byte != b'0'))
        .map(|uuid| legs.hash(&uuid.to_ascii_lowercase()))
        .collect()
}

/// Where the message's SDP wants the media.
pub(super) fn media(legs: &Legs, message: &Message<'_>) -> Option<Media> {
    let audio = sdp::Session::of(message)?.audio?;
    let address = audio.address?;
    #[allow(clippy::cast_possible_truncation, reason = "half of a hash is enough for a tie-break")]
    let half = |hash: u64| hash as u32;
    let port = half(legs.hash_of((address, audio.port)));
    Some(Media {
        host: half(legs.hash_of(address)),
        port: port.try_into().unwrap_or(std::num::NonZeroU32::MIN),
    })
}
