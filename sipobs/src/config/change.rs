//! What a reload may change while calls are up, and what takes a restart.

use toml::{Table, Value};

use super::Config;

/// The fields that differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Those that were adopted.
    pub adopted: Vec<String>,
    /// Those that take a restart.
    pub restart: Vec<String>,
}

impl Config {
    /// Takes over from `new` what may change while the daemon runs: of `capture` what the running programs can be
    /// told, the trunks, causes of one's own, and when to reload. Fields that take a restart stay as they are, and are named every
    /// time.
    pub fn adopt(&mut self, new: &Self) -> Change {
        let old = self.clone();
        let (to, from) = (&mut self.capture, &new.capture);
        to.interfaces.clone_from(&from.interfaces);
        to.exclude.clone_from(&from.exclude);
        to.ports.clone_from(&from.ports);
        to.vxlan_ports.clone_from(&from.vxlan_ports);
        to.drop_methods.clone_from(&from.drop_methods);
        to.linger = from.linger;
        self.trunk.clone_from(&new.trunk);
        self.diagnosis.clone_from(&new.diagnosis);
        self.reload.clone_from(&new.reload);
        Change { adopted: old.differing(self), restart: self.differing(new) }
    }

    /// Names of the fields in which `other` differs.
    fn differing(&self, other: &Self) -> Vec<String> {
        let (one, two) = (fields(self), fields(other));
        let mut names: Vec<String> =
            one.keys().filter(|name| one.get(*name) != two.get(*name)).cloned().collect();
        names.extend(two.keys().filter(|name| !one.contains_key(*name)).cloned());
        // What is not written out, or hidden where it is.
        for (name, differs) in [
            ("privacy.key", self.privacy.key != other.privacy.key),
            ("hep.key", self.hep.key != other.hep.key),
            ("hep_out.key", self.hep_out.key != other.hep_out.key),
            ("otlp.endpoint", self.otlp.endpoint != other.otlp.endpoint),
            ("otlp.traces_endpoint", self.otlp.traces_endpoint != other.otlp.traces_endpoint),
            ("otlp.headers", self.otlp.headers != other.otlp.headers),
            ("webhook.url", self.webhook.url != other.webhook.url),
            ("webhook.secret", self.webhook.secret != other.webhook.secret),
            ("webhook.secret_file", self.webhook.read != other.webhook.read),
            ("metrics.token", self.metrics.token != other.metrics.token),
            ("metrics.token_file", self.metrics.read != other.metrics.read),
            ("diagnosis.path", self.diagnosis != other.diagnosis),
        ] {
            if differs && !names.iter().any(|it| it == name) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        names
    }
}

/// Every field that is set by its name: `section.key`, or `trunk` for all of these.
fn fields(config: &Config) -> Table {
    let mut fields = Table::new();
    for (section, value) in Table::try_from(config).unwrap_or_default() {
        match value {
            Value::Table(keys) => {
                fields.extend(keys.into_iter().map(|(key, value)| (format!("{section}.{key}"), value)));
            }
            value => drop(fields.insert(section, value)),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_programs_and_trunks_go_by_is_adopted_and_the_rest_named() {
        let mut running = config("[capture]\ninterfaces = [\"eth0\"]\n[metrics]\nlisten = \"127.0.0.1:1\"\n");
        let new = config(
            "[capture]\ninterfaces = [\"eth1\"]\nports = [5060, 5080]\nring_bytes = 65536\n[otlp]\nheaders = { a = \
             \"b\" }\nendpoint = \"http://c\"\n[privacy]\nkey = \"0123456789abcdef\"\n[jsonl]\npath = \"x\"\n[[trunk]]\n\
             name = \"t\"\nhost = [\"*\"]\n",
        );
        let change = running.adopt(&new);
        assert_eq!(change.adopted, ["capture.interfaces", "capture.ports", "trunk"]);
        let restart = [
            "capture.ring_bytes",
            "jsonl.path",
            "metrics.listen",
            "otlp.endpoint",
            "otlp.headers",
            "privacy.key",
        ];
        assert_eq!(change.restart, restart);
        assert_eq!(running.capture.ports, [5060, 5080]);
        assert_eq!(running.metrics.listen.port(), 1, "what takes a restart stays");
        assert_eq!(running.adopt(&new), Change { adopted: vec![], restart: restart.map(Into::into).into() });
        assert_eq!(new.clone().adopt(&new), Change::default());
    }

    #[test]
    fn what_is_hidden_is_compared_all_the_same() {
        let with = |key: &str| {
            config(&format!(
                "[privacy]\nkey = \"{key}\"\n[otlp]\nheaders = {{ a = \"{key}\" }}\nendpoint = \"http://{key}@c\"\n"
            ))
        };
        let restart = ["otlp.endpoint", "otlp.headers", "privacy.key"];
        assert_eq!(with("one").adopt(&with("two")).restart, restart);
    }
}
