//! The stacks that are not SIPp: baresip and linphone, which take orders, and kamailio.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::play::{Host, Order, Play, Stack};
use super::stage::Stage;
use crate::calls::baresip_modules;
use crate::children::{Running, output, wait_for};
use crate::root;

const CONTROL: u16 = 4444;
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// Starts them and waits until they listen.
pub(super) fn start(stage: &Stage, play: &Play) -> Result<Vec<Running>> {
    let mut running = Vec::new();
    for host in &play.hosts {
        match &host.stack {
            Stack::Sipp => {}
            Stack::Baresip(user) => running.push(start_baresip(stage, host, user)?),
            Stack::Linphone(user) => running.push(start_linphone(stage, host, user)?),
            Stack::Kamailio(file) => running.push(start_kamailio(stage, host, file)?),
        }
    }
    Ok(running)
}

/// Gives one order: one of the commands of the stack's own menu.
pub(super) fn give(stage: &Stage, play: &Play, order: &Order) -> Result<()> {
    let answer = match play.host(&order.host)?.stack {
        Stack::Linphone(_) => {
            to_linphone(stage, &order.host, &format!("{} {}", order.command, order.params))?
        }
        _ => to_baresip(stage, order)?,
    };
    // baresip answers in JSON, linphone in lines.
    if !answer.contains("response") && !answer.contains("Status: Ok") {
        bail!("{} did not take the order `{} {}`: {answer:?}", order.host, order.command, order.params);
    }
    Ok(())
}

fn to_linphone(stage: &Stage, host: &str, order: &str) -> Result<String> {
    // It talks to one at a time, and turns the next away until it has noticed that the last has gone.
    wait_for("linphone's answer", ANSWER_LIMIT, || Ok(ask(&stage.socket(host), order).ok()))
}

fn ask(socket: &Path, order: &str) -> std::io::Result<String> {
    let mut socket = UnixStream::connect(socket)?;
    socket.set_read_timeout(Some(ANSWER_LIMIT))?;
    // What one read gives it is the order.
    socket.write_all(format!("{order}\n").as_bytes())?;
    let mut answer = vec![0; 4_096];
    let length = socket.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
}

fn to_baresip(stage: &Stage, order: &Order) -> Result<String> {
    let json = serde_json::json!({"command": order.command, "params": order.params}).to_string();
    // The order is a netstring; baresip listens on the namespace's own loopback.
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{CONTROL}; printf %s '{}:{json},' >&3; \
         while IFS= read -r -t 5 -d , part <&3; do case $part in *response*) printf %s \"$part\"; break;; esac; done",
        json.len()
    );
    output(stage.on(&order.host, "bash").args(["-c", &script]))
}

/// What takes part in a play, with versions.
pub(super) fn versions(play: &Play) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for host in &play.hosts {
        let (program, argument) = match host.stack {
            Stack::Sipp => ("sipp", "-v"),
            Stack::Baresip(_) => ("baresip", "-h"),
            Stack::Linphone(_) => ("linphonec", "-v"),
            Stack::Kamailio(_) => ("kamailio", "-v"),
        };
        let said = Command::new(program).arg(argument).output().context(program)?;
        let said = [said.stdout, said.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let number = said
            .split(|c: char| c.is_whitespace() || c == '-')
            .map(|word| word.trim_start_matches('v').trim_end_matches('.'))
            .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
        let name = match program {
            "sipp" => "SIPp",
            "linphonec" => "linphone",
            other => other,
        };
        found.insert(format!("{name} {}", number.unwrap_or("of an unknown version")));
    }
    Ok(found)
}

fn start_baresip(stage: &Stage, host: &Host, user: &str) -> Result<Running> {
    let dir = stage.dir.join(format!("baresip-{}", host.name));
    fs::create_dir_all(&dir)?;
    let listen = format!("{}:5060", host.address);
    let config = [
        format!("sip_listen {listen}"),
        format!("module_path {}", baresip_modules()?.display()),
        "module g711.so".into(),
        "module_app account.so".into(),
        "module_app menu.so".into(),
        "module_app ctrl_tcp.so".into(),
        format!("ctrl_tcp_listen 127.0.0.1:{CONTROL}\n"),
    ];
    fs::write(dir.join("config"), config.join("\n"))?;
    let account = format!("<sip:{user}@{}>;regint=0;answermode=auto\n", host.address);
    fs::write(dir.join("accounts"), account)?;
    let mut baresip = stage.on(&host.name, "baresip");
    baresip.args(["-4", "-v", "-f"]).arg(&dir);
    let name = format!("baresip-{}", host.name);
    let running = Running::start(&name, baresip, &stage.dir.join(format!("{name}.log")))?;
    for address in [listen, format!("127.0.0.1:{CONTROL}")] {
        stage.wait_listening(&host.name, &address).with_context(|| running.tail(20))?;
    }
    Ok(running)
}

fn start_linphone(stage: &Stage, host: &Host, user: &str) -> Result<Running> {
    let name = format!("linphone-{}", host.name);
    let home = stage.dir.join(&name);
    // It makes its database here, but not the folder.
    fs::create_dir_all(home.join(".local/share/linphone"))?;
    let config = home.join("linphonerc");
    let lines = [
        "[sip]",
        "sip_port=5060",
        "sip_tcp_port=0",
        "sip_tls_port=0",
        "use_ipv6=0",
        &format!("contact=sip:{user}@{}\n", host.address),
    ];
    fs::write(&config, lines.join("\n"))?;
    let socket = stage.socket(&host.name);
    let mut linphone = stage.on(&host.name, "linphone-daemon");
    linphone.env("HOME", &home).arg("--auto-answer").arg("--config").arg(config);
    linphone.arg("--pipe").arg(socket.file_name().context("a socket has a name")?);
    let running = Running::start(&name, linphone, &stage.dir.join(format!("{name}.log")))?;
    wait_for("linphone's daemon", Duration::from_secs(10), || {
        let table = output(stage.on(&host.name, "ss").arg("-Hlnu"))?;
        Ok((table.contains(":5060 ") && socket.exists()).then_some(()))
    })
    .with_context(|| running.tail(20))?;
    // A long offer of codecs tells nothing here.
    for order in ["audio-codec-disable ALL", "audio-codec-enable PCMU/8000/1"] {
        let answer = to_linphone(stage, &host.name, order)?;
        ensure!(answer.contains("Status: Ok"), "linphone did not take the order `{order}`: {answer:?}");
    }
    Ok(running)
}

fn start_kamailio(stage: &Stage, host: &Host, file: &str) -> Result<Running> {
    let listen = format!("{}:5060", host.address);
    let scenario: PathBuf = root().join("xtask/scenarios").join(file);
    let name = format!("kamailio-{}", host.name);
    let runtime = stage.dir.join(&name);
    fs::create_dir_all(&runtime)?;
    let mut kamailio = stage.on(&host.name, "kamailio");
    // In the foreground, one process for each socket, little memory, and no file outside of our folder.
    kamailio.args(["-DD", "-E", "-n", "1", "-m", "16", "-M", "4", "-f"]).arg(scenario);
    kamailio.arg("-Y").arg(&runtime).arg("-l").arg(format!("udp:{listen}"));
    let running = Running::start(&name, kamailio, &stage.dir.join(format!("{name}.log")))?;
    stage.wait_listening(&host.name, &listen).with_context(|| running.tail(20))?;
    Ok(running)
}
