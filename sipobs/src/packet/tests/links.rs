//! Every link type, with heads that tshark reads the same way.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;

/// Bytes as hexadecimal digits, which may be grouped; `LxN` stands for `N` times the octet before it.
fn hex(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_whitespace() {
        let (digits, times) = word.split_once('x').map_or((word, 1), |(d, n)| (d, n.parse().unwrap()));
        let octets = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        let octets: Vec<u8> = octets.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect();
        bytes.extend(octets.repeat(times));
    }
    bytes
}

const MAC: &str = "0802 0000 02x18 1000";
const LLC: &str = "aaaa03 000000 0800";
const ETHERNET: &str = "02x12 0800";
/// Of Apple's: length, kind, link type, then zeros.
const PKTAP: &str = "6c000000 01000000";

#[test]
fn each_with_every_head() {
    let ip = v4(17, &udp(5060, 5060, SIP));
    let mut covered = BTreeSet::new();
    for (link, head) in [
        (LinkType::Ethernet, ETHERNET.to_owned()),
        (LinkType::Ethernet, format!("02x12 0500 {LLC}")),
        (LinkType::Ethernet, "02x12 8926 00000001 0800".into()),
        (LinkType::Ethernet, "02x12 893f 000000010000 0800".into()),
        (LinkType::Ethernet, "02x12 8909 01010001 0064 0800".into()),
        (LinkType::Ethernet, format!("02x12 88e7 00000001 {ETHERNET}")),
        (LinkType::Raw, String::new()),
        (LinkType::Raw, "00000002".into()),
        (LinkType::Null, "02000000".into()),
        (LinkType::Loop, "00000002".into()),
        (LinkType::Sll, "0000 0001 0006 02x8 0800".into()),
        (LinkType::Sll, "0000 0001 0006 02x8 8100 0064 0800".into()),
        (LinkType::Sll, format!("0000 0323 0006 02x8 0004 00000800 00x4 {MAC} {LLC}")),
        (LinkType::Sll2, "0800 0000 00000002 0001 00 06 02x8".into()),
        (LinkType::Sll2, format!("0004 0000 00000002 0321 00 06 02x8 {MAC} {LLC}")),
        (LinkType::Ppp, "ff03 0021".into()),
        (LinkType::Ppp, "0021".into()),
        (LinkType::Ppp, "21".into()),
        (LinkType::Ppp, "0103 0021".into()),
        (LinkType::Ppp, "0f00 0800".into()),
        (LinkType::Ppp, "ff03 0281 00010140".into()),
        (LinkType::PppEther, "1100 0001 0100 0021".into()),
        (LinkType::CHdlc, "0f00 0800".into()),
        (LinkType::CHdlc, "8f00 0800".into()),
        (LinkType::FrameRelay, "1841 03 cc".into()),
        (LinkType::FrameRelay, "18000001 03 cc".into()),
        (LinkType::FrameRelay, "1841 0800".into()),
        (LinkType::FrameRelay, "1841 0300 80 000000 0800".into()),
        (LinkType::FrameRelay, format!("1841 0300 80 0080c2 0007 {ETHERNET}")),
        (LinkType::FrameRelay, "1841 03 cf 0021".into()),
        (LinkType::AtmRfc1483, LLC.into()),
        (LinkType::AtmRfc1483, "fefe03 cc".into()),
        (LinkType::AtmRfc1483, "fefe03 cf 0021".into()),
        (LinkType::AtmRfc1483, format!("aaaa03 0080c2 0007 0000 {ETHERNET}")),
        (LinkType::Ieee80211, format!("{MAC} {LLC}")),
        // Decrypted, though marked as protected; with QoS; to another access point; with high throughput; aligned.
        (LinkType::Ieee80211, format!("0842 0000 02x18 1000 {LLC}")),
        (LinkType::Ieee80211, format!("8801 0000 02x18 1000 0000 {LLC}")),
        (LinkType::Ieee80211, format!("0803 0000 02x18 1000 02x6 {LLC}")),
        (LinkType::Ieee80211, format!("8881 0000 02x18 1000 0000 00x4 {LLC}")),
        (LinkType::Ieee80211, format!("8801 0000 02x18 1000 0000 0000 {LLC}")),
        (LinkType::Radiotap, format!("0000 0900 02000000 20 {MAC} {LLC}")),
        (LinkType::Prism, format!("44000000 90000000 00x136 {MAC} {LLC}")),
        (LinkType::Prism, format!("00000044 00000090 00x136 {MAC} {LLC}")),
        (LinkType::Prism, format!("80211001 00000040 00x56 {MAC} {LLC}")),
        (LinkType::Avs, format!("80211001 00000040 00x56 {MAC} {LLC}")),
        (LinkType::Ppi, format!("0000 0800 69000000 {MAC} {LLC}")),
        (LinkType::Ppi, format!("0000 0c00 01000000 00x4 {ETHERNET}")),
        (LinkType::Erf, format!("00x8 02 04 0000 0000 0000 0000 {ETHERNET}")),
        (LinkType::Erf, format!("00x8 82 04 0000 0000 0000 84 00x7 05 00x7 0000 {ETHERNET}")),
        (LinkType::Erf, "00x8 01 04 0000 0000 0000 ff03 0021".into()),
        (LinkType::Erf, "00x8 01 04 0000 0000 0000 0f00 0800".into()),
        (LinkType::Erf, "00x8 01 04 0000 0000 0000 1841 03cc".into()),
        (LinkType::Erf, "00x8 16 04 0000 0000 0000".into()),
        (LinkType::Pktap, format!("{PKTAP} 01000000 00x96 {ETHERNET}")),
        (LinkType::Pktap, format!("{PKTAP} 0c000000 00x96")),
        (LinkType::User2, format!("{PKTAP} 00000000 00x96 1e000000")),
        (LinkType::Pflog, "3d 02 00 00 00x60".into()),
        (LinkType::Pflog, "64 02 00 00 00x96".into()),
        (LinkType::Enc, "02000000 00001234 00000000".into()),
        (LinkType::Ipnet, "01 02 0000 00000100 00000001 00000002 00x8".into()),
        (LinkType::JuniperEther, format!("4d4743 00 {ETHERNET}")),
        (LinkType::JuniperEther, format!("4d4743 80 0006 01040000 0000 {ETHERNET}")),
        (LinkType::JuniperEther, "4d4743 02 02000000".into()),
        (LinkType::JuniperPpp, "4d4743 00 ff03 0021".into()),
        (LinkType::JuniperFrelay, "4d4743 00 1841 03cc".into()),
        (LinkType::JuniperChdlc, "4d4743 00 0f00 0800".into()),
    ] {
        covered.insert(link);
        let frame = [hex(&head), ip.clone()].concat();
        assert_eq!(payload_of(link, &frame).as_deref(), Some(SIP), "{link}: {head}");
        // A capture that ends within the head holds part of a frame, and nothing is made of it.
        for len in 0..hex(&head).len() {
            let mut tap = Tap::new(link);
            tap.push_cut(0, &frame[..len], frame.len() - len);
            assert!(tap.out.is_empty(), "{link}: {head}, {len}");
        }
    }
    // Those with tests of their own.
    covered.extend([LinkType::Nflog, LinkType::UpperPdu]);
    assert_eq!(covered, LinkType::READ.iter().copied().collect());
}

#[test]
fn numbers_are_the_registrys() {
    for number in [0, 1, 9, 12, 50, 51, 101, 104, 105, 107, 113, 127, 149, 197, 228, 229, 239, 252, 258, 276]
    {
        assert!(LinkType::READ.contains(&LinkType::of(number)), "{number}");
    }
    assert_eq!(LinkType::of(189), LinkType::Other(189));
    assert_eq!(LinkType::of(189).to_string(), "link_type_189");
    assert_eq!(LinkType::of(276).to_string(), "linux_sll2");
}

#[test]
fn the_netfilter_log_is_in_its_machines_order() {
    let ip = v4(17, &udp(5060, 5060, SIP));
    for order in [u16::to_le_bytes, u16::to_be_bytes] {
        let value = |kind: u16, value: &[u8]| {
            let mut bytes = [order(u16::try_from(value.len() + 4).unwrap()), order(kind)].concat();
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        let head = [vec![2, 0, 0, 5], value(1, &[8, 0, 1, 0]), value(10, b"sip\0\0")].concat();
        let frame = [&head[..], &value(9, &ip)].concat();
        assert_eq!(payload_of(LinkType::Nflog, &frame).as_deref(), Some(SIP));

        let mut tap = Tap::new(LinkType::Nflog);
        tap.push_cut(0, &frame[..frame.len() - 5], 5);
        assert!(tap.out[0].3, "its end is missing");
        tap.push(0, &[&head[..], &value(9, &[0; 28])].concat());
        assert_eq!(tap.unused(DiscardReason::NotIp), 1, "ARP from a bridge");
        tap.push(0, &head);
        tap.push(0, &[&head[..], &[1, 0, 9, 0], &ip].concat());
        assert_eq!(tap.unused(DiscardReason::LinkHeader), 2);
    }
}

#[test]
fn wifi_that_stays_closed_is_counted() {
    let ip = v4(17, &udp(5060, 5060, SIP));
    let body = [hex(LLC), ip].concat();
    let mut tap = Tap::new(LinkType::Ieee80211);
    let mut push = |head: &str, body: &[u8]| tap.push(0, &[&hex(head)[..], body].concat());

    push("0842 0000 02x18 1000 01020304 05060708", &[7; 90]);
    push("8841 0000 02x18 1000 0000 01020304 05060708", &[7; 90]);
    // The first of several fragments, and the last.
    push("0806 0000 02x18 1000", &body);
    push("0802 0000 02x18 1100", &body);
    // Two in one aggregate, and one alone.
    let one = |pad: usize| {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[2; 12][..], &len, &body, &vec![0; pad]].concat()
    };
    push("8801 0000 02x18 1000 8000", &[one(2), one(0)].concat());
    push("8801 0000 02x18 1000 8000", &one(4));
    // A beacon, an acknowledgement, data without data, and what is not LLC.
    push("8000 0000 02x18 1000", &[0; 40]);
    push("d400 0000 02x6", &[]);
    push("4801 0000 02x18 1000", &[]);
    push("0802 0000 02x18 1000", &[9; 40]);

    assert_eq!(tap.unused(DiscardReason::Encrypted), 2);
    assert_eq!(tap.unused(DiscardReason::WifiParts), 3);
    assert_eq!(tap.unused(DiscardReason::NotIp), 4);
    assert_eq!(tap.out.len(), 1);
    assert_eq!(tap.out[0].2, SIP);
}

#[test]
fn what_is_not_read_is_told_from_what_is_broken() {
    for (link, head, reason) in [
        (LinkType::Other(189), "00x40", DiscardReason::LinkType),
        (LinkType::Pktap, "6c000000 01000000 bd000000 00x100", DiscardReason::LinkType),
        (LinkType::Pktap, "08000000 01000000 01000000 00x100", DiscardReason::LinkHeader),
        (LinkType::Pktap, "ffffff7f 01000000 01000000 00x100", DiscardReason::LinkHeader),
        (LinkType::User2, "00x200", DiscardReason::LinkType),
        (LinkType::Ppi, "0000 0800 bd000000 00x40", DiscardReason::LinkType),
        (LinkType::Erf, "00x8 03 04 0000 0000 0000 00x40", DiscardReason::LinkType),
        (LinkType::Erf, "00x8 82 04 0000 0000 0000 ffx9", DiscardReason::LinkHeader),
        (LinkType::Radiotap, "0000 ffff 00x40", DiscardReason::LinkHeader),
        (LinkType::JuniperEther, "00x60", DiscardReason::LinkHeader),
        (LinkType::JuniperEther, "4d4743 02 00x60", DiscardReason::NotIp),
        (LinkType::FrameRelay, "00x60", DiscardReason::LinkHeader),
        (LinkType::FrameRelay, "01x60", DiscardReason::LinkHeader),
        (LinkType::Ppp, "ff03 c021 00x20", DiscardReason::NotIp),
        (LinkType::CHdlc, "0f00 8035 00x20", DiscardReason::NotIp),
        (LinkType::Null, "07000000 00x20", DiscardReason::NotIp),
    ] {
        let mut tap = Tap::new(link);
        tap.push(0, &hex(head));
        assert_eq!(tap.unused(reason), 1, "{link}: {head}: {:?}", tap.packets.counters);
    }
}

/// Tags as Wireshark writes them.
fn tags(tags: &[(u16, &[u8])]) -> Vec<u8> {
    let tag = |(code, value): &(u16, &[u8])| {
        let len = u16::try_from(value.len()).unwrap().to_be_bytes();
        [&code.to_be_bytes()[..], &len, value].concat()
    };
    tags.iter().chain([&(0, &b""[..])]).flat_map(tag).collect()
}

/// What one exported PDU became.
fn exported(frame: &[u8], cut: usize) -> Option<(SocketAddr, SocketAddr, String)> {
    let mut out = None;
    let frame = Frame {
        time: Timestamp::default(),
        number: 1,
        interface: 0,
        direction: Direction::Unknown,
        link: LinkType::UpperPdu,
        wire_len: u32::try_from(frame.len() + cut).unwrap(),
        bytes: frame,
    };
    Packets::default().push(&frame, &mut |item| match item {
        Item::Packet(p) => out = Some((p.src, p.dst, format!("{:?}", p.transport))),
        Item::Loss(loss) => panic!("{loss:?}"),
    });
    out
}

#[test]
fn exported_pdus_have_the_addresses_of_their_tags() {
    let four: [(u16, &[u8]); 2] = [(20, &[10, 0, 0, 1]), (21, &[10, 0, 0, 2])];
    let ports: [(u16, &[u8]); 2] = [(25, &[0, 0, 0x13, 0xc4]), (26, &[0, 0, 0x13, 0xc5])];
    let (src, dst): (SocketAddr, SocketAddr) =
        ("10.0.0.1:5060".parse().unwrap(), "10.0.0.2:5061".parse().unwrap());
    let pdu = |named: &[(u16, &[u8])]| [tags(&[named, &four, &ports].concat()), SIP.to_vec()].concat();
    let kind = |named: &[(u16, &[u8])]| exported(&pdu(named), 0).map(|(_, _, transport)| transport);

    let whole = exported(&pdu(&[(12, b"sip\0"), (24, &[0, 0, 0, 3])]), 0).unwrap();
    assert_eq!((whole.0, whole.1), (src, dst));
    assert!(whole.2.starts_with("Udp"), "{whole:?}");
    let over_tcp = kind(&[(12, b"sip"), (24, &[0, 0, 0, 2])]).unwrap();
    assert!(over_tcp.starts_with("Exported") && over_tcp.contains("cut: false"), "{over_tcp}");
    assert!(kind(&[(13, b"sip_udp"), (24, &[0, 0, 0, 3])]).unwrap().starts_with("Udp"));
    assert!(kind(&[(14, b"udp.port"), (24, &[0, 0, 0, 3])]).unwrap().starts_with("Udp"));
    let cut = exported(&pdu(&[(12, b"sip\0")]), 9).unwrap();
    assert!(cut.2.contains("cut: true"), "{cut:?}");

    let info = [&[0, 1][..], &7_u32.to_be_bytes(), &[0; 8], &[0, 0, 0x12, 0, 0]].concat();
    let segment = kind(&[(14, b"tcp.port"), (34, &info)]).unwrap();
    assert!(segment.starts_with("Tcp { seq: 7") && segment.contains("syn: true"), "{segment}");
    assert!(kind(&[(14, b"tcp.port")]).unwrap().starts_with("Exported"));

    assert_eq!(kind(&[(12, b"http\0\0\0\0")]), None);
    assert_eq!(kind(&[]), None);
}

#[test]
fn exported_pdus_with_other_addresses_or_none() {
    let six: [(u16, &[u8]); 3] = [(12, b"sip\0"), (22, &[0xfd; 16]), (23, &[0xfe; 16])];
    let (src, dst, _) = exported(&[tags(&six), SIP.to_vec()].concat(), 0).unwrap();
    assert_eq!((src.ip(), dst.ip()), (IpAddr::from([0xfd; 16]), IpAddr::from([0xfe; 16])));
    let (src, ..) = exported(&[tags(&[(12, b"sip\0"), (20, b"bad")]), SIP.to_vec()].concat(), 0).unwrap();
    assert_eq!(src, "0.0.0.0:0".parse().unwrap());

    let ip = v4(17, &udp(5060, 5060, SIP));
    for (name, inner) in [(&b"ip"[..], ip.clone()), (b"eth_withoutfcs\0\0", ethernet(0x0800, &ip))] {
        let (src, ..) = exported(&[tags(&[(12, name)]), inner].concat(), 0).unwrap();
        assert_eq!(src, "10.0.0.1:5060".parse().unwrap());
    }
    // Tags that end nowhere.
    for bad in [&[0, 12, 0xff, 0xff, b's'][..], &[0, 12], b""] {
        let mut tap = Tap::new(LinkType::UpperPdu);
        tap.push(0, bad);
        assert_eq!(tap.unused(DiscardReason::LinkHeader), 1);
    }
}

#[test]
fn one_segment_exported_twice_is_one() {
    let pdu = [tags(&[(12, b"sip\0"), (24, &[0, 0, 0, 2])]), SIP.to_vec()].concat();
    let mut tap = Tap::new(LinkType::UpperPdu);
    tap.push(0, &pdu);
    tap.push(0, &pdu);
    assert_eq!((tap.out.len(), tap.unused(DiscardReason::OtherTap)), (1, 1));
}
