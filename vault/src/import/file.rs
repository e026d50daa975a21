//! The files in which others keep tokens, and the rows in them. What kind of file it is shows by itself.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::Value;

use super::fernet::Key;
use super::sqlite;
use crate::progress::Moment;

/// A token in a file.
#[derive(Debug)]
pub struct Row {
    /// The e-mail address of its user, where the file has one.
    pub email: Option<String>,
    /// `sub` of its user, where the file has that.
    pub subject: Option<String>,
    /// What the file calls the service.
    pub service: String,
    /// The access token.
    pub access_token: SecretString,
    /// The refresh token; an empty one is none.
    pub refresh_token: Option<SecretString>,
    /// What it allows.
    pub scopes: Vec<String>,
    /// When the access token expires, if the file says so.
    pub expires_at: Option<Moment>,
    /// `Bearer`, or what else the file says.
    pub token_type: String,
}

/// Reads the rows of `bytes`. `passphrase` is the key of an encrypted file.
///
/// # Errors
/// [`BadFile`]; nothing of the file is in it.
pub async fn read(bytes: &[u8], passphrase: Option<&SecretString>) -> Result<Vec<Row>, BadFile> {
    if bytes.starts_with(sqlite::MAGIC) {
        return sqlite::read(bytes).await;
    }
    let text = std::str::from_utf8(bytes).map_err(|_binary| BadFile::Unknown)?;
    let text = text.trim();
    if text.starts_with("gAAAA") {
        return encrypted(text, passphrase.ok_or(BadFile::NeedsKey)?);
    }
    if text.starts_with('{') {
        return json(text);
    }
    if text.starts_with(['[', '#', ';']) {
        return ini(text);
    }
    Err(BadFile::Unknown)
}

/// `mcp_tokens.enc` of atlas-chat: a map from `email:server` to tokens, encrypted by Fernet under a key, or
/// under a passphrase.
fn encrypted(text: &str, key: &SecretString) -> Result<Vec<Row>, BadFile> {
    #[derive(Deserialize)]
    struct Stored {
        token_type: String,
        token_value: SecretString,
        user_email: String,
        server_name: String,
        expires_at: Option<f64>,
        scopes: Option<String>,
        refresh_token: Option<SecretString>,
    }
    let key = key.expose_secret().trim();
    let key = Key::parse(key).unwrap_or_else(|| Key::derive(key, ATLAS_SALT, ATLAS_ITERATIONS));
    let opened = key.open(text.as_bytes()).ok_or(BadFile::WrongKey)?;
    let stored: BTreeMap<String, Stored> =
        serde_json::from_slice(&opened).map_err(|_quotes_values| BadFile::Unknown)?;
    let rows = stored.into_values().map(|stored| Row {
        email: Some(stored.user_email),
        subject: None,
        service: stored.server_name,
        access_token: stored.token_value,
        refresh_token: present(stored.refresh_token),
        scopes: words(&stored.scopes.unwrap_or_default()),
        expires_at: stored.expires_at.and_then(moment),
        token_type: stored.token_type,
    });
    Ok(rows.collect())
}

/// Tokens by resource server, as the Globus SDK and all that build on it have them.
#[derive(Deserialize)]
pub(super) struct Tokens {
    identity_id: Option<String>,
    resource_server: Option<String>,
    access_token: SecretString,
    refresh_token: Option<SecretString>,
    scope: Option<Value>,
    expires_at_seconds: Option<Value>,
    token_type: Option<String>,
}

impl Tokens {
    /// `name` is where they lie, which some stores write with losses.
    pub(super) fn row(self, name: &str) -> Row {
        Row {
            email: None,
            subject: self.identity_id,
            service: self.resource_server.unwrap_or_else(|| name.to_owned()),
            access_token: self.access_token,
            refresh_token: present(self.refresh_token),
            scopes: match self.scope {
                Some(Value::String(scopes)) => words(&scopes),
                Some(Value::Array(scopes)) => scopes
                    .iter()
                    .filter_map(|scope| scope.as_str().map(str::to_owned))
                    .collect(),
                _ => Vec::new(),
            },
            expires_at: match self.expires_at_seconds {
                Some(Value::String(text)) => text.parse().ok().and_then(moment),
                Some(Value::Number(number)) => number.as_f64().and_then(moment),
                _ => None,
            },
            token_type: self.token_type.unwrap_or_else(|| "Bearer".to_owned()),
        }
    }
}

/// `tokens.json` of the Globus SDK, in its two formats, and of fair-research-login.
fn json(text: &str) -> Result<Vec<Row>, BadFile> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum File {
        V2 {
            data: BTreeMap<String, BTreeMap<String, Tokens>>,
        },
        V1 {
            by_rs: BTreeMap<String, Tokens>,
        },
        Bare(BTreeMap<String, Tokens>),
    }
    let file: File = serde_json::from_str(text).map_err(|_quotes_values| BadFile::Unknown)?;
    let sets: Vec<(String, Tokens)> = match file {
        File::V2 { data } => data.into_values().flatten().collect(),
        File::V1 { by_rs } | File::Bare(by_rs) => by_rs.into_iter().collect(),
    };
    Ok(sets
        .into_iter()
        .map(|(name, tokens)| tokens.row(&name))
        .collect())
}

/// Files of Python's `configparser`, as fair-research-login and Gladier write them: in any section, lines
/// `NAME__FIELD = VALUE`. NAME is the resource server with `_` for `.`, so the field `resource_server` is the
/// one that counts.
fn ini(text: &str) -> Result<Vec<Row>, BadFile> {
    let mut sets: BTreeMap<(String, String), BTreeMap<String, Value>> = BTreeMap::new();
    let mut section = String::new();
    for line in text.lines() {
        let line = line.trim();
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            name.clone_into(&mut section);
            continue;
        }
        let Some((key, value)) = line
            .split_once([':', '='])
            .filter(|_| !line.starts_with(['#', ';']))
        else {
            continue;
        };
        let Some((name, field)) = key.trim().split_once("__") else {
            continue;
        };
        // `configparser` writes a percent sign twice.
        let value = value.trim().replace("%%", "%");
        if !value.is_empty() {
            let set = sets.entry((section.clone(), name.to_owned())).or_default();
            set.insert(field.to_owned(), value.into());
        }
    }
    sets.into_iter()
        .map(|((_section, name), fields)| {
            let fields = Value::Object(fields.into_iter().collect());
            let tokens: Tokens =
                serde_json::from_value(fields).map_err(|_quotes_values| BadFile::Unknown)?;
            Ok(tokens.row(&name.replace('_', ".")))
        })
        .collect()
}

fn present(token: Option<SecretString>) -> Option<SecretString> {
    token.filter(|token| !token.expose_secret().is_empty())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn moment(seconds: f64) -> Option<Moment> {
    Moment::try_from_secs_f64(seconds).ok()
}

const ATLAS_SALT: &[u8] = b"atlas-mcp-token-storage-v1";
const ATLAS_ITERATIONS: NonZeroU32 = NonZeroU32::new(480_000).unwrap();

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum BadFile {
    /// It is encrypted.
    #[error("the file is encrypted; name the file with its key in --file-key")]
    NeedsKey,
    /// It is a database that cannot be read.
    #[error("the SQLite database cannot be read")]
    Sqlite(#[source] sqlx::Error),
    /// It is none that is known.
    #[error(
        "the file is none of those that can be imported: mcp_tokens.enc of atlas-chat, tokens.json or storage.db of the \
         Globus SDK, the files of fair-research-login and Gladier"
    )]
    Unknown,
    /// The key is not that of the file, or the file was changed.
    #[error("the file does not open with this key; nothing was imported")]
    WrongKey,
}
