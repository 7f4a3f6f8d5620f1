//! What network drivers do when a native XDP program is attached: from their sources, which docs/interfaces.md names.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

/// Drivers of network cards that take a native XDP program without resetting their queues, as `ethtool -i` names them.
/// One that is not here resets them, or nobody has looked.
const WITHOUT_RESET: [&str; 9] =
    ["cpsw", "cpsw-switch", "fbnic", "hv_netvsc", "icssg-prueth", "sfc", "sfc_siena", "tsnep", "virtio_net"];

/// Drivers that hand a native XDP program down to the drivers of their ports.
const HANDED_DOWN: [&str; 2] = ["bonding", "hv_netvsc"];

pub(super) fn takes_xdp_without_reset(driver: &str) -> bool {
    WITHOUT_RESET.contains(&driver)
}

pub(super) fn hands_xdp_down(driver: &str) -> bool {
    HANDED_DOWN.contains(&driver)
}

/// The driver of the interface `name` in this network namespace, as it names itself (SIOCETHTOOL). Takes no privilege.
pub(super) fn driver(name: &str) -> Option<String> {
    const ETHTOOL_GDRVINFO: u32 = 3;
    /// `struct ethtool_drvinfo`, up to the driver's name; the rest is of no interest.
    #[repr(C)]
    struct DriverInfo {
        command: u32,
        driver: [u8; 32],
        rest: [u8; 160],
    }
    // SAFETY: plain arguments; a descriptor that is returned is nobody else's.
    let socket = unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        (socket >= 0).then(|| OwnedFd::from_raw_fd(socket))
    }?;
    let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let room = request.ifr_name.len() - 1;
    for (to, from) in request.ifr_name[..room].iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut info).cast();
    // SAFETY: the request points to an ethtool_drvinfo, which outlives the call and is as large as the kernel's.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    let length = info.driver.iter().position(|byte| *byte == 0).unwrap_or(info.driver.len());
    let driver = String::from_utf8_lossy(&info.driver[..length]).into_owned();
    (result == 0 && !driver.is_empty()).then_some(driver)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was read in the sources, and how much of it the code goes by.
    const TABLE: &str = include_str!("../../../../docs/interfaces.md");

    #[test]
    fn the_table_of_drivers_says_what_the_code_does() {
        let rows = TABLE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
        let (mut kept, mut reset) = (Vec::new(), 0);
        for (names, rest) in rows {
            let names: Vec<&str> = names.split("`, `").collect();
            if rest.starts_with("no reset") {
                kept.extend(names.into_iter().filter(|name| !["bonding", "tun", "veth"].contains(name)));
            } else {
                assert!(names.iter().all(|name| !takes_xdp_without_reset(name)), "{names:?}: {rest}");
                reset += names.len();
            }
        }
        kept.sort_unstable();
        assert_eq!(kept, WITHOUT_RESET);
        assert!(reset > 20, "{reset} that reset");
    }

    #[test]
    fn a_driver_is_asked_for_its_name() {
        assert_eq!((driver("none such"), driver("a name that is far too long")), (None, None));
        // SAFETY: geteuid has no preconditions.
        if unsafe { libc::geteuid() } != 0 {
            println!("SKIPPED: making an interface needs root");
            return;
        }
        let thread = std::thread::spawn(|| {
            // SAFETY: a namespace for this thread alone, without preconditions.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
            let mut ip = std::process::Command::new("ip");
            assert!(ip.args(["link", "add", "v0", "type", "veth"]).status().unwrap().success());
            driver("v0")
        });
        assert_eq!(thread.join().unwrap().as_deref(), Some("veth"));
    }
}
