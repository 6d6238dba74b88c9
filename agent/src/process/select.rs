//! From a selector to its process.

use std::sync::Arc;

use super::shared::Process;
use super::table::Table;
use crate::connect::Error;
use crate::wire::process::ProcessSelector;

/// The process that `selector` names, running or ended less than 30 s ago.
///
/// `invalid_argument` unless it names exactly one of pid and tag; `not_found` when there is none.
pub fn any(table: &Table, selector: Option<&ProcessSelector>) -> Result<Arc<Process>, Error> {
    match selector.map(|selector| (selector.pid, selector.tag.as_deref())) {
        Some((Some(pid), None)) => table
            .newest(|process| process.number() == pid)
            .ok_or_else(|| Error::not_found(format!("process with pid {pid} not found"))),
        Some((None, Some(tag))) => table
            .newest(|process| process.tag.as_deref() == Some(tag))
            .ok_or_else(|| Error::not_found(format!("process with tag '{tag}' not found"))),
        _ => Err(Error::invalid("the process must be named by one of pid and tag")),
    }
}

/// As [`any`], but `not_found` for a process that has ended.
pub fn running(table: &Table, selector: Option<&ProcessSelector>) -> Result<Arc<Process>, Error> {
    let process = any(table, selector)?;
    if process.has_ended() {
        return Err(Error::not_found(format!(
            "process with pid {} not found: it has ended",
            process.number()
        )));
    }
    Ok(process)
}
