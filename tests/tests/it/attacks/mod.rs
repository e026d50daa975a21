//! What attackers try. `docs/attacks.md` says which test stands for which line of the list.

mod availability;
mod from_outside;
mod logs;
mod sessions;
mod tokens;
