//! The `process.Process` service: starts processes, streams their output, feeds and ends them.
//!
//! One task looks after each process from its start to 30 s after its end. Output goes through one
//! bounded buffer a process ([`ring`]): readers have a place in it, a slow reader holds the process
//! back, and without a reader the oldest bytes are overwritten.

mod child;
mod clone;
mod command;
mod environment;
mod exit;
mod input;
mod limit;
mod output;
mod reader;
mod reaper;
mod replay;
pub mod ring;
mod select;
mod service;
mod shared;
mod signal;
mod start;
mod supervise;
mod table;
mod terminal;

pub use clone::remember_file_limit;
pub(crate) use clone::{CloneError, Identity, Plan, Step, start as start_plan};
pub use environment::{DEFAULT_PATH, PROTECTED, check as check_variable};
pub use limit::limit;
pub use reaper::{listen, reap};
pub use service::handle;
pub use shared::Process;
pub use signal::handle as signal;
pub use table::Table;
