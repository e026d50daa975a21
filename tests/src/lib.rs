//! Emulators, the cluster harness, and the tests that cross crates.
