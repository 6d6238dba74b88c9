//! The guest agent's program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    atoll_agent::boot::run()
}
