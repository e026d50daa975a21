//! The effects that every program of globus-auth needs.

pub mod admin;
pub mod certificate;
pub mod http_client;
pub mod key_source;
pub mod process;
pub mod refreshed;
pub mod shutdown;
pub mod telemetry;
pub mod tls_server;
