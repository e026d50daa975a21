//! The reverse proxy that stands in front of a workload.
