//! A response body that ends its request's phase when it is sent or dropped.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::io::PhaseGuard;
use crate::http::Body;

pub(super) struct Tracked {
    body: Body,
    _guard: PhaseGuard,
}

impl Tracked {
    pub(super) fn new(body: Body, guard: PhaseGuard) -> Self {
        Self { body, _guard: guard }
    }
}

impl http_body::Body for Tracked {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
