//! A PostgreSQL of the tests' own: on a Unix socket in a folder, and gone when the tests are.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use sqlx::{AnyConnection, Connection};

/// An empty database called `name`; its address.
pub(super) async fn database(name: &str) -> String {
    sqlx::any::install_default_drivers();
    let server = server();
    let mut connection = AnyConnection::connect(&server.url("postgres"))
        .await
        .unwrap();
    let statement = format!("CREATE DATABASE {name:?}");
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    server.url(name)
}

/// Its shell ends it when this process is gone, and its input with it.
struct Server {
    folder: PathBuf,
    _shell: Child,
}

impl Server {
    fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@localhost/{database}?host={}",
            self.folder.display()
        )
    }
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("globus-auth-pg-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(&folder).unwrap();
        let mut shell = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/postgresql"))
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(shell.stdout.take().unwrap()).lines();
        let said = lines.next().unwrap().unwrap();
        assert_eq!(said, "ready", "PostgreSQL does not start");
        Server {
            folder,
            _shell: shell,
        }
    })
}
