//! How much memory a session check takes. A program of its own, because everything that it allocates is
//! counted.

use globus_auth_tests::bench::check;

#[global_allocator]
static ALLOCATOR: check::Counting = check::COUNTING;

#[test]
fn a_session_check_allocates_less_than_a_kilobyte() {
    let check = check::session().expect("a session can be checked");
    assert!(check.bytes_allocated() > 0, "nothing was counted");
    assert!(check.bytes_allocated() < 1000, "{check:?}");
}
