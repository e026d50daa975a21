//! The cluster's network, in a namespace of its own.

use std::fs;

use anyhow::Context;

use crate::command::{command, run};
use crate::config::NODE_ADDRESS;

/// Gives the node an address, and lets pods reach each other and the node.
///
/// # Errors
/// An interface cannot be made.
pub(crate) fn lay_out() -> anyhow::Result<()> {
    let address = format!("{NODE_ADDRESS}/24");
    let steps: [&[&str]; 5] = [
        &["link", "set", "lo", "up"],
        // A bridge without ports holds the node's address: not every kernel has dummy interfaces.
        &["link", "add", "node0", "type", "bridge"],
        &["address", "add", &address, "dev", "node0"],
        &["link", "set", "node0", "up"],
        // It leads nowhere, but Kubernetes finds a node's address by its default route.
        &["route", "add", "default", "dev", "node0"],
    ];
    for step in steps {
        run(command(&["ip"]).args(step))?;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("failed to switch forwarding on")
}
