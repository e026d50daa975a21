//! What is in the memory of a process, as a debugger sees it.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// Which of `texts` are in the writable memory of the process `id`.
///
/// # Panics
/// If it cannot be read.
pub(super) fn contains(id: u32, texts: &[&str]) -> Vec<bool> {
    let maps = std::fs::read_to_string(format!("/proc/{id}/maps")).expect("a process has a map");
    let memory = File::open(format!("/proc/{id}/mem")).expect("the memory of a child can be read");
    let mut found = vec![false; texts.len()];
    for (begin, end) in maps.lines().filter_map(writable) {
        let length = usize::try_from(end - begin).expect("a region fits into memory");
        let mut bytes = vec![0; length];
        // A page that is gone by now has nothing.
        if memory.read_exact_at(&mut bytes, begin).is_err() {
            continue;
        }
        for (text, found) in texts.iter().zip(&mut found) {
            *found |= memchr::memmem::find(&bytes, text.as_bytes()).is_some();
        }
    }
    found
}

fn writable(line: &str) -> Option<(u64, u64)> {
    let mut words = line.split(' ');
    let (begin, end) = words.next()?.split_once('-')?;
    let parse = |text| u64::from_str_radix(text, 16).ok();
    let is_writable = words.next()?.starts_with("rw");
    is_writable.then_some((parse(begin)?, parse(end)?))
}
