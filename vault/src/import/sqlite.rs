//! SQLite stores of the Globus SDK, of the Globus CLI and of Gladier: one table `token_storage`.

use sqlx::sqlite::SqliteOwnedBuf;
use sqlx::{Connection, Row as _, SqliteConnection};

use super::file::{BadFile, Row, Tokens};

/// How such a file begins.
pub(super) const MAGIC: &[u8] = b"SQLite format 3\0";

/// Reads every namespace. The database, which has tokens in the clear, stays in memory.
pub(super) async fn read(bytes: &[u8]) -> Result<Vec<Row>, BadFile> {
    let mut bytes = zeroize::Zeroizing::new(bytes.to_vec());
    // A database in memory has no write-ahead log; that it had one lies in these two bytes.
    for version in bytes.iter_mut().skip(18).take(2) {
        *version = 1;
    }
    let buffer = SqliteOwnedBuf::try_from(bytes.as_slice()).map_err(BadFile::Sqlite)?;
    let memory = SqliteConnection::connect("sqlite::memory:").await;
    let mut connection = memory.map_err(BadFile::Sqlite)?;
    connection
        .deserialize(None, buffer, true)
        .await
        .map_err(BadFile::Sqlite)?;
    let rows = sqlx::query("SELECT resource_server, token_data_json FROM token_storage")
        .fetch_all(&mut connection)
        .await
        .map_err(BadFile::Sqlite)?;
    rows.iter()
        .map(|row| {
            let name: String = row.try_get("resource_server").map_err(BadFile::Sqlite)?;
            let text: String = row.try_get("token_data_json").map_err(BadFile::Sqlite)?;
            let tokens: Tokens =
                serde_json::from_str(&text).map_err(|_quotes_values| BadFile::Unknown)?;
            Ok(tokens.row(&name))
        })
        .collect()
}
