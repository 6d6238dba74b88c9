//! The log: JSON lines on standard error. Never values of variables, tokens or contents of files.

use std::io::Write;

use serde_json::{Map, Value};

use crate::time;

/// Writes a line of level `info`. `logger` is the part of the agent that speaks.
pub fn info(logger: &str, message: &str, fields: &[(&str, Value)]) {
    write("info", logger, message, fields);
}

/// Writes a line of level `error`.
pub fn error(logger: &str, message: &str, fields: &[(&str, Value)]) {
    write("error", logger, message, fields);
}

fn write(level: &str, logger: &str, message: &str, fields: &[(&str, Value)]) {
    let mut line = Map::new();
    line.insert("timestamp".to_owned(), time::rfc3339(time::now()).into());
    line.insert("level".to_owned(), level.into());
    line.insert("logger".to_owned(), logger.into());
    line.insert("message".to_owned(), message.into());
    for (name, value) in fields {
        line.insert((*name).to_owned(), value.clone());
    }
    let mut text = Value::Object(line).to_string();
    text.push('\n');
    // A log nobody can read any more must not end what it tells of.
    let _ = std::io::stderr().write_all(text.as_bytes());
}
