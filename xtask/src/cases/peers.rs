//! The stacks that are not SIPp: baresip, which takes orders, and kamailio.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::play::{Host, Order, Play, Stack};
use super::stage::Stage;
use crate::calls::baresip_modules;
use crate::children::{Running, output};
use crate::root;

const CONTROL: u16 = 4444;

/// Starts them and waits until they listen.
pub(super) fn start(stage: &Stage, play: &Play) -> Result<Vec<Running>> {
    let mut running = Vec::new();
    for host in &play.hosts {
        match &host.stack {
            Stack::Sipp => {}
            Stack::Baresip(user) => running.push(start_baresip(stage, host, user)?),
            Stack::Kamailio(file) => running.push(start_kamailio(stage, host, file)?),
        }
    }
    Ok(running)
}

/// Gives one order to a baresip: one of the commands of its menu.
pub(super) fn give(stage: &Stage, order: &Order) -> Result<()> {
    let json = serde_json::json!({"command": order.command, "params": order.params}).to_string();
    // The order is a netstring; baresip listens on the namespace's own loopback.
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{CONTROL}; printf %s '{}:{json},' >&3; \
         while IFS= read -r -t 5 -d , part <&3; do case $part in *response*) printf %s \"$part\"; break;; esac; done",
        json.len()
    );
    let answer = output(stage.on(&order.host, "bash").args(["-c", &script]))?;
    if !answer.contains("response") {
        bail!("{} did not take the order `{} {}`: {answer:?}", order.host, order.command, order.params);
    }
    Ok(())
}

/// What takes part in a play, with versions.
pub(super) fn versions(play: &Play) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for host in &play.hosts {
        let (program, argument) = match host.stack {
            Stack::Sipp => ("sipp", "-v"),
            Stack::Baresip(_) => ("baresip", "-h"),
            Stack::Kamailio(_) => ("kamailio", "-v"),
        };
        let said = Command::new(program).arg(argument).output().context(program)?;
        let said = [said.stdout, said.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let number = said
            .split(|c: char| c.is_whitespace() || c == '-')
            .map(|word| word.trim_start_matches('v').trim_end_matches('.'))
            .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
        let name = if program == "sipp" { "SIPp" } else { program };
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
