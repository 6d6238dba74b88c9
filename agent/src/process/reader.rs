//! A client's stream of a process's events.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::ring::Source;
use super::shared::{Process, Step};
use crate::connect::Error;
use crate::wire::process::{DataEvent, ProcessOutput};

/// `start`, then output, then `end`. Dropped with the client's connection, which lets the process run free.
pub struct Events {
    process: Arc<Process>,
    reader: u64,
    stage: Stage,
}

#[derive(PartialEq)]
enum Stage {
    Start,
    Output,
    Done,
}

impl Events {
    /// A stream from place `from` of the output, or of what comes from now on. Returns also how many bytes that were
    /// asked for are gone.
    pub fn new(process: Arc<Process>, from: Option<u64>) -> (Self, u64) {
        let (reader, lost) = process.add_reader(from);
        let events = Self {
            process,
            reader,
            stage: Stage::Start,
        };
        (events, lost)
    }
}

impl Stream for Events {
    type Item = Result<ProcessOutput, Error>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let event = match this.stage {
            Stage::Done => return Poll::Ready(None),
            Stage::Start => {
                this.stage = Stage::Output;
                ProcessOutput::start(this.process.number())
            }
            Stage::Output => match ready!(this.process.poll_read(this.reader, task)) {
                Some(Step::Data(source, bytes)) => {
                    let mut data = DataEvent::default();
                    match source {
                        Source::Stdout => data.stdout = Some(bytes),
                        Source::Stderr => data.stderr = Some(bytes),
                        Source::Pty => data.pty = Some(bytes),
                    }
                    ProcessOutput::data(data)
                }
                Some(Step::End(end)) => {
                    this.stage = Stage::Done;
                    ProcessOutput::end(end)
                }
                None => return Poll::Ready(None),
            },
        };
        Poll::Ready(Some(Ok(event)))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.process.remove_reader(self.reader);
    }
}
