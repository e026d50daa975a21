//! What is asked for.

/// By what a request is admitted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Credentials {
    /// A session cookie, from a real login.
    Cookie,
    /// A bearer token, from the provider.
    Bearer,
}

/// One kind of load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Scenario {
    pub(super) credentials: Credentials,
    pub(super) connections: usize,
    pub(super) bytes: usize,
    /// Whether every request is logged.
    pub(super) logs: bool,
}

impl Scenario {
    const fn cookie(connections: usize, bytes: usize) -> Self {
        Self {
            credentials: Credentials::Cookie,
            connections,
            bytes,
            logs: false,
        }
    }

    /// As the report calls it.
    pub(super) fn name(&self) -> String {
        let credentials = match self.credentials {
            Credentials::Cookie => "cookie",
            Credentials::Bearer => "bearer",
        };
        let size = match self.bytes {
            small if small < KIB => format!("{small}B"),
            medium if medium < MIB => format!("{}KiB", medium / KIB),
            large => format!("{}MiB", large / MIB),
        };
        let logs = if self.logs { "-logs" } else { "" };
        format!("{credentials}-c{}-{size}{logs}", self.connections)
    }
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// The one that most targets are about.
pub(super) const MAIN: Scenario = Scenario::cookie(32, 64);
/// The one with every request logged.
pub(super) const LOGGED: Scenario = Scenario { logs: true, ..MAIN };
/// Large bodies.
pub(super) const LARGE: Scenario = Scenario::cookie(4, 100 * MIB);

/// All of them.
pub(super) const ALL: [Scenario; 10] = [
    MAIN,
    LOGGED,
    Scenario::cookie(1, 64),
    Scenario::cookie(256, 64),
    Scenario::cookie(1, 64 * KIB),
    Scenario::cookie(32, 64 * KIB),
    Scenario::cookie(256, 64 * KIB),
    LARGE,
    Scenario {
        credentials: Credentials::Bearer,
        ..MAIN
    },
    Scenario {
        credentials: Credentials::Bearer,
        ..Scenario::cookie(1, 64)
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_how_many_and_how_large() {
        assert_eq!(MAIN.name(), "cookie-c32-64B");
        assert_eq!(LOGGED.name(), "cookie-c32-64B-logs");
        assert_eq!(LARGE.name(), "cookie-c4-100MiB");
        assert_eq!(ALL[5].name(), "cookie-c32-64KiB");
    }
}
