//! Why capture could not start or go on, in words that name the missing thing.

use std::io;

use aya::EbpfError;
use aya::maps::MapError;
use aya::programs::ProgramError;

use super::interfaces::Interface;
use super::probe;
use crate::error_chain::chain;

/// Why capture could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No interface of this name.
    #[error("interface {name}: no such interface; {there}")]
    NoInterface {
        /// The name.
        name: String,
        /// Those that there are, the likest first, for a person.
        there: String,
    },
    /// The programs do not know how frames of this interface begin.
    #[error("interface {interface}: link layer type {link_layer} (ARPHRD) is not one sipobs reads")]
    LinkLayer {
        /// The interface.
        interface: String,
        /// Its type, as `/sys/class/net/NAME/type` says.
        link_layer: u16,
    },
    /// The configuration asks for something that cannot be.
    #[error("capture.{field}: {reason}")]
    Config {
        /// The field of [`super::Config`].
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The process may not do what it must.
    #[error("{action}: not permitted; {}", lacking(.missing))]
    Capability {
        /// What it tried.
        action: &'static str,
        /// The capabilities it lacks for that.
        missing: Vec<&'static str>,
    },
    /// The kernel did not take a program.
    #[error("program {program}: the kernel refused it: {reason}")]
    Program {
        /// Its name in the object.
        program: &'static str,
        /// The kernel's answer, with the end of the verifier's log.
        reason: String,
    },
    /// Programs and maps could not be set up.
    #[error("eBPF maps: {0}")]
    Maps(String),
    /// A program could not be attached in any allowed way.
    #[error("interface {interface}: cannot attach: {}", .refused.join("; "))]
    Attach {
        /// The interface.
        interface: String,
        /// Each way tried, with the reason it did not go.
        refused: Vec<String>,
    },
    /// There are no perf rings, and the configuration wants no other.
    #[error("opening perf rings: {0}; capture.ring = \"auto\" takes BPF ring buffers where there are none")]
    PerfRings(String),
    /// The programs could not be given a CPU's ring.
    #[error("ring of CPU {cpu}: {source}")]
    Ring {
        /// The CPU.
        cpu: u32,
        /// The system's answer.
        source: io::Error,
    },
    /// Waiting for frames failed.
    #[error("waiting for frames: {0}")]
    Wait(#[source] io::Error),
    /// The system does not tell something it should.
    #[error("{what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
}

fn lacking(capabilities: &[&str]) -> String {
    match capabilities {
        [] if !probe::kernel_is_at_least(5, 11) => {
            "all capabilities needed are there: before Linux 5.11 maps and programs count as locked memory; \
             raise RLIMIT_MEMLOCK (LimitMEMLOCK=infinity, ulimit -l unlimited)"
                .into()
        }
        [] => "all capabilities needed are there: the limit on locked memory (RLIMIT_MEMLOCK) or a security \
             module (lockdown, seccomp, LSM) forbids it"
            .into(),
        some => format!("missing {}", some.join(", ")),
    }
}

/// Interfaces that are named at most where another is missed: a node may have thousands.
const NAMED: usize = 12;

impl Error {
    pub(super) fn no_interface(name: &str, interfaces: &[Interface]) -> Self {
        let mut there: Vec<&str> = interfaces.iter().map(|interface| &*interface.name).collect();
        there.sort_by(|one, other| {
            let likeness = |it| strsim::normalized_damerau_levenshtein(it, name);
            likeness(other).total_cmp(&likeness(one)).then(one.cmp(other))
        });
        let more = there.len().saturating_sub(NAMED);
        there.truncate(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let there = match &there[..] {
            [] => "there is none at all".into(),
            _ => format!("there are {}{more}", there.join(", ")),
        };
        Self::NoInterface { name: name.to_owned(), there }
    }

    pub(super) fn maps(error: &(dyn std::error::Error + 'static)) -> Self {
        if is_permission(error) {
            return Self::Capability { action: "creating eBPF maps", missing: probe::missing(&["CAP_BPF"]) };
        }
        Self::Maps(chain(error))
    }

    pub(super) fn program(program: &'static str, error: &ProgramError) -> Self {
        if is_permission(error)
            && !matches!(error, ProgramError::LoadError { verifier_log, .. } if !verifier_log.to_string().trim().is_empty())
        {
            return Self::Capability {
                action: "loading eBPF programs",
                missing: probe::missing(&["CAP_BPF", "CAP_NET_ADMIN"]),
            };
        }
        let reason = match error {
            ProgramError::LoadError { io_error, verifier_log } => {
                let log = verifier_log.to_string();
                let lines: Vec<_> = log.trim_end().lines().collect();
                let end = lines[lines.len().saturating_sub(4)..].join(" | ");
                if end.is_empty() { io_error.to_string() } else { format!("{io_error}: {end}") }
            }
            other => chain(other),
        };
        Self::Program { program, reason }
    }
}

impl From<EbpfError> for Error {
    fn from(error: EbpfError) -> Self {
        Self::maps(&error)
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        Self::maps(&error)
    }
}

/// The error number at the root of an error of aya's.
pub(super) fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}

fn is_permission(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(errno(error), Some(libc::EPERM | libc::EACCES))
}

/// Also errors that only their text tells apart from others, as aya's netlink errors keep their cause.
pub(super) fn io_errno(error: &ProgramError) -> Option<i32> {
    errno(error).or_else(|| {
        let text = chain(error);
        let (_, rest) = text.rsplit_once("os error ")?;
        rest.split(')').next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_interface_is_answered_with_those_that_there_are() {
        let interfaces = |names: &[&str]| -> Vec<Interface> {
            names.iter().map(|name| Interface { name: (*name).into(), ..Interface::default() }).collect()
        };
        let said = |there: &[Interface]| Error::no_interface("eth0", there).to_string();
        assert_eq!(
            said(&interfaces(&["lo", "ens3", "eth1"])),
            "interface eth0: no such interface; there are eth1, ens3, lo"
        );
        let veths: Vec<String> = (0..40).map(|number| format!("veth{number:02}")).collect();
        let many = said(&interfaces(&veths.iter().map(|name| &**name).collect::<Vec<_>>()));
        assert!(many.ends_with(" and 28 more") && many.matches("veth").count() == NAMED, "{many}");
        assert!(said(&[]).ends_with("there is none at all"));
    }
}
