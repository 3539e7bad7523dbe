//! Calls: a question in a frame, its answer in another, any number on the way at once.
//!
//! A question's body: correlation u64, the kind that is asked u8, its version u8, body. An answer's: correlation u64,
//! status u8 (0: done, 1: refused), body or words.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::sync::oneshot;

use super::frame::OutFrame;
use super::hello::Refusal;
use super::kind;

const DONE: u8 = 0;
const REFUSED: u8 = 1;

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent.
    #[error("not connected")]
    NotConnected,
    /// Nothing was sent: too much waits for that node.
    #[error("too much waits to be sent")]
    Busy,
    /// It may have been carried out.
    #[error("no answer in time")]
    Timeout,
    /// It may have been carried out.
    #[error("the connection broke")]
    Broken,
    /// In the other node's words.
    #[error("{0}")]
    Refused(String),
    /// The other node does not talk to us.
    #[error("{0}")]
    Hello(#[from] Refusal),
}

/// A question that arrived.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question {
    pub correlation: u64,
    pub kind: u8,
    pub version: u8,
    pub body: Bytes,
}

impl Question {
    /// `None`: it is none.
    pub fn decode(mut body: Bytes) -> Option<Self> {
        let correlation = body.try_get_u64().ok()?;
        let (kind, version) = (body.try_get_u8().ok()?, body.try_get_u8().ok()?);
        Some(Self { correlation, kind, version, body })
    }
}

pub(super) fn question(correlation: u64, asked: u8, body: Bytes) -> OutFrame {
    let mut head = BytesMut::with_capacity(10);
    head.put_u64(correlation);
    head.put_slice(&[asked, kind::VERSION]);
    OutFrame::new(kind::CALL, vec![head.freeze(), body])
}

pub(super) fn answer(correlation: u64, outcome: Result<Bytes, String>) -> OutFrame {
    let (status, body) = match outcome {
        Ok(body) => (DONE, body),
        Err(words) => (REFUSED, Bytes::from(words)),
    };
    let mut head = BytesMut::with_capacity(9);
    head.put_u64(correlation);
    head.put_u8(status);
    OutFrame::new(kind::CALL_REPLY, vec![head.freeze(), body])
}

/// The answer in a frame; `None`: it is none.
pub(super) fn decode_answer(mut body: Bytes) -> Option<(u64, Result<Bytes, CallError>)> {
    let (correlation, status) = (body.try_get_u64().ok()?, body.try_get_u8().ok()?);
    let outcome = match status {
        DONE => Ok(body),
        _ => Err(CallError::Refused(String::from_utf8_lossy(&body).into_owned())),
    };
    Some((correlation, outcome))
}

/// The calls on one connection that wait for their answers.
#[derive(Default)]
pub(super) struct Pending {
    calls: Mutex<Calls>,
}

#[derive(Default)]
struct Calls {
    next: u64,
    waiting: HashMap<u64, oneshot::Sender<Result<Bytes, CallError>>>,
}

/// A call's place; given up when it is dropped.
pub(super) struct Place<'a> {
    pending: &'a Pending,
    pub correlation: u64,
    pub answered: oneshot::Receiver<Result<Bytes, CallError>>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.pending.with(|calls| calls.waiting.remove(&self.correlation));
    }
}

impl Pending {
    pub fn add(&self) -> Place<'_> {
        let (answer, answered) = oneshot::channel();
        let correlation = self.with(|calls| {
            calls.next += 1;
            calls.waiting.insert(calls.next, answer);
            calls.next
        });
        Place { pending: self, correlation, answered }
    }

    /// An answer has come. Nobody may wait for it any more.
    pub fn finish(&self, correlation: u64, outcome: Result<Bytes, CallError>) {
        if let Some(asker) = self.with(|calls| calls.waiting.remove(&correlation)) {
            drop(asker.send(outcome));
        }
    }

    /// The connection is gone.
    pub fn fail_all(&self) {
        // Whoever waits sees that its answer's sender is gone.
        self.with(|calls| calls.waiting.clear());
    }

    fn with<T>(&self, change: impl FnOnce(&mut Calls) -> T) -> T {
        change(&mut self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_come_out_as_they_went_in() {
        let body = Bytes::from_static(b"what?");
        let asked = question(7, kind::FORM, body.clone());
        let wire = Bytes::from(asked.parts.concat());
        let expected = Question { correlation: 7, kind: kind::FORM, version: kind::VERSION, body };
        assert_eq!(Question::decode(wire.clone()), Some(expected));
        assert_eq!(Question::decode(wire.slice(..9)), None);

        for outcome in [Ok(Bytes::from_static(b"that")), Err("no".to_owned())] {
            let wire = Bytes::from(answer(9, outcome.clone()).parts.concat());
            assert_eq!(decode_answer(wire.slice(..8)), None);
            assert_eq!(decode_answer(wire), Some((9, outcome.map_err(CallError::Refused))));
        }
    }
}
