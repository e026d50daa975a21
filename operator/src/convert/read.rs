//! The forms in which settings come: a command line, an environment file, a configuration file in TOML. What
//! goes wrong is told without the text in which it did, because that may be a secret.

use super::flags::{Flag, Kind, by_cfg, by_name};
use super::kubernetes::{self, Workload};
use super::settings::{Given, Rank, Settings};

/// A file, or what was piped in.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) text: String,
}

/// Everything that was read.
#[derive(Default)]
pub(super) struct Input {
    pub(super) settings: Settings,
    /// Whether there was a configuration file.
    pub(super) has_file: bool,
    /// The workload in which oauth2-proxy runs.
    pub(super) workload: Option<Workload>,
    /// What to look at.
    pub(super) notes: Vec<String>,
}

/// Why something cannot be read.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("line {line} is no TOML")]
    Toml { line: usize },
    #[error("document {document} is no YAML")]
    Yaml { document: usize },
    #[error("{name:?} is no setting of oauth2-proxy 7.15; see `convert --flags`")]
    Unknown { name: String },
    #[error("--{name} has no value")]
    NoValue { name: &'static str },
    #[error("--{name} must be true or false")]
    NotSwitch { name: &'static str },
    #[error("{name} has a value that is neither text, number, true, false nor a list of texts")]
    NotText { name: &'static str },
    #[error("word {position} of the command line is no flag")]
    NotFlag { position: usize },
    #[error("there is no container of oauth2-proxy in it")]
    NoContainer,
    #[error("there is more than one container of oauth2-proxy in it; convert them one by one")]
    SeveralContainers,
}

/// Reads `source`, whatever it is, into `input`.
///
/// # Errors
/// [`Unreadable`].
pub(super) fn read(source: &Source, input: &mut Input) -> Result<(), Unreadable> {
    let lines = || {
        let lines = source.text.lines().map(str::trim);
        lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
    };
    let first = lines().find(|line| *line != "---").unwrap_or_default();
    let is_environment =
        |line: &str| variable(line).is_some_and(|(name, _)| name.starts_with(PREFIX));
    if lines().any(|line| line.starts_with("apiVersion:") || line.starts_with("kind:")) {
        kubernetes::read(&source.text, input)
    } else if lines().any(is_environment) {
        environment(lines().filter_map(variable), input)
    } else if first.starts_with("--") || command(first) {
        let words: Vec<String> = words(lines());
        arguments(&words, &mut input.settings)
    } else {
        file(&source.text, input)
    }
}

fn command(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or_default();
    word.rsplit('/').next() == Some("oauth2-proxy")
}

/// `NAME=VALUE`, also as a shell has it.
fn variable(line: &str) -> Option<(&str, &str)> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=')?;
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then(|| (name, unquoted(value.trim())))
}

fn unquoted(text: &str) -> &str {
    let inner = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(text)
}

/// Words of a command line, over several lines, without the program's name.
fn words<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut words = Vec::new();
    for line in lines {
        let (mut word, mut quote) = (None::<String>, None);
        for c in line.trim_end_matches('\\').chars() {
            match (quote, c) {
                (Some(open), c) if c == open => quote = None,
                (None, '"' | '\'') => {
                    quote = Some(c);
                    word.get_or_insert_default();
                }
                (None, c) if c.is_whitespace() => words.extend(word.take()),
                (_, c) => word.get_or_insert_default().push(c),
            }
        }
        words.extend(word);
    }
    if words.first().is_some_and(|word| command(word)) {
        words.remove(0);
    }
    words
}

/// Settings of a command line.
pub(super) fn arguments(words: &[String], settings: &mut Settings) -> Result<(), Unreadable> {
    let mut words = words.iter().enumerate();
    while let Some((position, word)) = words.next() {
        let position = position + 1;
        let word = word
            .strip_prefix("--")
            .ok_or(Unreadable::NotFlag { position })?;
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let flag = by_name(name).ok_or_else(|| unknown(name))?;
        let value = match (value, flag.kind) {
            (Some(value), _) => value,
            (None, Kind::Switch) => "true",
            (None, Kind::List | Kind::Text) => {
                let next = words
                    .next()
                    .ok_or(Unreadable::NoValue { name: flag.name })?;
                next.1
            }
        };
        settings.give(flag, Rank::Flag, text(flag, value)?);
    }
    Ok(())
}

fn unknown(name: &str) -> Unreadable {
    let name = name.to_owned();
    Unreadable::Unknown { name }
}

/// One text, as oauth2-proxy reads it for this flag.
pub(super) fn text(flag: &'static Flag, value: &str) -> Result<Given, Unreadable> {
    let texts = match flag.kind {
        Kind::List => {
            let entries = value.split(',').map(|entry| unquoted(entry.trim()));
            let entries = entries.filter(|entry| !entry.is_empty());
            entries.map(str::to_owned).collect()
        }
        Kind::Switch => match value {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => vec!["true".to_owned()],
            "0" | "f" | "F" | "FALSE" | "false" | "False" => vec!["false".to_owned()],
            _ => return Err(Unreadable::NotSwitch { name: flag.name }),
        },
        Kind::Text => vec![value.to_owned()],
    };
    Ok(Given::Text(texts))
}

/// Settings of an environment. oauth2-proxy does not look at others, also if they begin like its own.
fn environment<'a>(
    variables: impl Iterator<Item = (&'a str, &'a str)>,
    input: &mut Input,
) -> Result<(), Unreadable> {
    for (name, value) in variables {
        match in_environment(name) {
            Some(flag) => input
                .settings
                .give(flag, Rank::Environment, text(flag, value)?),
            None => input.notes.extend(unread_variable(name)),
        }
    }
    Ok(())
}

/// The flag that an environment variable sets.
pub(super) fn in_environment(name: &str) -> Option<&'static Flag> {
    by_cfg(&name.strip_prefix(PREFIX)?.to_lowercase())
}

/// Says of a variable that looks like a setting that it is none.
pub(super) fn unread_variable(name: &str) -> Option<String> {
    name.starts_with(PREFIX).then(|| {
        format!(
            "{name} is no setting: oauth2-proxy ignores it, and so does this; if a script makes a file of it, \
             give that file"
        )
    })
}

/// Settings of a configuration file.
pub(super) fn file(source: &str, input: &mut Input) -> Result<(), Unreadable> {
    let table: toml::Table = source.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or(0, |span| span.start);
        let before = source.get(..before).unwrap_or_default();
        Unreadable::Toml {
            line: before.matches('\n').count() + 1,
        }
    })?;
    for (name, value) in &table {
        let flag = by_cfg(name).ok_or_else(|| unknown(name))?;
        input.settings.give(flag, Rank::File, toml(flag, value)?);
    }
    input.has_file = true;
    Ok(())
}

fn toml(flag: &'static Flag, value: &toml::Value) -> Result<Given, Unreadable> {
    let not_text = || Unreadable::NotText { name: flag.cfg };
    match value {
        toml::Value::Array(entries) => {
            let entry = |entry: &toml::Value| Some(entry.as_str()?.to_owned());
            let texts: Option<Vec<_>> = entries.iter().map(entry).collect();
            let texts = texts.filter(|_| flag.kind == Kind::List);
            texts.map(Given::Text).ok_or_else(not_text)
        }
        toml::Value::String(value) => text(flag, value),
        toml::Value::Boolean(value) => text(flag, &value.to_string()),
        toml::Value::Integer(value) => text(flag, &value.to_string()),
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => Err(not_text()),
    }
}

/// Of environment variables.
const PREFIX: &str = "OAUTH2_PROXY_";
