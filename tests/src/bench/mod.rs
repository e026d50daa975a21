//! `make bench`: our sidecar, its peers and the floor, side by side, in front of one upstream.
//!
//! | module | is |
//! |---|---|
//! | `scenario` | what is asked for: credentials, connections, size |
//! | `peer` | who is asked: one program with its configuration and a real login |
//! | `upstream` | the workload behind all of them, as a process of its own |
//! | `load` | closed-loop load over raw sockets, and what it saw |
//! | `streams` | server-sent events to many, and each idle WebSocket |
//! | `process` | a program's processor time and memory, as the kernel counts them |
//! | `check` | a session check alone: time and bytes allocated |
//! | `vault` | reads of tokens from a vault, through HTTP and TLS |
//! | `suite` | the rounds, interleaved |
//! | `report`, `targets` | figures as JSON and as a table; which targets they meet |
//!
//! What decides is processor time for each request, from the kernel's accounts, because wall-clock time
//! depends on what else the machine does. Peers take turns, round by round, so that noise hits all.

#![allow(
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on ends the program that measures"
)]

pub mod check;
mod load;
mod peer;
mod process;
mod report;
mod scenario;
mod streams;
mod suite;
mod targets;
pub mod upstream;
pub mod vault;

pub use report::{Line, Machine, Report, SessionCheck, Start, Stream};
pub use suite::{Options, run};
pub use targets::Target;
