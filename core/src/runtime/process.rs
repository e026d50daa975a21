//! What others may see of the process.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Keeps the memory, which has tokens, out of core dumps.
///
/// # Errors
/// The system does not allow it.
pub fn refuse_core_dumps() -> std::io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}

/// Keeps other processes of the same user from reading the memory, as a debugger does.
///
/// # Errors
/// The system does not allow it.
pub fn refuse_debuggers() -> std::io::Result<()> {
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

#[cfg(test)]
mod tests {
    use rustix::process::{dumpable_behavior, getrlimit};

    use super::*;

    #[test]
    fn a_process_that_refuses_is_neither_dumped_nor_read() {
        refuse_core_dumps().unwrap();
        refuse_debuggers().unwrap();
        assert_eq!(getrlimit(Resource::Core).maximum, Some(0));
        assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    }
}
