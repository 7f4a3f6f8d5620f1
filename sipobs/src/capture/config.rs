//! What to capture live, and how: in every build, so that one configuration file does for all of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sipobs_common::{SIP_PORT, VXLAN_PORT, VXLAN_PORT_LINUX};

use crate::list;

/// What to capture live, and how.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Interfaces to watch: a name, which must exist at the start; or a pattern that any number may fit, now or
    /// later: a glob (`eth*`), a regular expression between slashes (`/^ens[0-9]+$/`), a network that holds
    /// one of their addresses (`10.0.0.0/8`), `default-route` (in any routing table that is looked up, by one way or
    /// several), or `pods` (veths into other network namespaces).
    #[serde(deserialize_with = "list::parted")]
    pub interfaces: Vec<String>,
    /// Interfaces not to watch, in the same forms; wins over `interfaces`.
    #[serde(deserialize_with = "list::parted")]
    pub exclude: Vec<String>,
    /// Ports that carry SIP, as source or destination, UDP or TCP.
    #[serde(deserialize_with = "list::ports")]
    pub ports: Vec<u16>,
    /// How to see received frames.
    pub mode: Mode,
    /// What carries frames from the kernel.
    pub ring: RingChoice,
    /// Bytes of each CPU's ring; rounded up to a power of two of pages. Less where the process may not have so much.
    pub ring_bytes: usize,
    /// UDP ports of VXLAN tunnels to look into (at most two).
    #[serde(deserialize_with = "list::ports")]
    pub vxlan_ports: Vec<u16>,
    /// Requests not to deliver over UDP: any of `OPTIONS`, `REGISTER`, `PUBLISH`. Their answers still come.
    #[serde(deserialize_with = "list::parted")]
    pub drop_methods: Vec<String>,
    /// How long a lone message may wait in its ring.
    #[serde(with = "crate::duration")]
    pub linger: Duration,
    /// Let the kernel programs log what they could not hand over, one line each, to standard error.
    pub kernel_log: bool,
}

/// How to see received frames. Sent frames are always seen by tc egress: XDP does not see them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Native XDP, but where a default route goes out of the interface and its driver resets queues for it; else
    /// generic XDP; else tc ingress.
    #[default]
    Auto,
    /// Native XDP or an error, also where the driver takes the link down for a moment.
    #[serde(alias = "xdp")]
    #[value(alias = "xdp")]
    Native,
    /// Generic XDP or an error.
    Generic,
    /// tc ingress or an error. Costs a virtual interface (veth and kin) less than XDP does.
    Tc,
}

/// What carries frames from the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum RingChoice {
    /// Perf rings; where `perf_event_open` is forbidden, BPF ring buffers.
    #[default]
    Auto,
    /// Perf rings or an error.
    Perf,
    /// BPF ring buffers or an error.
    Ringbuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            exclude: Vec::new(),
            ports: vec![SIP_PORT],
            mode: Mode::Auto,
            ring: RingChoice::Auto,
            ring_bytes: 4 << 20,
            vxlan_ports: vec![VXLAN_PORT, VXLAN_PORT_LINUX],
            drop_methods: Vec::new(),
            linger: Duration::from_millis(20),
            kernel_log: false,
        }
    }
}
