//! The only holder of refresh tokens and of the key that encrypts them.
//!
//! | room | what is in it |
//! |---|---|
//! | `grant` | what is kept |
//! | `keyring`, `envelope` | how secrets are encrypted |
//! | `progress` | what may be done with a refresh token, whatever crashes: pure, and checked as a model |
//! | `answer`, `schedule`, `bulkhead` | what an issuer says, when it is asked, how often: pure |
//! | `store` | where grants lie |

pub mod answer;
pub mod bulkhead;
pub mod envelope;
pub mod grant;
pub mod keyring;
pub mod progress;
pub mod schedule;
pub mod store;
