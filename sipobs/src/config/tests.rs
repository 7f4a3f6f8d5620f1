use super::*;

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::with_suffix(".toml").unwrap();
    std::fs::write(file.path(), text).unwrap();
    let variables = variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
    Config::load(Some(file.path()), variables).map(|(config, _)| config)
}

fn complaint(text: &str, variables: &[(&str, &str)]) -> String {
    load(text, variables).unwrap_err().to_string()
}

#[test]
fn what_is_printed_reads_back() {
    let config = load(
        "[[trunk]]\nname = \"t\"\ncidr = [\"192.0.2.0/24\"]\nexpect = \"refer\"\n[otlp]\nendpoint = \"http://c:4317\"",
        &[],
    )
    .unwrap();
    assert_eq!(load(&config.to_toml().unwrap(), &[]).unwrap(), config);
    let default = Config::default();
    assert_eq!(load(&default.to_toml().unwrap(), &[]).unwrap(), default);
}

#[test]
fn what_any_command_would_stumble_over_is_found() {
    for (text, complaint) in [
        ("[privacy]\nmask = \"hash\"", "privacy.key: "),
        ("[[trunk]]\nname = \"t\"", "trunk \"t\": "),
        ("[webhook]\nurl = \"me:q5ecret@c\"", "webhook.url: ***@c: does not begin with http"),
        ("[webhook]\nurl = \"https://c\"", "needs webhook.secret"),
        ("[webhook]\nurl = \"https://c\"\nsecret = \"q5ecret\"", "of at least 16 bytes"),
        ("[metrics]\nlisten = \"0.0.0.0:9464\"", "metrics.listen: other hosts can reach 0.0.0.0:9464"),
        ("[identity]\nheaders = [\"X-A\", \"authorization\"]", "identity.headers: Authorization"),
        ("[otlp]\nendpoint = \"me:q5ecret@c:4317\"", "otlp.endpoint: ***@c:4317: does not begin with http"),
    ] {
        let error = load(text, &[]).unwrap().check().unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
    load("[otlp]\nendpoint = \"https://c\"", &[]).unwrap().check().unwrap();
}

#[test]
fn what_is_shown_in_place_of_a_secret_is_none() {
    for text in ["[privacy]\nkey = \"(hidden)\"", "[otlp]\nendpoint = \"http://***@c:4317\""] {
        let error = complaint(text, &[]);
        assert!(error.contains("shows in place of a secret"), "{error}");
    }
}

#[test]
fn errors_show_no_secret() {
    for (text, variable) in [
        ("[otlp]\nheaders = \"Authorization=Bearer q5ecret\"", ("SIPOBS_OTLP__HEADERS", "a=q5ecret")),
        ("[otlp]\nprotocol = \"http://me:q5ecret@c\"", ("OTEL_EXPORTER_OTLP_PROTOCOL", "//me:q5ecret@c")),
        ("[privacy]\nkey = [\"q5ecret\"]", ("SIPOBS_PRIVACY__MASK", "a \\\", expected q5ecret")),
    ] {
        for complaint in [complaint(text, &[]), complaint("", &[variable])] {
            assert!(!complaint.contains("q5ecret"), "{complaint}");
        }
    }
    let text = complaint("[otlp]\nprotocol = \"gprc\"", &[]);
    assert!(
        text.contains("2:12: otlp.protocol: unknown value, expected `grpc` or `http/protobuf`"),
        "{text}"
    );
}

/// Whatever stands in a field's place: a secret there is shown in no complaint.
#[test]
fn no_complaint_shows_a_value() {
    let everything = "[privacy]\nkey = \"0123456789abcdef\"\n[jsonl]\npath = \"x\"\n[state]\npath = \"x\"\n[diagnosis]\npath = \
                      \"x\"\n[otlp]\nendpoint = \"http://c\"\ntraces_endpoint = \"http://c\"\ncertificate = \"x\"\nclient_certificate = \
                      \"x\"\nclient_key = \"x\"\nheaders = { a = \"b\" }\n[[trunk]]\nname = \"t\"\nhost = [\"*\"]\ncidr = [\"::/0\"]\n\
                      header = [\"x\"]\nuser_agent = [\"x\"]\nexpect = \"refer\"\n";
    let config: Config = toml::from_str(everything).unwrap();
    let mut fields = 0;
    for (section, keys) in toml::Table::try_from(&config).unwrap() {
        let keys = keys.as_array().map_or(Some(&keys), |entries| entries.first());
        for key in keys.unwrap().as_table().unwrap().keys() {
            fields += 1;
            let header = if section == "trunk" { "[[trunk]]".to_owned() } else { format!("[{section}]") };
            for value in
                ["\"q5553331234\"", "5553331234", "555.3331234", "[\"q5553331234\"]", "{ key = 5553331234 }"]
            {
                let variable = format!("SIPOBS_{section}__{key}").to_uppercase();
                let results =
                    [load(&format!("{header}\n{key} = {value}\n"), &[]), load("", &[(&variable, value)])];
                for error in results.into_iter().filter_map(Result::err).map(|error| error.to_string()) {
                    // A file that is named and can't be read is named.
                    let shown = error.contains("5553331234") || error.contains("555.333");
                    assert!(
                        !shown || key.ends_with("path") || error.contains("cannot be read"),
                        "{section}.{key} = {value}: {error}"
                    );
                }
            }
        }
    }
    assert!(fields > 60, "{fields} fields");
}

#[test]
fn a_key_of_digits_is_a_key() {
    let variables =
        [("SIPOBS_PRIVACY__KEY", "0x1234567890abcdef"), ("SIPOBS_OTLP__HEADERS__TOKEN", "12345678")];
    let config = load("", &variables).unwrap();
    assert_eq!(config.privacy.key.unwrap().expose(), "0x1234567890abcdef");
    assert_eq!(config.otlp.headers["token"].expose(), "12345678");
    let complaint = complaint("", &[("SIPOBS_OTLP__HEADERS", "12345678")]);
    assert!(complaint.contains("a table of names and secrets"), "{complaint}");
}

#[cfg(unix)]
#[test]
fn a_secret_that_everybody_can_read_draws_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let (file, key) = (dir.path().join("sipobs.toml"), dir.path().join("key.pem"));
    let warnings = |text: &str, mode, variables: &[(&str, &str)]| -> Vec<String> {
        for (file, text) in [(&file, text), (&key, "")] {
            std::fs::write(file, text).unwrap();
            std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let variables = variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
        let (_, warnings) = Config::load(Some(&file), variables).unwrap();
        warnings.iter().map(ToString::to_string).collect()
    };
    let all = format!(
        "[privacy]\nkey = \"q5ecret\"\n[otlp]\nheaders = {{ a = \"q5ecret\" }}\nendpoint = \"http://q5ecret@c\"\nclient_key = {key:?}\n"
    );
    let found = warnings(&all, 0o644, &[]);
    for (warning, field) in
        found.iter().zip(["privacy.key", "otlp.headers", "otlp.endpoint", "otlp.client_key"])
    {
        assert!(
            warning.contains(field) && warning.contains("chmod o-r") && !warning.contains("q5"),
            "{warning}"
        );
    }
    assert_eq!(found.len(), 4, "{found:?}");
    assert_eq!(warnings(&all, 0o640, &[]), [""; 0]);
    let nothing_secret = "[otlp]\nendpoint = \"http://c\"";
    assert_eq!(warnings(nothing_secret, 0o644, &[("SIPOBS_PRIVACY__KEY", "q5ecret")]), [""; 0]);
}

#[test]
fn errors_name_file_line_column_and_field() {
    let text = complaint("[privacy]\nmask = \"last5\"\n", &[]);
    assert!(text.contains(".toml:2:8: privacy.mask: "), "{text}");
    let text = complaint("\n[privacy]\ncolour = 1\n", &[]);
    assert!(text.contains(".toml:3:1: privacy.colour: unknown field `colour`"), "{text}");
    let text = complaint("[metrics\n", &[]);
    assert!(text.contains(".toml:1:9: "), "{text}");
    let text = complaint("[[trunk]]\nname = \"a\"\n[[trunk]]\nname = 5\n", &[]);
    assert!(text.contains(".toml:4:8: trunk[1].name: "), "{text}");
}

/// What the types take and nobody can mean; zero and endless numbers are tested key by key in `reference`.
#[test]
fn nonsense_is_refused_where_it_stands() {
    for (text, said) in [
        (
            "[capture]\nports = [5060, 0]\n",
            ".toml:2:16: capture.ports[1]: invalid value: integer, expected a port from 1 to 65535",
        ),
        (
            "[capture]\nports = \"0-5\"\n",
            ".toml:2:9: capture.ports: invalid value: string, expected a port from 1 to 65535",
        ),
        (
            "[stream]\nports = 0\n",
            ".toml:2:9: stream.ports: invalid value: integer, expected a port from 1 to 65535",
        ),
        ("[capture]\nvxlan_ports = [1, 2, 3]\n", "2:15: capture.vxlan_ports: must be at most 2 entries"),
        (
            "[capture]\ndrop_methods = [\"INVITE\"]\n",
            "2:16: capture.drop_methods: must be any of OPTIONS, REGISTER, PUBLISH",
        ),
        ("[capture]\nring_bytes = 2147483648\n", "2:14: capture.ring_bytes: must be from 1 to 1073741824"),
        (
            "[metrics]\nlisten = \"127.0.0.1:0\"\n",
            "2:10: metrics.listen: must be an address with a port from 1",
        ),
        ("[ratio]\nwindow = \"32days\"\n", "2:10: ratio.window: must be whole days, from 1 to 31"),
        ("[ratio]\nwindow = \"36h\"\n", "2:10: ratio.window: must be whole days, from 1 to 31"),
        ("[ratio]\nchance = -0.1\n", "2:10: ratio.chance: must be from 0 to 1"),
        ("[link]\nlink_at = 1.5\n", "2:11: link.link_at: must be from 0 to 1"),
        ("[link]\nsettle = \"8s\"\n", "2:10: link.settle: must be more than 0 and less than 8s"),
        ("link.weights.hold = -1.0\n", "1:21: link.weights.hold: must be more than 0"),
        (
            "[[link.headers]]\nname = \"A\"\n[[link.headers]]\nname = \"B\"\nweight = nan\n",
            "5:10: link.headers[1].weight: must be more than 0",
        ),
        (
            "[[link.headers]]\nname = \"A\"\n[[link.headers]]\nname = \"B\"\nweight = inf\n",
            "5:10: link.headers[1].weight: must be more than 0",
        ),
        ("[otlp]\nservice_name = \"\"\n", "2:16: otlp.service_name: is empty"),
        ("[state]\npath = \"\"\n", "2:8: state.path: is empty"),
        ("[capture]\nexclude = [\"lo\", \"\"]\n", "2:18: capture.exclude[1]: is empty"),
        ("[[trunk]]\nname = \"\"\nhost = [\"*\"]\n", "2:8: trunk[0].name: is empty"),
        (
            "[[trunk]]\nname = \"a\"\nhost = \"*\"\n[[trunk]]\nname = \"a\"\nhost = [\"*\"]\n",
            "4:1: trunk[1]: the same as an entry before it",
        ),
    ] {
        let error = complaint(text, &[]);
        assert!(error.contains(said), "{text}: {error}");
    }
    for (name, value, said) in [
        ("SIPOBS_OTLP__QUEUE", "0", "must be more than 0"),
        ("SIPOBS_TIMERS__IDLE", "0s", "must be more than 0"),
        ("SIPOBS_LINK__LINK_AT", "nan", "must be from 0 to 1"),
        ("SIPOBS_JSONL__PATH", "", "is empty"),
    ] {
        assert_eq!(complaint("", &[(name, value)]), format!("environment variable {name}: {said}"));
    }
    let two_ways = "[[trunk]]\nname = \"a\"\nhost = \"*\"\n[[trunk]]\nname = \"a\"\nheader = \"X-A\"\n";
    load(two_ways, &[("SIPOBS_OTLP__NODE", "")]).unwrap().check().unwrap();
}

#[test]
fn causes_of_ones_own_are_read_from_their_file() {
    let dir = tempfile::tempdir().unwrap();
    let rows = dir.path().join("causes.toml");
    std::fs::write(&rows, "# none yet\n").unwrap();
    let text = format!("[diagnosis]\npath = {rows:?}");
    assert_eq!(load(&text, &[]).unwrap().engine().transfer.diagnosis.as_deref(), Some("# none yet\n"));
    std::fs::remove_file(&rows).unwrap();
    assert!(complaint(&text, &[]).contains("causes.toml: cannot be read"));
}

#[test]
fn the_engine_looks_into_the_tunnels_that_are_captured() {
    let engine = load("[capture]\nvxlan_ports = [4790]", &[]).unwrap().engine();
    assert_eq!(engine.packet.vxlan_ports, [4790]);
}

#[test]
fn secrets_are_not_shown() {
    let config = load("[privacy]\nmask = \"hash\"\nkey = \"correct horse battery\"", &[]).unwrap();
    assert!(!format!("{config:?}{}", config.to_toml().unwrap()).contains("horse"));
    assert_eq!(config.privacy.key.unwrap().expose(), "correct horse battery");
}

#[test]
fn the_environment_lies_over_the_file() {
    let config = load(
        "[privacy]\nmask = \"last3\"\n[metrics]\nlisten = \"127.0.0.1:1\"",
        &[("SIPOBS_PRIVACY__MASK", "full"), ("SIPOBS_JSONL__NOTICES", "true")],
    )
    .unwrap();
    assert_eq!(config.privacy.mask, Mask::Full);
    assert!(config.jsonl.notices);
    assert_eq!(config.metrics.listen.port(), 1);
}

#[test]
fn a_variable_that_does_not_fit_is_named() {
    let text = complaint("", &[("SIPOBS_METRICS__LISTEN", "here")]);
    assert!(text.starts_with("environment variable SIPOBS_METRICS__LISTEN: not an IP address"), "{text}");
    let config = load("", &[("SIPOBS_METRICS__LISTEN", "2001:db8::7:9464")]).unwrap();
    assert_eq!(config.metrics.listen.to_string(), "[2001:db8::7]:9464");
}

#[test]
fn a_variable_that_is_none_draws_a_warning() {
    let warnings = |variables: &[(&str, &str)]| -> Vec<String> {
        let variables = variables.iter().map(|&(k, v)| (k.to_owned(), v.to_owned()));
        let (config, warnings) = Config::load(None, variables).unwrap();
        assert_eq!(config, Config::default());
        warnings.iter().map(ToString::to_string).collect()
    };
    let found = warnings(&[
        ("SIPOBS_CAPTURE_PORTS", "5060"),
        ("SIPOBS_MTRICS__LISTEN", "5"),
        ("SIPOBS_WHATEVER", "q5ecret"),
    ]);
    let expected = [
        "environment variable SIPOBS_CAPTURE_PORTS: no such setting: is SIPOBS_CAPTURE__PORTS meant?",
        "environment variable SIPOBS_MTRICS__LISTEN: no such setting: is SIPOBS_METRICS__LISTEN meant?",
        "environment variable SIPOBS_WHATEVER: no such setting: `sipobs config` prints those that there are",
    ];
    assert_eq!(found.len(), 3, "{found:?}");
    for sentence in expected {
        assert!(found.iter().any(|it| it == sentence), "{found:?}");
    }
}

#[test]
fn a_list_in_a_variable_takes_no_brackets() {
    let config = load(
        "[capture]\nexclude = \"lo, eth9\"\n[[trunk]]\nname = \"t\"\nheader = \"X-A\"\nuser_agent = \"A, B*\"\n",
        &[
            ("SIPOBS_CAPTURE__PORTS", "5060,5080-5082"),
            ("SIPOBS_CAPTURE__VXLAN_PORTS", "4789"),
            ("SIPOBS_CAPTURE__INTERFACES", "eth0,/^e{1,2}$/"),
            ("SIPOBS_IDENTITY__HEADERS", "X-A,X-B"),
            ("SIPOBS_METRICS__HOSTS", "a.example"),
            ("SIPOBS_CAPTURE__DROP_METHODS", "[\"OPTIONS\"]"),
        ],
    )
    .unwrap();
    assert_eq!(config.capture.ports, [5060, 5080, 5081, 5082]);
    assert_eq!(config.capture.vxlan_ports, [4789]);
    assert_eq!(config.capture.interfaces, ["eth0", "/^e{1,2}$/"]);
    assert_eq!(config.capture.exclude, ["lo", "eth9"]);
    assert_eq!(config.capture.drop_methods, ["OPTIONS"]);
    assert_eq!((config.identity.headers.len(), &*config.metrics.hosts), (2, &["a.example".to_owned()][..]));
    assert_eq!((config.trunk[0].header.len(), &*config.trunk[0].user_agent[0]), (1, "A, B*"));
    let text = complaint("", &[("SIPOBS_CAPTURE__PORTS", "5060,sip")]);
    assert!(
        text.contains(
            "SIPOBS_CAPTURE__PORTS: invalid value: string, expected a port from 1 to 65535, or a range"
        ),
        "{text}"
    );
}

#[test]
fn a_name_may_look_like_a_number() {
    let config = load("", &[("SIPOBS_OTLP__NODE", "101"), ("SIPOBS_OTLP__QUEUE", "5")]).unwrap();
    assert_eq!((config.otlp.node.as_str(), config.otlp.queue), ("101", 5));
    let text = complaint("", &[("SIPOBS_OTLP__QUEUE", "-1")]);
    assert!(text.contains("SIPOBS_OTLP__QUEUE: invalid value: integer, expected"), "{text}");
}

#[test]
fn kubernetes_service_variables_are_not_ours() {
    // Kubernetes sets these in every pod of a namespace that holds a Service named `sipobs`.
    let variables = [("SIPOBS_SERVICE_HOST", "10.0.0.1"), ("SIPOBS_PORT_9464_TCP_PORT", "9464")];
    assert_eq!(load("", &variables).unwrap(), Config::default());
}

#[test]
fn otel_variables_set_otlp() {
    let variables = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, tenant = a"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2500"),
        ("OTEL_RESOURCE_ATTRIBUTES", "service.name=wrong,deployment.environment.name=lab"),
        ("OTEL_SERVICE_NAME", "right"),
    ];
    let otlp = load("", &variables).unwrap().otlp;
    assert_eq!(otlp.traces_url(), Some(Endpoint::new("http://c:4318/v1/traces")));
    assert_eq!(otlp.protocol, Protocol::HttpProtobuf);
    assert_eq!(otlp.headers["authorization"].expose(), "Bearer x");
    assert_eq!(otlp.headers["tenant"].expose(), "a");
    assert_eq!(otlp.timeout, Duration::from_millis(2500));
    assert_eq!(otlp.service_name, "right");
    assert_eq!(otlp.resource["deployment.environment.name"], "lab");
    assert!(!otlp.resource.contains_key("service.name"));
}

/// Each variable that the specification names for traces, alone and for all signals.
#[test]
fn every_standard_variable_sets_its_key() {
    for (name, value, key, set) in [
        ("PROTOCOL", "http/protobuf", "protocol", "\"http/protobuf\""),
        ("COMPRESSION", "gzip", "compression", "\"gzip\""),
        ("TIMEOUT", "2500", "timeout", "\"2s 500ms\""),
        ("CERTIFICATE", "/ca.pem", "certificate", "\"/ca.pem\""),
        ("CLIENT_CERTIFICATE", "/me.pem", "client_certificate", "\"/me.pem\""),
        ("CLIENT_KEY", "/me.key", "client_key", "\"/me.key\""),
        ("HEADERS", "a=1", "headers", "{ a = \"(hidden)\" }"),
    ] {
        let shown = |variables: &[(&str, &str)]| {
            let otlp = load("", variables).unwrap().otlp;
            toml::Table::try_from(&otlp).unwrap().get(key).map(ToString::to_string)
        };
        let all = format!("OTEL_EXPORTER_OTLP_{name}");
        let traces = format!("OTEL_EXPORTER_OTLP_TRACES_{name}");
        for variable in [&all, &traces] {
            assert_eq!(shown(&[(variable, value)]).as_deref(), Some(set), "{variable}");
            assert_eq!(shown(&[(variable, "")]), shown(&[]), "{variable} is empty, and so unset");
        }
        let ours = format!("SIPOBS_OTLP__{}", key.to_uppercase());
        let other = match key {
            "protocol" => "grpc",
            "compression" => "none",
            "timeout" => "7s",
            _ => "/other",
        };
        if key != "headers" {
            let over = shown(&[(&all, value), (&traces, value), (&ours, other)]);
            assert_eq!(over, Some(format!("\"{other}\"")), "{ours} wins");
        }
    }
    for (first, second) in [("", "TRACES_"), ("TRACES_", "")] {
        let [one, two] = [first, second].map(|it| format!("OTEL_EXPORTER_OTLP_{it}TIMEOUT"));
        let millis = |it: &str| if it.is_empty() { "1000" } else { "2000" };
        let otlp = load("", &[(&one, millis(first)), (&two, millis(second))]).unwrap().otlp;
        assert_eq!(otlp.timeout, Duration::from_secs(2), "that for traces wins, whatever their order");
    }
}

#[test]
fn the_endpoint_for_traces_is_taken_as_it_stands() {
    let url = |variables: &[(&str, &str)]| load("", variables).unwrap().otlp.traces_url().unwrap();
    let (http, all) = (("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"), "OTEL_EXPORTER_OTLP_ENDPOINT");
    assert_eq!(url(&[http, (all, "http://c:4318/x")]).expose(), "http://c:4318/x/v1/traces");
    let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://t/own");
    assert_eq!(url(&[http, traces, (all, "http://c:4318")]).expose(), "https://t/own");
    assert_eq!(url(&[traces]).expose(), "https://t/own");
}

#[test]
fn a_standard_variable_that_makes_no_sense_is_named() {
    for (name, value, said) in [
        ("ENDPOINT", "collector:4317", "does not begin with http:// or https://"),
        ("TRACES_ENDPOINT", "me:q5ecret@c", "does not begin with http:// or https://"),
        ("PROTOCOL", "http/json", "unknown value, expected `grpc` or `http/protobuf`"),
        ("COMPRESSION", "zstd", "unknown value, expected `none` or `gzip`"),
        ("TIMEOUT", "10s", "must be a whole number of milliseconds, more than 0"),
        ("TRACES_TIMEOUT", "0", "must be a whole number of milliseconds, more than 0"),
        ("TIMEOUT", "-1", "must be a whole number of milliseconds, more than 0"),
        ("HEADERS", "q5ecret", "an entry has no `=`"),
    ] {
        let name = format!("OTEL_EXPORTER_OTLP_{name}");
        assert_eq!(complaint("", &[(&name, value)]), format!("environment variable {name}: {said}"));
    }
    let error = complaint("", &[("OTEL_RESOURCE_ATTRIBUTES", "a")]);
    assert_eq!(error, "environment variable OTEL_RESOURCE_ATTRIBUTES: an entry has no `=`");
}

#[test]
fn the_services_name_is_the_nearest_one() {
    let name = |text: &str, variables: &[(&str, &str)]| load(text, variables).unwrap().otlp.service_name;
    let file = "[otlp]\nservice_name = \"file\"";
    let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=attributes");
    assert_eq!(name("", &[]), "sipobs");
    assert_eq!(name(file, &[]), "file");
    assert_eq!(name(file, &[attributes]), "attributes");
    assert_eq!(name(file, &[("OTEL_SERVICE_NAME", "variable"), attributes]), "variable");
    assert_eq!(name(file, &[attributes, ("OTEL_SERVICE_NAME", "")]), "attributes");
    let ours = ("SIPOBS_OTLP__SERVICE_NAME", "ours");
    assert_eq!(name(file, &[ours, ("OTEL_SERVICE_NAME", "variable"), attributes]), "ours");
}

#[test]
fn otel_can_be_switched_off() {
    for (value, is_off, warnings) in
        [("true", true, 0), ("TRUE", true, 0), ("false", false, 0), ("", false, 0), ("1", false, 1)]
    {
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), ("OTEL_SDK_DISABLED", value)];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (config, said) = Config::load(None, variables).unwrap();
        assert_eq!((config.otlp.traces_url().is_none(), said.len()), (is_off, warnings), "{value}");
        assert!(said.iter().all(|it| it.to_string().contains("OTEL_SDK_DISABLED: neither true nor false")));
    }
    assert!(
        complaint("", &[("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")])
            .contains("OTEL_EXPORTER_OTLP_PROTOCOL")
    );
}
