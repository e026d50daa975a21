//! A PostgreSQL of the tests' own: on a Unix socket in a folder, and gone when the tests are.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
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
        // PostgreSQL does not run as root.
        let is_root = std::os::unix::fs::chown(&folder, Some(NOBODY), Some(NOBODY)).is_ok();
        let mut command = Command::new(if is_root { "setpriv" } else { "env" });
        if is_root {
            let nobody = NOBODY.to_string();
            command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
        }
        let mut shell = command
            .args(["sh", "-c", SCRIPT, "sh"])
            .arg(programs())
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

/// Debian keeps the programs of each version apart.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.expect("PostgreSQL is installed: run .ci/setup postgresql");
    let newest = versions.flatten().map(|version| version.path()).max();
    newest
        .expect("a version of PostgreSQL")
        .join(Path::new("bin"))
}

/// Its data need not outlive it. It stops when nobody holds the shell's input any more.
const SCRIPT: &str = r#"
"$1/initdb" --pgdata "$2/data" --username postgres --auth trust --no-sync >/dev/null || exit
"$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c max_connections=400 >"$2/log" 2>&1 </dev/null &
until "$1/pg_isready" --quiet --host "$2"; do :; done
echo ready
cat >/dev/null
kill -INT $!
wait
rm -rf "$2"
"#;
const NOBODY: u32 = 65_534;
