//! `globus-auth-operator convert`: reads files, writes the resource to standard output and what is to be
//! known about it to standard error.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use super::flags;
use super::plan::{Conversion, Target, plan};
use super::read::{Input, Source, read};

/// Turns a configuration of oauth2-proxy into a GlobusAuthProxy. The resource is written to standard
/// output; what was not carried over, and why, to standard error. No secret is in either.
#[derive(Debug, Parser)]
#[command(name = "globus-auth-operator convert", version)]
pub struct Args {
    /// The name of the resource. Default: that of the workload, or the first part of the address.
    #[arg(long)]
    name: Option<String>,

    /// Its namespace. Default: that of the workload, or none.
    #[arg(long)]
    namespace: Option<String>,

    /// The address that users type, if `redirect-url` does not say it.
    #[arg(long, value_name = "URL")]
    external_url: Option<String>,

    /// Show all flags of oauth2-proxy and what becomes of them, as a table in Markdown.
    #[arg(long)]
    flags: bool,

    /// Files that make up one oauth2-proxy: its flags, an environment file (`OAUTH2_PROXY_…=…`), its
    /// configuration file, YAML of Kubernetes with its Deployment and what it mounts; `-` is standard input.
    #[arg(value_name = "FILE", required_unless_present = "flags")]
    files: Vec<PathBuf>,
}

/// Whether the program was called for this, by its first argument.
pub fn is_meant(arguments: &[OsString]) -> bool {
    arguments
        .get(1)
        .is_some_and(|argument| argument == "convert")
}

/// Converts, as `arguments` after the program's name say.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let args = Args::parse_from(arguments.into_iter().skip(1));
    match convert(&args) {
        Ok((resource, told)) => {
            let written =
                write(std::io::stdout(), &resource).and_then(|()| write(std::io::stderr(), &told));
            written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
        }
        Err(told) => {
            // There is nobody left to tell.
            write(std::io::stderr(), &told).unwrap_or_default();
            ExitCode::FAILURE
        }
    }
}

fn write(mut to: impl Write, text: &str) -> std::io::Result<()> {
    to.write_all(text.as_bytes())
}

/// What goes to standard output and to standard error, or to the latter only.
fn convert(args: &Args) -> Result<(String, String), String> {
    if args.flags {
        return Ok((flags::markdown(), String::new()));
    }
    let mut input = Input::default();
    for path in &args.files {
        let name = path.display().to_string();
        let text = text(path).map_err(|error| format!("failed to read {name}: {error}\n"))?;
        let source = Source { name, text };
        read(&source, &mut input).map_err(|error| format!("{}: {error}\n", source.name))?;
    }
    let target = Target {
        name: args.name.clone(),
        namespace: args.namespace.clone(),
        external_url: args.external_url.clone(),
    };
    let refused = |refusals: Vec<String>| {
        let refusals = section("Nothing was converted, because", &refusals);
        format!("{refusals}docs/migrating-from-oauth2-proxy.md says more.\n")
    };
    let conversion = plan(&input, &target).map_err(refused)?;
    let resource = serde_yaml_ng::to_string(&conversion.proxy)
        .map_err(|error| format!("failed to write the resource: {error}\n"))?;
    Ok((resource, told(&conversion)))
}

fn text(path: &PathBuf) -> std::io::Result<String> {
    let file: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(path)?)
    };
    let mut text = String::new();
    file.take(LONGEST_FILE).read_to_string(&mut text)?;
    Ok(text)
}

/// What is to be known about a conversion.
pub(super) fn told(conversion: &Conversion) -> String {
    let commands = conversion.commands.join("\n");
    let commands = if commands.is_empty() {
        commands
    } else {
        format!("Run first, in bash:\n{commands}\n\n")
    };
    [
        commands,
        section("To look at", &conversion.notes),
        section("Not carried over", &conversion.absent),
        section("Not needed", &conversion.needless),
    ]
    .concat()
}

fn section(title: &str, lines: &[String]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: Vec<_> = lines.iter().map(|line| format!("- {line}")).collect();
    let lines = lines.join("\n");
    format!("{title}:\n{lines}\n\n")
}

/// A megabyte is more than a Kubernetes object has.
const LONGEST_FILE: u64 = 4 << 20;
