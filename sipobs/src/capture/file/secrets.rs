//! What a capture file holds of secrets (pcapng's Decryption Secrets Block).

/// TLS key log, the one that is used.
const TLS: u32 = 0x544c_534b;

/// The types of secrets that have a name (draft-ietf-opsawg-pcapng), and what they are called here.
const KINDS: [(u32, &str); 6] = [
    (TLS, "tls"),
    (0x5353_484b, "ssh"),
    (0x5747_4b4c, "wireguard"),
    (0x5a4e_574b, "zigbee_nwk"),
    (0x5a41_5053, "zigbee_aps"),
    (0x5541_4b4c, "opc_ua"),
];

/// How many blocks of secrets there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Secrets {
    /// By type, in the order of [`KINDS`]; those of all other types are the last.
    blocks: [u64; KINDS.len() + 1],
    /// Lines of TLS key logs that are none.
    pub bad_lines: u64,
    /// The offset of the first block with such a line.
    pub first_bad: Option<u64>,
}

impl Secrets {
    /// Counts a block of this type. Whether it is a TLS key log.
    pub(super) fn count(&mut self, kind: u32) -> bool {
        let at = KINDS.iter().position(|(number, _)| *number == kind).unwrap_or(KINDS.len());
        self.blocks[at] += 1;
        kind == TLS
    }

    /// Blocks by type: those that there were.
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let names = KINDS.iter().map(|(_, name)| *name).chain(["other"]);
        names.zip(self.blocks).filter(|(_, blocks)| *blocks > 0)
    }
}
