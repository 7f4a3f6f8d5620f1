//! What can be wrong with a capture file, and what to do about it.

use std::io;

/// Why a file could not be read, or not to its end. What came before stays valid.
#[derive(Debug, thiserror::Error)]
#[error("{file}: {fault}{}", .fault.remedy(.file))]
pub struct FileError {
    /// The file as it was named, `-` for standard input.
    pub file: String,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with a capture file. Offsets count from the start of the (unpacked) file.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It could not be opened.
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    /// The operating system, or the decompressor, failed.
    #[error("cannot be read at offset {offset}: {error}")]
    Read {
        /// Where.
        offset: u64,
        /// What they said.
        error: io::Error,
    },
    /// It is packed by a program that sipobs leaves the unpacking to.
    #[error("packed by {by}")]
    Packed {
        /// Its name.
        by: &'static str,
        /// What unpacks it to standard output, but for the file's name.
        command: &'static str,
    },
    /// Of a format, known by how it begins, that sipobs does not read.
    #[error("{what}, which sipobs does not read")]
    Foreign {
        /// Which.
        what: String,
    },
    /// None of the formats that sipobs reads, or knows.
    #[error("not a pcap, pcapng or snoop file (it starts with {magic:#010x})")]
    Format {
        /// Its first four bytes, big-endian.
        magic: u32,
    },
    /// It ends in the middle of something.
    #[error("cut short at offset {offset}: {needed} bytes of {field} expected, {left} left")]
    Truncated {
        /// Where the unfinished field begins.
        offset: u64,
        /// Which field that is.
        field: &'static str,
        /// Its length in bytes.
        needed: u64,
        /// How many of them are there.
        left: u64,
    },
    /// A field holds a value that cannot be.
    #[error("{field} at offset {offset} is {value}, which cannot be")]
    Value {
        /// Where the field is.
        offset: u64,
        /// Which field it is.
        field: &'static str,
        /// What it says.
        value: u64,
    },
    /// Somebody asked for the end ([`super::Stop`]).
    #[error("interrupted before its end")]
    Interrupted,
    /// Too many others have frames of the same time.
    #[error("more than {most} files overlap in time, and it was left out")]
    Beside {
        /// How many are read side by side.
        most: usize,
    },
    /// Its SIP messages were cut off when they were captured.
    #[error(
        "{messages} of {of} SIP messages were cut off when they were captured (frames of {longest} bytes at most; the \
             first is frame {first})"
    )]
    Cut {
        /// How many.
        messages: u64,
        /// Of how many.
        of: u64,
        /// The longest piece of a frame that was cut, in bytes.
        longest: usize,
        /// The number of the first frame with one.
        first: u64,
    },
    /// Its TLS secrets are not all in the format of a key log; the others were used.
    #[error(
        "{lines} lines of TLS secrets (the first of them in the block at offset {offset}) are none of a key log"
    )]
    Secrets {
        /// How many.
        lines: u64,
        /// Where the first block with such a line begins.
        offset: u64,
    },
    /// It holds frames that sipobs cannot read; the others were read.
    #[error("{frames} of {of} frames could not be read ({what})")]
    Unread {
        /// How many.
        frames: u64,
        /// Of how many.
        of: u64,
        /// How many for which reason.
        what: String,
    },
}

impl Fault {
    /// What to do about it, where that is known.
    fn remedy(&self, file: &str) -> String {
        let file = if file == "-" { "FILE".to_owned() } else { quoted(file) };
        let export = format!("`tshark -r {file} -Y sip -U 'OSI layer 7' -w OUT.pcapng`");
        match self {
            Self::Packed { command, .. } => format!(": `{command} {file} | sipobs pcap -` reads it"),
            Self::Foreign { .. } | Self::Format { .. } => format!(
                ": where Wireshark reads it, `editcap -F pcapng {file} OUT.pcapng` turns it into what sipobs reads, and \
                 where that can't, {export} takes out the SIP"
            ),
            Self::Unread { .. } => {
                format!(": {export} takes out the SIP that Wireshark finds in them, for sipobs to read")
            }
            Self::Beside { .. } => ": `mergecap -w OUT.pcapng FILE…` makes one of several".to_owned(),
            Self::Cut { .. } => {
                ": what they say further on is missing; capture whole frames (`-s 0` of tcpdump and dumpcap)"
                    .to_owned()
            }
            Self::Secrets { .. } => {
                ": `editcap --inject-secrets tls,KEYS` puts others into a copy, and --keylog KEYS takes them from beside it"
                    .to_owned()
            }
            Self::Interrupted
            | Self::Open(_)
            | Self::Read { .. }
            | Self::Truncated { .. }
            | Self::Value { .. } => String::new(),
        }
    }
}

/// A file's name as a shell takes it.
fn quoted(file: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./+:,@%".contains(c);
    if file.chars().all(plain) { file.to_owned() } else { format!("'{}'", file.replace('\'', r"'\''")) }
}

/// Formats that Wireshark reads, and what a file of theirs begins with.
const FOREIGN: &[(&[u8], &str)] = &[
    (b"GMBU", "a Microsoft Network Monitor capture"),
    (b"RTSS", "a Microsoft Network Monitor capture"),
    (b"XCP\0", "a NetXRay or Sniffer capture"),
    (b"TRSNIFF data    \x1a", "a Sniffer capture"),
    (b"ObserverPktBuffe", "an Observer capture"),
    (b"\x05VNF", "a Visual Networks capture"),
    (b"\xaa\xaa\xaa\xaa", "an InfoVista 5View capture"),
    (b"\x7fver", "an Omnipeek capture"),
    (b"btsnoop\0", "a capture of Bluetooth"),
    (b"+---------+-----", "a K12 text file"),
];

/// Enough to know each of them by.
pub(super) const LONGEST_MAGIC: usize = 17;

/// What is wrong with a file that begins so.
pub(super) fn foreign(begin: &[u8]) -> Fault {
    match FOREIGN.iter().find(|(magic, _)| begin.starts_with(magic)) {
        Some((_, name)) => Fault::Foreign { what: (*name).to_owned() },
        None => Fault::Format { magic: begin.first_chunk().map_or(0, |first| u32::from_be_bytes(*first)) },
    }
}
