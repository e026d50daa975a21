//! `GlobusAuthProxy`: `fetch → validate → build → apply → status`.

pub mod names;
