//! A PostgreSQL of the tests' own: on a Unix socket in a folder, and gone when the tests are.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

/// An empty database; its address.
///
/// # Panics
/// If there is no PostgreSQL.
pub fn database() -> String {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let folder = &SERVER.get_or_init(Server::start).folder;
    let name = format!("vault-{}", uuid::Uuid::new_v4());
    let made = Command::new("createdb")
        .args(["--username", "postgres", "--host"])
        .arg(folder)
        .arg(&name)
        .status();
    assert!(made.is_ok_and(|status| status.success()));
    format!(
        "postgres://postgres@localhost/{name}?host={}",
        folder.display()
    )
}

/// It ends when this process is gone, and its input with it.
#[derive(Debug)]
struct Server {
    folder: PathBuf,
    _script: Child,
}

impl Server {
    fn start() -> Self {
        let folder = std::env::temp_dir().join(format!("globus-auth-pg-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).expect("a folder for temporary files");
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.ci/postgresql"))
            .arg(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the script can be started");
        let mut lines = BufReader::new(script.stdout.take().expect("its output is piped")).lines();
        let said = lines.next().expect("a line").expect("text");
        assert_eq!(said, "ready", "PostgreSQL does not start");
        Self {
            folder,
            _script: script,
        }
    }
}
