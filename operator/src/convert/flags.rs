//! What is known of a flag of oauth2-proxy.

use std::fmt::Write;

use super::table::FLAGS;

/// A flag of oauth2-proxy.
pub(super) struct Flag {
    /// Its name on the command line, without dashes.
    pub(super) name: &'static str,
    /// Its name in a configuration file and, in capitals, in the environment.
    pub(super) cfg: &'static str,
    pub(super) kind: Kind,
    /// What oauth2-proxy takes if it is not given, as text.
    pub(super) default: &'static str,
    pub(super) fate: Fate,
    /// Where it goes, or why it goes nowhere.
    pub(super) text: &'static str,
}

/// What a flag takes.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Kind {
    /// Several texts, also separated by commas.
    List,
    /// True or false; true if nothing is said.
    Switch,
    /// One text.
    Text,
}

/// What becomes of a flag.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(super) enum Fate {
    /// There is nothing like it; without it, nobody is admitted whom it kept out.
    Absent,
    /// A field of the resource says it.
    Carried,
    /// It is always so here.
    Needless,
    /// Leaving it out would admit others than before, so nothing is converted.
    Refused,
}

impl Fate {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "no",
            Self::Carried => "yes",
            Self::Needless => "not needed",
            Self::Refused => "refused",
        }
    }
}

/// The flag of this name on the command line.
pub(super) fn by_name(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

/// The flag of this name in a configuration file.
pub(super) fn by_cfg(cfg: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.cfg == cfg)
}

/// All flags as a table in Markdown.
pub(super) fn markdown() -> String {
    let mut text = "| flag | carried over | how, or why not |\n|---|---|---|\n".to_owned();
    for Flag {
        name,
        fate,
        text: why,
        ..
    } in FLAGS
    {
        // Writing to a string does not fail.
        let _written = writeln!(text, "| `--{name}` | {} | {why} |", fate.as_str());
    }
    text
}
