//! Lists in the configuration, also as people write them where there is one entry, or where no bracket is to be had:
//! `ports = 5060`, `SIPOBS_CAPTURE__PORTS=5060,5080-5090`. For `#[serde(deserialize_with)]` and for flags.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::value::{I64Deserializer, MapAccessDeserializer, StrDeserializer};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

/// A list; a text in its place is its entries, with commas between them.
pub(crate) fn parted<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    from.deserialize_any(List { parts: |text| entries(text).collect(), entry: PhantomData })
}

/// A list; what stands alone in its place is its only entry.
pub(crate) fn whole<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    from.deserialize_any(List { parts: |text| vec![text], entry: PhantomData })
}

/// Ports, and ranges of them.
pub(crate) fn ports<'de, D, C>(from: D) -> Result<C, D::Error>
where
    D: Deserializer<'de>,
    C: FromIterator<u16>,
{
    let list = List { parts: |text| entries(text).collect(), entry: PhantomData::<PortRange> };
    Ok(from.deserialize_any(list)?.into_iter().flat_map(PortRange::ports).collect())
}

/// What stands between the commas of `text`. Those in a regular expression between slashes are its own.
pub fn entries(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    let all = std::iter::from_fn(move || {
        let from = rest?.trim_start();
        let regex = from.strip_prefix('/').and_then(|regex| {
            let end = regex.match_indices('/').find(|(at, _)| {
                let behind = regex[at + 1..].trim_start();
                behind.is_empty() || behind.starts_with(',')
            });
            Some(end?.0 + 1)
        });
        let comma = from[regex.unwrap_or(0)..].find(',').map(|at| at + regex.unwrap_or(0));
        rest = comma.map(|at| &from[at + 1..]);
        Some(from[..comma.unwrap_or(from.len())].trim())
    });
    all.filter(|entry| !entry.is_empty())
}

/// A port, or several in a row: `5060`, `5080-5090`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRange(RangeInclusive<u16>);

impl PortRange {
    /// Each of them.
    pub fn ports(self) -> impl Iterator<Item = u16> {
        self.0
    }
}

impl FromStr for PortRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse().map(NonZeroU16::get).map_err(|_| PORTS);
        let (first, last) = (port(first)?, port(last)?);
        if first > last { Err("the first port of a range is above its last") } else { Ok(Self(first..=last)) }
    }
}

const PORTS: &str = "a port from 1 to 65535, or a range of them such as 5080-5090";

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Port;

        impl Visitor<'_> for Port {
            type Value = PortRange;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(PORTS)
            }

            fn visit_i64<E: Error>(self, port: i64) -> Result<PortRange, E> {
                match u16::try_from(port) {
                    Ok(port @ 1..) => Ok(PortRange(port..=port)),
                    _ => Err(E::invalid_value(Unexpected::Signed(port), &self)),
                }
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<PortRange, E> {
                text.parse().map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
            }
        }

        from.deserialize_any(Port)
    }
}

struct List<T> {
    /// The entries of a text that stands alone.
    parts: fn(&str) -> Vec<&str>,
    entry: PhantomData<T>,
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Vec<T>, E> {
        T::deserialize(I64Deserializer::new(number)).map(|entry| vec![entry])
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<T>, E> {
        (self.parts)(text).into_iter().map(|entry| T::deserialize(StrDeserializer::new(entry))).collect()
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(|entry| vec![entry])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(entry) = list.next_element()? {
            all.push(entry);
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas_part_entries_but_not_a_regular_expression() {
        let parted = |text| entries(text).collect::<Vec<_>>();
        assert_eq!(parted("eth0, eth1 ,,"), ["eth0", "eth1"]);
        assert_eq!(parted(""), [""; 0]);
        assert_eq!(parted("/^e(t|n){1,2}/,lo,10.0.0.0/8"), ["/^e(t|n){1,2}/", "lo", "10.0.0.0/8"]);
        assert_eq!(parted("lo, /a/ , /b,c/"), ["lo", "/a/", "/b,c/"]);
        assert_eq!(parted("/a,b"), ["/a", "b"], "what does not end is none");
    }

    #[test]
    fn ports_alone_in_ranges_and_in_lists() {
        #[derive(Debug, serde::Deserialize)]
        struct One {
            #[serde(deserialize_with = "ports")]
            it: Vec<u16>,
        }
        for (text, expected) in [
            ("5060", &[5060][..]),
            ("[5060, 5080]", &[5060, 5080]),
            ("\"5060, 5080-5082\"", &[5060, 5080, 5081, 5082]),
            ("[5060, \"5080-5082\"]", &[5060, 5080, 5081, 5082]),
            ("\"\"", &[]),
        ] {
            assert_eq!(toml::from_str::<One>(&format!("it = {text}")).unwrap().it, expected, "{text}");
        }
        for text in ["65536", "-1", "\"5090-5080\"", "\"5060-\"", "\"sip\"", "[true]", "5060.0"] {
            let error = toml::from_str::<One>(&format!("it = {text}")).unwrap_err().to_string();
            assert!(error.contains("expected a"), "{text}: {error}");
        }
        assert_eq!("5060-65535".parse::<PortRange>().unwrap().ports().count(), 60476);
    }
}
