//! Trunks: the configured names of peers, and how each is known on the wire.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::list;
use crate::pattern::{Network, glob};
use crate::record::Method;

/// A trunk as configured.
///
/// Each of `cidr`, `host`, `header` and `user_agent` is a way to know it, and any one of them is enough:
/// a trunk's outbound legs may show only a host name where its inbound ones show only a header. Trunks are
/// tried in the order given and the first that matches wins, so the narrower goes first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrunkConfig {
    /// Its name in every output. Several entries may share one.
    pub name: String,
    /// Addresses or networks of the peer: `192.0.2.7`, `2001:db8::/32`.
    #[serde(default, deserialize_with = "list::parted")]
    pub cidr: Vec<String>,
    /// Patterns (`*` and `?`, case ignored) of the host in request-URI, From, To, Contact or Via.
    #[serde(default, deserialize_with = "list::parted")]
    pub host: Vec<String>,
    /// Headers of the call's messages that tell it.
    #[serde(default, deserialize_with = "list::whole")]
    pub header: Vec<HeaderPattern>,
    /// Patterns of the User-Agent or Server header.
    #[serde(default, deserialize_with = "list::whole")]
    pub user_agent: Vec<String>,
    /// How its calls are expected to be transferred.
    #[serde(default)]
    pub expect: Option<Expect>,
}

/// A header that tells a trunk: `"X-Twilio-AccountSid"`, or `{ name = "X-Customer", value = "acme*" }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a header name, or a table of `name` and `value`")]
pub enum HeaderPattern {
    /// Its presence is enough.
    Present(String),
    /// Its first value must match.
    Value(HeaderValue),
}

/// A header and the pattern of its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeaderValue {
    /// Name of the header, case ignored.
    pub name: String,
    /// Pattern (`*` and `?`, case ignored) of its value; without one its presence is enough.
    #[serde(default)]
    pub value: Option<String>,
}

/// The transfer methods a trunk may be expected to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// REFER in the dialog.
    Refer,
    /// A second-leg INVITE.
    Invite,
}

/// Why a trunk's configuration can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrunkError {
    /// `name` is empty, or is the name kept for unknown peers.
    #[error("trunk {index}: name: must be neither empty nor \"other\"")]
    Name {
        /// Position in the list, from 1.
        index: usize,
    },
    /// Nothing tells the trunk.
    #[error("trunk \"{name}\": give at least one of cidr, host, header, user_agent")]
    Nothing {
        /// The trunk.
        name: String,
    },
    /// An entry of `cidr` is neither an address nor a network.
    #[error("trunk \"{name}\": cidr: \"{value}\" is not an address or network such as 192.0.2.0/24")]
    Cidr {
        /// The trunk.
        name: String,
        /// The entry.
        value: String,
    },
    /// A pattern or header name is empty or longer than 256 bytes.
    #[error("trunk \"{name}\": {field}: must have 1 to 256 bytes")]
    Length {
        /// The trunk.
        name: String,
        /// The field.
        field: &'static str,
    },
    /// Two entries of one name expect different methods.
    #[error("trunk \"{name}\": expect: differs from an earlier entry of that name")]
    Expect {
        /// The trunk.
        name: String,
    },
    /// More names than the tables behind them hold.
    #[error("trunks: more than {MAX_TRUNKS} names")]
    TooMany,
}

/// Most distinct trunk names.
pub const MAX_TRUNKS: usize = 1024;

/// A trunk, by its place among the configured names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrunkId(u16);

impl TrunkId {
    /// Every peer that no trunk claims.
    pub const OTHER: Self = Self(0);

    /// The one with this place among [`Trunks::names`].
    pub(crate) fn at(place: usize) -> Self {
        u16::try_from(place).map_or(Self::OTHER, Self)
    }

    /// What [`Trunks::renumbered`] makes of it.
    pub(crate) fn among(self, renumbered: &[Self]) -> Self {
        renumbered.get(usize::from(self.0)).copied().unwrap_or(Self::OTHER)
    }
}

/// What a call shows of its peer. Wire bytes, as they came.
#[derive(Clone, Copy)]
pub struct TrunkFacts<'a> {
    /// Addresses at both ends; the own host's do no harm, as no trunk lists them.
    pub peers: &'a [IpAddr],
    /// Hosts of request-URI, From, To, Contact and Via, without port.
    pub hosts: &'a [&'a [u8]],
    /// User-Agent or Server of the peer.
    pub user_agent: Option<&'a [u8]>,
    /// The first value of a header of the initial INVITE or its answer, by name.
    pub header: &'a dyn Fn(&str) -> Option<&'a [u8]>,
}

/// The configured trunks.
#[derive(Clone, Debug)]
pub struct Trunks {
    rules: Vec<Rule>,
    names: Vec<(Arc<str>, Option<Expect>)>,
}

impl Default for Trunks {
    fn default() -> Self {
        Self { rules: Vec::new(), names: vec![("other".into(), None)] }
    }
}

impl Trunks {
    /// Checks `configs` and keeps them in their order.
    pub fn new(configs: &[TrunkConfig]) -> Result<Self, TrunkError> {
        let mut trunks = Self::default();
        for (position, config) in configs.iter().enumerate() {
            if config.name.trim().is_empty() || config.name == "other" {
                return Err(TrunkError::Name { index: position + 1 });
            }
            let id = trunks.declare(config)?;
            trunks.rules.push(Rule::new(config, id)?);
        }
        Ok(trunks)
    }

    /// Whether none is configured.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The first trunk that `facts` tell, else [`TrunkId::OTHER`].
    pub fn of(&self, facts: &TrunkFacts<'_>) -> TrunkId {
        self.rules.iter().find(|rule| rule.matches(facts)).map_or(TrunkId::OTHER, |rule| rule.id)
    }

    /// Its name.
    pub fn name(&self, id: TrunkId) -> &Arc<str> {
        // The first is `other`: there always is one.
        let (name, _) = self.names.get(usize::from(id.0)).unwrap_or(&self.names[0]);
        name
    }

    /// The transfer method declared for it.
    pub fn expected(&self, id: TrunkId) -> Option<Method> {
        match self.names.get(usize::from(id.0))?.1? {
            Expect::Refer => Some(Method::Refer),
            Expect::Invite => Some(Method::Invite),
        }
    }

    /// What each trunk of `old`, by its place there, is here: [`TrunkId::OTHER`] if none has its name any more.
    pub(crate) fn renumbered(&self, old: &Self) -> Vec<TrunkId> {
        let places: BTreeMap<&str, u16> = self.names().zip(0..).collect();
        old.names().map(|name| places.get(name).copied().map_or(TrunkId::OTHER, TrunkId)).collect()
    }

    /// Every configured name, and `other` first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(|(name, _)| &**name)
    }

    fn declare(&mut self, config: &TrunkConfig) -> Result<TrunkId, TrunkError> {
        if let Some(at) = self.names.iter().position(|(name, _)| **name == config.name) {
            let expect = &mut self.names[at].1;
            if expect.is_some() && config.expect.is_some() && *expect != config.expect {
                return Err(TrunkError::Expect { name: config.name.clone() });
            }
            *expect = expect.or(config.expect);
            return Ok(TrunkId(u16::try_from(at).unwrap_or(0)));
        }
        if self.names.len() > MAX_TRUNKS {
            return Err(TrunkError::TooMany);
        }
        let id = TrunkId(u16::try_from(self.names.len()).map_err(|_| TrunkError::TooMany)?);
        self.names.push((config.name.as_str().into(), config.expect));
        Ok(id)
    }
}

#[derive(Clone, Debug)]
struct Rule {
    id: TrunkId,
    networks: Vec<Network>,
    hosts: Vec<String>,
    headers: Vec<HeaderValue>,
    user_agents: Vec<String>,
}

impl Rule {
    fn new(config: &TrunkConfig, id: TrunkId) -> Result<Self, TrunkError> {
        let name = &config.name;
        let check = |field, value: &str| match value.len() {
            1..=256 => Ok(()),
            _ => Err(TrunkError::Length { name: name.clone(), field }),
        };
        let mut networks = Vec::new();
        for value in &config.cidr {
            let network = Network::parse(value)
                .ok_or_else(|| TrunkError::Cidr { name: name.clone(), value: value.clone() })?;
            networks.push(network);
        }
        config.host.iter().try_for_each(|pattern| check("host", pattern))?;
        config.user_agent.iter().try_for_each(|pattern| check("user_agent", pattern))?;
        let mut headers = Vec::new();
        for header in &config.header {
            let header = match header {
                HeaderPattern::Present(name) => HeaderValue { name: name.clone(), value: None },
                HeaderPattern::Value(value) => value.clone(),
            };
            check("header", &header.name)?;
            header.value.as_deref().map_or(Ok(()), |value| check("header.value", value))?;
            headers.push(header);
        }
        let rule = Self {
            id,
            networks,
            hosts: config.host.clone(),
            headers,
            user_agents: config.user_agent.clone(),
        };
        if rule.networks.is_empty()
            && rule.hosts.is_empty()
            && rule.headers.is_empty()
            && rule.user_agents.is_empty()
        {
            return Err(TrunkError::Nothing { name: name.clone() });
        }
        Ok(rule)
    }

    fn matches(&self, facts: &TrunkFacts<'_>) -> bool {
        self.networks.iter().any(|network| facts.peers.iter().any(|peer| network.contains(*peer)))
            || self.headers.iter().any(|header| {
                (facts.header)(&header.name)
                    .is_some_and(|value| header.value.as_deref().is_none_or(|pattern| glob(pattern, value)))
            })
            || self.hosts.iter().any(|pattern| facts.hosts.iter().any(|host| glob(pattern, host)))
            || facts.user_agent.is_some_and(|agent| self.user_agents.iter().any(|p| glob(p, agent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing<'a>() -> TrunkFacts<'a> {
        TrunkFacts { peers: &[], hosts: &[], user_agent: None, header: &|_| None }
    }

    fn configs(toml: &str) -> Vec<TrunkConfig> {
        #[derive(Deserialize)]
        struct File {
            trunk: Vec<TrunkConfig>,
        }
        toml::from_str::<File>(toml).unwrap().trunk
    }

    fn name_of(toml: &str, facts: TrunkFacts<'_>) -> Arc<str> {
        let trunks = Trunks::new(&configs(toml)).unwrap();
        Arc::clone(trunks.name(trunks.of(&facts)))
    }

    #[test]
    fn each_way_to_know_a_trunk_is_enough() {
        let toml = r#"
            [[trunk]]
            name = "twilio"
            cidr = ["54.172.60.0/30", "2001:db8::/32"]
            host = ["*.pstn.twilio.com"]
            header = ["X-Twilio-AccountSid", { name = "X-Owner", value = "acme*" }]
            user_agent = ["Twilio*"]
        "#;
        let peers: [IpAddr; 1] = ["54.172.60.3".parse().unwrap()];
        assert_eq!(&*name_of(toml, TrunkFacts { peers: &peers, ..nothing() }), "twilio");
        let peers: [IpAddr; 1] = ["2001:db8:1::1".parse().unwrap()];
        assert_eq!(&*name_of(toml, TrunkFacts { peers: &peers, ..nothing() }), "twilio");
        let peers: [IpAddr; 2] = ["54.172.60.4".parse().unwrap(), "2001:db9::1".parse().unwrap()];
        assert_eq!(&*name_of(toml, TrunkFacts { peers: &peers, ..nothing() }), "other");
        let hosts: [&[u8]; 1] = [b"Acme.PSTN.twilio.com"];
        assert_eq!(&*name_of(toml, TrunkFacts { hosts: &hosts, ..nothing() }), "twilio");
        assert_eq!(
            &*name_of(toml, TrunkFacts { user_agent: Some(b"Twilio Gateway"), ..nothing() }),
            "twilio"
        );
        let sid = |name: &str| name.eq_ignore_ascii_case("x-twilio-accountsid").then_some(b"AC0".as_slice());
        assert_eq!(&*name_of(toml, TrunkFacts { header: &sid, ..nothing() }), "twilio");
        let owner = |name: &str| (name == "X-Owner").then_some(b"ACME Inc".as_slice());
        assert_eq!(&*name_of(toml, TrunkFacts { header: &owner, ..nothing() }), "twilio");
        let owner = |name: &str| (name == "X-Owner").then_some(b"else".as_slice());
        assert_eq!(&*name_of(toml, TrunkFacts { header: &owner, ..nothing() }), "other");
        assert_eq!(&*name_of(toml, nothing()), "other");
    }

    #[test]
    fn the_first_match_wins() {
        let toml = r#"
            trunk = [
                { name = "narrow", cidr = ["10.0.0.7"], expect = "refer" },
                { name = "wide", cidr = ["10.0.0.0/8"] },
                { name = "all", cidr = ["0.0.0.0/0"], expect = "invite" },
            ]"#;
        let trunks = Trunks::new(&configs(toml)).unwrap();
        let of = |address: &str| {
            let peers = [address.parse().unwrap()];
            trunks.of(&TrunkFacts { peers: &peers, ..nothing() })
        };
        assert_eq!(&**trunks.name(of("10.0.0.7")), "narrow");
        assert_eq!(trunks.expected(of("10.0.0.7")), Some(Method::Refer));
        assert_eq!(&**trunks.name(of("10.0.0.8")), "wide");
        assert_eq!(trunks.expected(of("10.0.0.8")), None);
        assert_eq!(trunks.expected(of("11.0.0.8")), Some(Method::Invite));
        assert_eq!(&**trunks.name(of("::1")), "other");
        assert_eq!(trunks.expected(TrunkId::OTHER), None);
    }

    #[test]
    fn errors_name_trunk_and_field() {
        let error = |toml: &str| Trunks::new(&configs(toml)).unwrap_err().to_string();
        assert!(error(r#"trunk = [{ name = "t" }]"#).contains("\"t\""));
        assert!(error(r#"trunk = [{ name = "other", cidr = ["::1"] }]"#).starts_with("trunk 1: name"));
        for bad in ["10.0.0.0/33", "10.0.0", "::/129", "x/8", "10.0.0.0/-1"] {
            let message = error(&format!("trunk = [{{ name = \"t\", cidr = [\"{bad}\"] }}]"));
            assert!(message.starts_with("trunk \"t\": cidr: ") && message.contains(bad), "{message}");
        }
        assert!(error(r#"trunk = [{ name = "t", host = [""] }]"#).contains("host"));
        let twice = r#"trunk = [{ name = "t", host = ["a"], expect = "refer" },
                                { name = "t", host = ["b"], expect = "invite" }]"#;
        assert!(error(twice).contains("expect"));
    }

    #[test]
    fn unknown_fields_are_refused() {
        let unknown = toml::from_str::<TrunkConfig>("name = \"t\"\ncidrs = []").unwrap_err().to_string();
        assert!(unknown.contains("cidrs"), "{unknown}");
        assert!(toml::from_str::<TrunkConfig>("name = \"t\"\nexpect = \"bye\"").is_err());
        assert!(toml::from_str::<TrunkConfig>("name = \"t\"\nheader = [{ name = \"X\", val = 1 }]").is_err());
    }
}
