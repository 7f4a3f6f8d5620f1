//! `cargo xtask ladders`: writes `input.pcap` of every golden case that has a `ladder.txt`, and that of the diagnosis
//! table's cases.
//!
//! A ladder file is a call flow a person can read: who says what to whom, when. The messages around it are
//! made by rule, so that a new case costs ten lines:
//!
//! ```text
//! # 486 without ringing                      comments
//! party T 10.88.0.1:5060                     a host
//! party L 10.88.0.2:5060
//! leg a T L from=+15105550138 to=+15105550100 confirmed
//! leg b L T from=+15105550100 to=+15105550177
//! header L User-Agent: x                     added to every message L sends
//! 2.1   b L>T INVITE sdp                     at 2.1 s; a leg's first INVITE opens its dialog
//! +0    b T>L 407                            0 s after the line before `+` alone: 1 ms
//! +     b L>T ACK
//! +     b L>T INVITE sdp | Proxy-Authorization: Digest x
//! +0.4  b T>L 486 Busy Here
//! clock +3600                                the capture's clock is an hour ahead from here on
//! +5    a T>L BYE
//! ```
//!
//! `snap 300` keeps no more than that of any frame. `confirmed` on a leg writes its INVITE, 180, 200 and ACK from time 0 (or `confirmed@3`); `midcall` says that its
//! dialog is older than the capture. `mtu=576` fragments its datagrams (`reversed`: the last fragment comes first), and
//! `802.1ad=7 802.1q=42` or `vxlan=42` is around its packets, outermost first. A status answers the newest request of the other side, or the one named:
//! `200/NOTIFY`. Words after a message:
//!
//! - `sdp`, `sdp=sendonly`, `sdp=0.0.0.0`: a session description, its direction, hold by address
//! - `uri=…`, `cseq=N`, `tag=…` (another To tag: a fork), `untagged` (a To tag forgotten), `tagged` (in
//!   an early dialog)
//! - `relay`: the same request at the next hop, one Via more; `again`, in place of a message: the same bytes once more;
//!   `again/REFER`: those of the sender's newest REFER; `again/INVITE@T`: those of T's newest INVITE, whoever sends them
//! - `lost`: it is not captured
//! - `elsewhere`, last: over a second TCP connection, opened by who says so first
//! - to the end, before `|`: `frag=100 Trying`, `rawfrag=…` (the bytes, `\n` for a line's end), `list=sip:a,sip:b`,
//!   `body=MEDIA/TYPE text` (`\n` for a line's end)

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

mod causes;
mod script;

pub(crate) use script::capture;

/// Writes the captures of all cases below `tests`: those of `golden`, and the one of `causes`; with `check`, only
/// compares.
pub(crate) fn run(tests: &Path, check: bool) -> Result<()> {
    let mut stale = Vec::new();
    let mut ladders: Vec<_> =
        cases(&tests.join("golden"))?.into_iter().map(|case| case.join("ladder.txt")).collect();
    ladders.push(tests.join("causes/ladders.txt"));
    for path in ladders {
        let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
        let case = path.parent().unwrap_or(tests);
        let name = case.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = if path.ends_with("ladder.txt") { capture(&text, &name) } else { causes::capture(&text) };
        let bytes = bytes.with_context(|| format!("{}", path.display()))?;
        let input = case.join("input.pcap");
        if fs::read(&input).ok().as_deref() != Some(&bytes[..]) {
            if check {
                stale.push(name);
            } else {
                fs::write(&input, bytes).with_context(|| format!("{}", input.display()))?;
                println!("wrote {}", input.display());
            }
        }
    }
    if !stale.is_empty() {
        bail!("not what their ladder says; run `cargo xtask ladders`: {}", stale.join(", "));
    }
    Ok(())
}

fn cases(root: &Path) -> Result<Vec<PathBuf>> {
    let mut cases: Vec<PathBuf> = fs::read_dir(root)
        .with_context(|| format!("{}", root.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    cases.retain(|case| case.join("ladder.txt").is_file());
    cases.sort();
    Ok(cases)
}
