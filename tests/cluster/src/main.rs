//! A real Kubernetes on one Linux machine, in seconds.

fn main() {}
