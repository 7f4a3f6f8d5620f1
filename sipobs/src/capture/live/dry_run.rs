//! The programs on given frames, in the kernel, attached to nothing: for tests and for measuring their cost.

use std::time::Duration;

use aya::Ebpf;
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions, Xdp};

use super::ring::Rings;
use super::{Config, Counters, Error, Hook, attach, maps, prepare};
use crate::error_chain::chain;

/// The programs, loaded and with rings of their own.
#[derive(Debug)]
pub struct DryRun {
    ebpf: Ebpf,
    rings: Rings,
}

/// One of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// XDP for frames that may lie in several buffers.
    Xdp,
    /// XDP for frames in one buffer.
    XdpLinear,
    /// tc ingress on Ethernet.
    TcIngress,
    /// tc egress on Ethernet.
    TcEgress,
    /// tc egress on an interface without a link layer.
    TcEgressRaw,
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Ran {
    /// What the program returned.
    pub returned: i32,
    /// For one frame, by the kernel's own measure.
    pub time: Duration,
    /// What the program counted in this run.
    pub counted: Counters,
    /// What it wrote to the rings: marks from [`super::flags`], length on the wire, bytes.
    pub delivered: Vec<(u32, u32, Vec<u8>)>,
}

impl Program {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Xdp => "sipobs_xdp",
            Self::XdpLinear => "sipobs_xdp_linear",
            Self::TcIngress => "sipobs_tc_ingress",
            Self::TcEgress => "sipobs_tc_egress",
            Self::TcEgressRaw => "sipobs_tc_egress_raw",
        }
    }

    const fn hook(self) -> Hook {
        match self {
            Self::Xdp | Self::XdpLinear => Hook::Xdp,
            Self::TcIngress => Hook::TcIngress,
            Self::TcEgress | Self::TcEgressRaw => Hook::TcEgress,
        }
    }
}

impl DryRun {
    /// Sets up the programs as [`super::Live::open`] does; `config` names no interface.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let (ebpf, rings) = prepare(config)?;
        Ok(Self { ebpf, rings })
    }

    /// Runs `program` on `frame`, `repeat` times over.
    pub fn run(&mut self, program: Program, frame: &[u8], repeat: u32) -> Result<Ran, Error> {
        let before = self.counters(program)?;
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
        let name = program.as_str();
        let result = if program.hook() == Hook::Xdp {
            attach::load_xdp(&mut self.ebpf, name)?;
            attach::program::<Xdp>(&mut self.ebpf, name)?.test_run(options)
        } else {
            attach::classifier(&mut self.ebpf, name)?;
            attach::program::<SchedClassifier>(&mut self.ebpf, name)?.test_run(options)
        };
        let result = result.map_err(|error| Error::Program { program: name, reason: chain(&error) })?;
        let mut delivered = Vec::new();
        self.rings.drain(u64::MAX, &mut |header, bytes| {
            delivered.push((header.flags, header.wire_len, bytes.to_vec()));
        });
        Ok(Ran {
            returned: result.return_value.cast_signed(),
            time: result.duration,
            counted: self.counters(program)?.since(&before),
            delivered,
        })
    }

    fn counters(&self, program: Program) -> Result<Counters, Error> {
        let mut sum = Counters::default();
        for counters in maps::counters_by_cpu(&self.ebpf, program.hook())? {
            sum.add(&counters);
        }
        Ok(sum)
    }
}
