//! The only holder of refresh tokens and of the key that encrypts them.
//!
//! | room | what is in it |
//! |---|---|
//! | `grant` | what is kept |
//! | `keyring`, `envelope`, `secrets` | how secrets are encrypted |
//! | `progress` | what may be done with a refresh token, whatever crashes: pure, and checked as a model |
//! | `answer`, `schedule`, `bulkhead` | what an issuer says, when it is asked, how often: pure |
//! | `endpoint`, `refresher` | who asks it |
//! | `store` | where grants lie |
//! | `failpoint` | where tests let the process die |

pub mod answer;
pub mod bulkhead;
pub mod endpoint;
pub mod envelope;
pub mod failpoint;
pub mod grant;
pub mod keyring;
pub mod progress;
pub mod refresher;
pub mod schedule;
pub mod secrets;
pub mod store;
