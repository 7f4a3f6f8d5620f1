//! What packages ship beside the program, made from its own command line: a shell's completions, and the manual.

use std::io;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, Exit, Failure, written};

const PROGRAM: &str = "sipobs";

const EXAMPLES: &str = "\
Examples:
  sipobs completions bash > /etc/bash_completion.d/sipobs
  sipobs completions zsh > /usr/local/share/zsh/site-functions/_sipobs";

/// Print what completes sipobs's command line in a shell
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write the manual, a page for each command
#[derive(Clone, Debug, Args)]
pub(super) struct Manual {
    /// The folder to write to
    folder: PathBuf,
}

pub(super) fn completions(command: &Completions) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(command.shell, &mut Cli::command(), PROGRAM, &mut script);
    written(io::Write::write_all(&mut io::stdout(), &script))
}

pub(super) fn manual(command: &Manual) -> Result<Exit, Failure> {
    let written = clap_mangen::generate_to(Cli::command(), &command.folder);
    written.map_err(|error| {
        Failure::usage(anyhow::Error::new(error).context(command.folder.display().to_string()))
    })?;
    Ok(Exit::Done)
}
