//! The only holder of refresh tokens and of the key that encrypts them.
//!
//! | room | what is in it |
//! |---|---|
//! | `grant` | what is kept |
//! | `keyring`, `envelope`, `secrets` | how secrets are encrypted |
//! | `progress` | what may be done with a refresh token, whatever crashes: pure, and checked as a model |
//! | `answer`, `device`, `schedule`, `bulkhead` | what an issuer says, when it is asked, how often: pure |
//! | `authorize` | where a browser goes to let the vault have tokens: pure |
//! | `issuer`, `endpoint`, `client`, `refresher` | who asks it |
//! | `store`, `unstored` | where grants, sessions and the audit log lie; and tokens, while it takes no writes |
//! | `import` | taking over what others keep in files |
//! | `caller`, `app`, `admin`, `vault`, `ready` | who asks, what they ask, what they get |
//! | `reporter`, `metrics` | how it is |
//! | `run`, `commands`, `args` | the program around it |
//! | `failpoint` | where tests let the process die |

pub mod admin;
pub mod answer;
pub mod app;
mod args;
pub mod authorize;
pub mod bulkhead;
pub mod caller;
pub mod client;
mod commands;
pub mod device;
pub mod endpoint;
pub mod envelope;
pub mod failpoint;
pub mod grant;
pub mod import;
pub mod issuer;
pub mod keyring;
pub mod metrics;
pub mod progress;
mod ready;
pub mod refresher;
pub mod reporter;
mod run;
pub mod schedule;
pub mod secrets;
pub mod store;
pub mod unstored;
pub mod vault;

pub use args::{Args, Command, ImportArgs};
pub use run::run;
