//! Which interfaces are meant: those named, and those that fit a pattern, now or later.

use regex_lite::Regex;

use super::interfaces::Interface;
use super::{Config, Error};
use crate::pattern::{Network, glob};

/// What the configuration asks for.
#[derive(Debug)]
pub(super) struct Selection {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

#[derive(Debug)]
enum Pattern {
    Name(String),
    Glob(String),
    Regex(Regex),
    /// An address of the interface is in it.
    Network(Network),
    DefaultRoute,
    Pods,
}

impl Selection {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let all = |field, texts: &[String]| {
            texts.iter().map(|text| Pattern::parse(field, text)).collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            include: all("interfaces", &config.interfaces)?,
            exclude: all("exclude", &config.exclude)?,
        })
    }

    /// Those of `interfaces` that are meant.
    pub(super) fn choose<'a>(&self, interfaces: &'a [Interface]) -> Vec<&'a Interface> {
        interfaces
            .iter()
            .filter(|interface| self.include.iter().any(|pattern| pattern.fits(interface)))
            .filter(|interface| !self.exclude.iter().any(|pattern| pattern.fits(interface)))
            // One that was named is an error if it can't be read; one that fits a pattern is just not meant.
            .filter(|interface| interface.readable || self.names(interface))
            .collect()
    }

    /// Whether the interface is meant by its name.
    pub(super) fn names(&self, interface: &Interface) -> bool {
        self.include.iter().any(|pattern| matches!(pattern, Pattern::Name(name) if *name == interface.name))
    }

    /// Names that are wanted, whether or not there is such an interface, and are not excluded.
    pub(super) fn wanted(&self) -> impl Iterator<Item = &str> {
        self.include.iter().filter_map(|pattern| match pattern {
            Pattern::Name(name) => {
                let so_named = Interface { name: name.clone(), ..Interface::default() };
                let excluded = self.exclude.iter().any(|pattern| pattern.fits(&so_named));
                (!excluded).then_some(name.as_str())
            }
            _ => None,
        })
    }

    /// Names that none of `interfaces` has.
    pub(super) fn missing(&self, interfaces: &[Interface]) -> impl Iterator<Item = &str> {
        self.include.iter().filter_map(|pattern| match pattern {
            Pattern::Name(name) if interfaces.iter().all(|interface| interface.name != *name) => {
                Some(name.as_str())
            }
            _ => None,
        })
    }
}

impl Pattern {
    fn parse(field: &'static str, text: &str) -> Result<Self, Error> {
        let wrong = |reason: String| Error::Config { field, reason };
        Ok(match text {
            "" => return Err(wrong("an empty name".into())),
            "default-route" => Self::DefaultRoute,
            "pods" => Self::Pods,
            _ if text.len() > 1 && text.starts_with('/') && text.ends_with('/') => {
                let regex = Regex::new(&text[1..text.len() - 1]);
                Self::Regex(regex.map_err(|error| wrong(format!("{text}: {error}")))?)
            }
            // No interface has a slash in its name.
            _ if text.contains('/') => Self::Network(Network::parse(text).ok_or_else(|| {
                wrong(format!("{text}: neither a network such as 10.0.0.0/8 nor /a regex/"))
            })?),
            _ if text.contains(['*', '?']) => Self::Glob(text.to_owned()),
            _ => Self::Name(text.to_owned()),
        })
    }

    fn fits(&self, interface: &Interface) -> bool {
        match self {
            Self::Name(name) => *name == interface.name,
            Self::Glob(pattern) => glob(pattern, interface.name.as_bytes()),
            Self::Regex(regex) => regex.is_match(&interface.name),
            Self::Network(network) => interface.addresses.iter().any(|address| network.contains(*address)),
            Self::DefaultRoute => interface.default_route,
            Self::Pods => interface.pod,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str) -> Interface {
        Interface { name: name.into(), readable: true, ..Interface::default() }
    }

    fn chosen(include: &[&str], exclude: &[&str]) -> Vec<String> {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let config = Config { interfaces: owned(include), exclude: owned(exclude), ..Config::default() };
        let mut eth1 = interface("eth1");
        eth1.addresses = vec!["10.2.0.7".parse().unwrap()];
        eth1.default_route = true;
        let veth = Interface { pod: true, ..interface("veth5a") };
        let odd = Interface { readable: false, ..interface("ib0") };
        let all = [interface("lo"), interface("eth0"), eth1, veth, odd];
        let selection = Selection::new(&config).unwrap();
        selection.choose(&all).iter().map(|interface| interface.name.clone()).collect()
    }

    #[test]
    fn every_form_chooses_and_exclude_wins() {
        assert_eq!(chosen(&["eth0"], &[]), ["eth0"]);
        assert_eq!(chosen(&["eth*"], &[]), ["eth0", "eth1"]);
        assert_eq!(chosen(&["/^(lo|eth1)$/"], &[]), ["lo", "eth1"]);
        assert_eq!(chosen(&["10.0.0.0/8"], &[]), ["eth1"]);
        assert_eq!(chosen(&["default-route"], &[]), ["eth1"]);
        assert_eq!(chosen(&["pods", "lo"], &[]), ["lo", "veth5a"]);
        assert_eq!(chosen(&["*"], &["eth?", "pods"]), ["lo"], "what can't be read fits no pattern");
        assert_eq!(chosen(&["ib0"], &[]), ["ib0"], "but has a name");
        assert_eq!(chosen(&["eth0"], &["eth0"]), [""; 0]);
    }

    #[test]
    fn a_name_is_wanted_though_nothing_has_it() {
        let config = Config {
            interfaces: ["eth7", "eth8", "eth9", "eth*", "pods"].map(Into::into).into(),
            exclude: ["eth8", "/9$/", "pods", "10.0.0.0/8"].map(Into::into).into(),
            ..Config::default()
        };
        assert_eq!(Selection::new(&config).unwrap().wanted().collect::<Vec<_>>(), ["eth7"]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, said) in [("", "empty"), ("/(/", "/(/"), ("10.0.0.0/33", "10.0.0.0/33")] {
            let config = Config { interfaces: vec![text.into()], ..Config::default() };
            let error = Selection::new(&config).unwrap_err().to_string();
            assert!(error.starts_with("capture.interfaces: ") && error.contains(said), "{error}");
        }
    }
}
