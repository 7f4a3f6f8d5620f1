//! Which program goes where, and in which order the ways are tried. No program of anybody else's is ever
//! displaced: where one stands in the way, the next way is tried.

use aya::Ebpf;
use aya::programs::links::LinkOrder;
use aya::programs::tc::{
    NlOptions, SchedClassifier, SchedClassifierLink, TcAttachOptions, TcAttachType, TcError, TcHandle,
    qdisc_add_clsact, qdisc_detach_program,
};
use aya::programs::xdp::{Xdp, XdpLink, XdpMode};
use aya::programs::{Program as AnyProgram, ProgramError};

use super::error::{errno, io_errno};
use super::interfaces::{Interface, Link, link_of};
use super::probe;
use super::{Attachment, Error, How, Mode, Outlook};
use crate::error_chain::chain;

/// Where our clsact filters stand: before all others, under a handle of our own. They outlive a daemon that
/// is killed, so that the next one must find them.
const CLSACT_PRIORITY: u16 = 1;
const CLSACT_HANDLE: TcHandle = TcHandle::new(0x51, 0x5060);

/// One program on one interface; dropping it detaches the program.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) attachment: Attachment,
    _link: Hold,
}

/// What keeps a program attached.
#[derive(Debug)]
enum Hold {
    Xdp(#[allow(dead_code, reason = "held for its drop")] XdpLink),
    Tc(#[allow(dead_code, reason = "held for its drop")] SchedClassifierLink),
}

/// What would be tried on an interface, without trying it: an attach may flap a link.
pub(super) fn outlook(interface: &Interface, mode: Mode) -> Result<Outlook, Error> {
    let link = link(interface)?;
    let tried = |ways: &[How]| -> Vec<(How, Option<String>)> {
        let barred = |how| withheld(interface, mode, how).or_else(|| obstacle(interface, how));
        ways.iter().map(|&how| (how, barred(how))).collect()
    };
    let outlook = Outlook {
        ingress: tried(ways_in(mode, link)),
        egress: tried(&WAYS_OUT),
        interface: interface.clone(),
    };
    for ways in [&outlook.ingress, &outlook.egress] {
        if ways.iter().all(|(_, obstacle)| obstacle.is_some()) {
            let refused = ways
                .iter()
                .map(|(how, obstacle)| format!("{how}: {}", obstacle.as_deref().unwrap_or("")))
                .collect();
            return Err(Error::Attach { interface: interface.name.clone(), refused });
        }
    }
    Ok(outlook)
}

/// What is known to stand in the way; a driver says so only when tried.
fn obstacle(interface: &Interface, how: How) -> Option<String> {
    match how {
        How::NativeXdp | How::GenericXdp => {
            interface.xdp.map(|id| format!("another XDP program is attached (id {id})"))
        }
        How::TcxIngress | How::TcxEgress => (!probe::kernel_is_at_least(6, 6)).then(|| NEEDS_TCX.to_owned()),
        How::ClsactIngress | How::ClsactEgress => None,
    }
}

/// Why a way is left out that may well be open: `auto` takes no link down that the node can't do without.
fn withheld(interface: &Interface, mode: Mode, how: How) -> Option<String> {
    match (mode, how, &interface.xdp_resets) {
        (Mode::Auto, How::NativeXdp, Some(driver)) if interface.uplink => Some(format!(
            "not tried: a default route goes out here, and the driver {driver} resets its queues for it or is not known \
             not to; mode = \"native\" tries it all the same"
        )),
        _ => None,
    }
}

const NEEDS_TCX: &str = "needs Linux 6.6";

/// Attaches both directions of an interface.
pub(super) fn attach(ebpf: &mut Ebpf, interface: &Interface, mode: Mode) -> Result<[Attached; 2], Error> {
    let link = link(interface)?;
    let mut refused = Vec::new();
    for &how in ways_in(mode, link) {
        if let Some(reason) = withheld(interface, mode, how) {
            refused.push(format!("{how}: {reason}"));
            continue;
        }
        match try_way(ebpf, interface, link, how)? {
            Ok(link_in) => {
                let ingress = attached(interface, how, refused, link_in);
                let egress = attach_egress(ebpf, interface, link)?;
                return Ok([ingress, egress]);
            }
            Err(reason) => refused.push(format!("{how}: {reason}")),
        }
    }
    if refused.is_empty() {
        refused.push(format!("{} takes an interface with a link layer", mode_name(mode)));
    }
    Err(Error::Attach { interface: interface.name.clone(), refused })
}

fn link(interface: &Interface) -> Result<Link, Error> {
    link_of(interface.link_layer).ok_or_else(|| Error::LinkLayer {
        interface: interface.name.clone(),
        link_layer: interface.link_layer,
    })
}

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Auto => "auto",
        Mode::Native => "native XDP",
        Mode::Generic => "generic XDP",
        Mode::Tc => "tc",
    }
}

/// The ways to see received frames, in the order they are tried. An interface without a link layer gives
/// XDP programs nothing they could tell apart from Ethernet, so tc it is.
const fn ways_in(mode: Mode, link: Link) -> &'static [How] {
    match (mode, link) {
        (Mode::Auto, Link::Ethernet) => {
            &[How::NativeXdp, How::GenericXdp, How::TcxIngress, How::ClsactIngress]
        }
        (Mode::Native, Link::Ethernet) => &[How::NativeXdp],
        (Mode::Generic, Link::Ethernet) => &[How::GenericXdp],
        (Mode::Tc, _) | (Mode::Auto, Link::Raw) => &[How::TcxIngress, How::ClsactIngress],
        (Mode::Native | Mode::Generic, Link::Raw) => &[],
    }
}

const WAYS_OUT: [How; 2] = [How::TcxEgress, How::ClsactEgress];

fn attach_egress(ebpf: &mut Ebpf, interface: &Interface, link: Link) -> Result<Attached, Error> {
    let mut refused = Vec::new();
    for how in WAYS_OUT {
        match try_way(ebpf, interface, link, how)? {
            Ok(link) => return Ok(attached(interface, how, refused, link)),
            Err(reason) => refused.push(format!("{how}: {reason}")),
        }
    }
    Err(Error::Attach { interface: interface.name.clone(), refused })
}

fn attached(interface: &Interface, how: How, refused: Vec<String>, link: Hold) -> Attached {
    let attachment = Attachment { interface: interface.name.clone(), ifindex: interface.index, how, refused };
    Attached { attachment, _link: link }
}

/// Tries one way. The inner result says why it does not go on this interface; the outer, why nothing will.
fn try_way(
    ebpf: &mut Ebpf,
    interface: &Interface,
    link: Link,
    how: How,
) -> Result<Result<Hold, String>, Error> {
    let result = match how {
        How::NativeXdp => attach_xdp(xdp(ebpf)?, interface.index, XdpMode::Driver),
        How::GenericXdp => attach_xdp(xdp(ebpf)?, interface.index, XdpMode::Skb),
        How::TcxIngress | How::TcxEgress if !probe::kernel_is_at_least(6, 6) => {
            return Ok(Err(NEEDS_TCX.to_owned()));
        }
        How::TcxIngress => attach_tcx(ingress(ebpf, link)?, &interface.name, TcAttachType::Ingress),
        How::TcxEgress => attach_tcx(egress(ebpf, link)?, &interface.name, TcAttachType::Egress),
        How::ClsactIngress => attach_clsact(ingress(ebpf, link)?, &interface.name, TcAttachType::Ingress),
        How::ClsactEgress => attach_clsact(egress(ebpf, link)?, &interface.name, TcAttachType::Egress),
    };
    match result {
        Ok(hold) => Ok(Ok(hold)),
        Err(error) if io_errno(&error) == Some(libc::EPERM) => Err(Error::Capability {
            action: "attaching programs",
            missing: probe::missing(&["CAP_NET_ADMIN"]),
        }),
        Err(error) => Ok(Err(refusal(how, &error))),
    }
}

/// The kernel's errno in plain words (`dev_xdp_attach` in net/core/dev.c and the drivers').
fn refusal(how: How, error: &ProgramError) -> String {
    let is_xdp = matches!(how, How::NativeXdp | How::GenericXdp);
    match io_errno(error) {
        Some(libc::EBUSY) if is_xdp => "another XDP program is attached".to_owned(),
        Some(libc::EEXIST) if is_xdp => "an XDP program is attached in another mode".to_owned(),
        Some(libc::EOPNOTSUPP) if is_xdp => "the driver does not have it".to_owned(),
        Some(libc::ERANGE) if is_xdp => "the MTU is too large for it".to_owned(),
        Some(libc::ENODEV) => "the interface is gone".to_owned(),
        _ => chain(error),
    }
}

fn attach_xdp(program: &mut Xdp, ifindex: u32, mode: XdpMode) -> Result<Hold, ProgramError> {
    let id = program.attach_to_if_index(ifindex, mode)?;
    program.take_link(id).map(Hold::Xdp)
}

fn attach_tcx(
    (_, program): (&'static str, &mut SchedClassifier),
    name: &str,
    way: TcAttachType,
) -> Result<Hold, ProgramError> {
    let order = TcAttachOptions::TcxOrder(LinkOrder::first());
    let id = program.attach_with_options(name, way, order)?;
    program.take_link(id).map(Hold::Tc)
}

fn attach_clsact(
    (program_name, program): (&'static str, &mut SchedClassifier),
    name: &str,
    way: TcAttachType,
) -> Result<Hold, ProgramError> {
    match qdisc_add_clsact(name) {
        Ok(()) | Err(TcError::AlreadyAttached) => {}
        Err(error) if errno(&error) == Some(libc::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    // One a killed daemon of ours has left. That there is none is the rule.
    let _ = qdisc_detach_program(name, way, program_name);
    let ours = TcAttachOptions::Netlink(NlOptions {
        priority: CLSACT_PRIORITY,
        handle: CLSACT_HANDLE,
        classid: None,
    });
    let id = match program.attach_with_options(name, way, ours) {
        Ok(id) => id,
        // The priority belongs to a filter of another kind: take whichever the kernel gives.
        Err(_) => program.attach_with_options(name, way, TcAttachOptions::Netlink(NlOptions::default()))?,
    };
    program.take_link(id).map(Hold::Tc)
}

/// The XDP program for this kernel, loaded.
fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    const FRAGS: &str = "sipobs_xdp";
    const LINEAR: &str = "sipobs_xdp_linear";
    let name = match load_xdp(ebpf, FRAGS) {
        Ok(()) => FRAGS,
        // Multi-buffer frames came with Linux 5.18. The other program's error would only puzzle later on.
        Err(error @ Error::Program { .. }) => load_xdp(ebpf, LINEAR).map(|()| LINEAR).map_err(|_| error)?,
        Err(error) => return Err(error),
    };
    program(ebpf, name)
}

/// Loads every program that this kernel may need, attaching none.
pub(super) fn load_all(ebpf: &mut Ebpf) -> Result<(), Error> {
    xdp(ebpf)?;
    for link in [Link::Ethernet, Link::Raw] {
        ingress(ebpf, link)?;
        egress(ebpf, link)?;
    }
    Ok(())
}

pub(super) fn load_xdp(ebpf: &mut Ebpf, name: &'static str) -> Result<(), Error> {
    let program: &mut Xdp = program(ebpf, name)?;
    match program.fd() {
        Ok(_) => Ok(()),
        Err(_) => load(name, || program.load()),
    }
}

/// How often a program is loaded that a signal keeps from being verified.
const TRIES: u32 = 5;

/// Loads the program `name`. A signal that is pending cuts verification short (EAGAIN), which says nothing about the
/// program.
fn load(name: &'static str, mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), Error> {
    let mut tries = 1;
    loop {
        match load() {
            Err(error) if tries < TRIES && io_errno(&error) == Some(libc::EAGAIN) => tries += 1,
            result => return result.map_err(|error| Error::program(name, &error)),
        }
    }
}

fn ingress(ebpf: &mut Ebpf, link: Link) -> Result<(&'static str, &mut SchedClassifier), Error> {
    classifier(
        ebpf,
        match link {
            Link::Ethernet => "sipobs_tc_ingress",
            Link::Raw => "sipobs_tc_ingress_raw",
        },
    )
}

fn egress(ebpf: &mut Ebpf, link: Link) -> Result<(&'static str, &mut SchedClassifier), Error> {
    classifier(
        ebpf,
        match link {
            Link::Ethernet => "sipobs_tc_egress",
            Link::Raw => "sipobs_tc_egress_raw",
        },
    )
}

pub(super) fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<(&'static str, &'a mut SchedClassifier), Error> {
    let program: &mut SchedClassifier = program(ebpf, name)?;
    if program.fd().is_err() {
        load(name, || program.load())?;
    }
    Ok((name, program))
}

pub(super) fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, Error>
where
    &'a mut P: TryFrom<&'a mut AnyProgram, Error = ProgramError>,
{
    ebpf.program_mut(name)
        .ok_or_else(|| Error::Maps(format!("the object holds no program {name}")))?
        .try_into()
        .map_err(|error| Error::program(name, &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads that end with `error` so many times, and then well.
    fn after(failures: u32, error: i32) -> (Result<(), Error>, u32) {
        let mut loads = 0;
        let result = load("program", || {
            loads += 1;
            if loads > failures { Ok(()) } else { Err(std::io::Error::from_raw_os_error(error).into()) }
        });
        (result, loads)
    }

    fn is_tried(interface: &Interface, mode: Mode) -> bool {
        let outlook = outlook(interface, mode).unwrap();
        outlook.ingress[0] == (How::NativeXdp, None)
    }

    #[test]
    fn the_only_link_is_not_taken_down_unasked() {
        let nic = Interface {
            name: "eth0".into(),
            link_layer: 1,
            uplink: true,
            xdp_resets: Some("ixgbe".into()),
            ..Interface::default()
        };
        assert!(!is_tried(&nic, Mode::Auto));
        assert!(is_tried(&nic, Mode::Native), "asked for");
        assert!(is_tried(&Interface { uplink: false, ..nic.clone() }, Mode::Auto), "another one");
        assert!(
            is_tried(&Interface { xdp_resets: None, ..nic.clone() }, Mode::Auto),
            "a driver that does not"
        );
        let outlook = outlook(&nic, Mode::Auto).unwrap();
        let (how, reason) = &outlook.ingress[0];
        assert!(*how == How::NativeXdp && reason.as_ref().unwrap().contains("the driver ixgbe resets"));
        assert_eq!(outlook.ingress[1], (How::GenericXdp, None));
    }

    #[test]
    fn a_signal_while_a_program_is_verified_is_no_refusal() {
        assert!(matches!(after(TRIES - 1, libc::EAGAIN), (Ok(()), TRIES)));
        assert!(matches!(after(TRIES, libc::EAGAIN), (Err(Error::Program { .. }), TRIES)));
        assert!(matches!(after(1, libc::EINVAL), (Err(Error::Program { .. }), 1)));
    }
}
