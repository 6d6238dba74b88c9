//! The guest agent's program, which is also its sudo: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    if atoll_agent::sudo::is_called() {
        return atoll_agent::sudo::main();
    }
    atoll_agent::boot::run()
}
