//! What a node asks the one that leads the metadata to carry out for it, and the answer (Kafka's Envelope, KIP-590).
//!
//! An envelope's bytes: version u8, kind u8, and by kind
//!
//! | kind | |
//! |---|---|
//! | 1 | listener, client address, principal (each u16 length, text), the frame of a request |
//! | 2 | nothing: a block of producer ids for the sender |
//! | 3 | u16 count, names of topics that are to come into being |
//! | 4 | nothing: how far the leader is; the result is a version u64 |
//! | 5 | u16 count, leaderships to hand over: topic id, partition i32, node i32; to the node that has them. The result is a byte for each: 1 it is under way |
//! | 6 | the frame of a request that the sender itself has; to the node that it is for |
//!
//! An answer's: version u8, status u8 (0 done, 1 another node leads, 2 not available, 3 the client's connection is to be
//! closed), and if done the version of the leader's image u64 and the result, if closed the reason. Numbers are
//! big-endian.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use millstream_core::types::{NodeId, PartitionId, TopicId};
use uuid::Uuid;

const VERSION: u8 = 0;

const REQUEST: u8 = 1;
const PRODUCER_IDS: u8 = 2;
const TOPICS: u8 = 3;
const POSITION: u8 = 4;
const TRANSFER: u8 = 5;
const OWN: u8 = 6;

const DONE: u8 = 0;
const NOT_CONTROLLER: u8 = 1;
const NOT_AVAILABLE: u8 = 2;
const CLOSE: u8 = 3;

/// What is to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// A client's request, as if it had come to the leader.
    Request {
        /// The name of the listener that it came in by.
        listener: String,
        client: String,
        principal: String,
        /// Header and body, without the length prefix.
        frame: Bytes,
    },
    /// A block of producer ids for the sender.
    ProducerIds,
    /// Topics that are to come into being with the settings of the broker.
    Topics(Vec<String>),
    /// Nothing; the result says how far the leader is.
    Position,
    /// Leaderships that the receiver is to hand over.
    Transfer(Vec<(PartitionId, NodeId)>),
    /// A request of the sending node itself (header and body, without the length prefix).
    Own(Bytes),
}

/// Most leaderships of one envelope.
pub const TRANSFERS_MAX: usize = 1_000;

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `version`: of the image that holds what was done.
    Done { version: u64, result: Bytes },
    /// Nothing was done.
    NotController,
    /// It may still come true.
    NotAvailable,
    /// The client broke the protocol.
    Close(String),
}

/// Bytes that are no envelope, or no answer, of a version known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an envelope of version {version} is cut short or of another form")]
pub struct EnvelopeError {
    version: u8,
}

impl Envelope {
    pub fn encode(&self) -> Bytes {
        let mut to = BytesMut::new();
        to.put_u8(VERSION);
        match self {
            Self::Request { listener, client, principal, frame } => {
                to.put_u8(REQUEST);
                [listener, client, principal].into_iter().for_each(|text| put_text(&mut to, text));
                to.put_slice(frame);
            }
            Self::ProducerIds => to.put_u8(PRODUCER_IDS),
            Self::Topics(names) => {
                to.put_u8(TOPICS);
                let count = u16::try_from(names.len()).unwrap_or(u16::MAX);
                to.put_u16(count);
                names.iter().take(usize::from(count)).for_each(|name| put_text(&mut to, name));
            }
            Self::Position => to.put_u8(POSITION),
            Self::Own(frame) => {
                to.put_u8(OWN);
                to.put_slice(frame);
            }
            Self::Transfer(leaderships) => {
                to.put_u8(TRANSFER);
                to.put_u16(u16::try_from(leaderships.len().min(TRANSFERS_MAX)).unwrap_or(0));
                for (id, node) in leaderships.iter().take(TRANSFERS_MAX) {
                    to.put_slice(id.topic.0.as_bytes());
                    to.put_i32(id.partition);
                    to.put_i32(node.0);
                }
            }
        }
        to.freeze()
    }

    pub fn decode(mut from: Bytes) -> Result<Self, EnvelopeError> {
        let version = from.first().copied().unwrap_or_default();
        Self::read(&mut from).filter(|_| version == VERSION).ok_or(EnvelopeError { version })
    }

    fn read(from: &mut Bytes) -> Option<Self> {
        let (_version, kind) = (from.try_get_u8().ok()?, from.try_get_u8().ok()?);
        Some(match kind {
            REQUEST => {
                let (listener, client, principal) = (text(from)?, text(from)?, text(from)?);
                Self::Request { listener, client, principal, frame: from.split_off(0) }
            }
            PRODUCER_IDS => Self::ProducerIds,
            TOPICS => {
                let count = from.try_get_u16().ok()?;
                Self::Topics((0..count).map(|_| text(from)).collect::<Option<_>>()?)
            }
            POSITION => Self::Position,
            TRANSFER => {
                let count = from.try_get_u16().ok()?;
                Self::Transfer((0..count).map(|_| transfer(from)).collect::<Option<_>>()?)
            }
            OWN => Self::Own(from.split_off(0)),
            _ => return None,
        })
    }
}

impl Answer {
    pub fn encode(&self) -> Bytes {
        let mut to = BytesMut::new();
        to.put_u8(VERSION);
        match self {
            Self::Done { version, result } => {
                to.put_u8(DONE);
                to.put_u64(*version);
                to.put_slice(result);
            }
            Self::NotController => to.put_u8(NOT_CONTROLLER),
            Self::NotAvailable => to.put_u8(NOT_AVAILABLE),
            Self::Close(reason) => {
                to.put_u8(CLOSE);
                put_text(&mut to, reason);
            }
        }
        to.freeze()
    }

    pub fn decode(mut from: Bytes) -> Result<Self, EnvelopeError> {
        let version = from.first().copied().unwrap_or_default();
        Self::read(&mut from).filter(|_| version == VERSION).ok_or(EnvelopeError { version })
    }

    fn read(from: &mut Bytes) -> Option<Self> {
        let (_version, status) = (from.try_get_u8().ok()?, from.try_get_u8().ok()?);
        Some(match status {
            DONE => Self::Done { version: from.try_get_u64().ok()?, result: from.split_off(0) },
            NOT_CONTROLLER => Self::NotController,
            NOT_AVAILABLE => Self::NotAvailable,
            CLOSE => Self::Close(text(from)?),
            _ => return None,
        })
    }
}

fn transfer(from: &mut Bytes) -> Option<(PartitionId, NodeId)> {
    let topic = TopicId(Uuid::from_u128(from.try_get_u128().ok()?));
    let partition = from.try_get_i32().ok()?;
    Some((PartitionId { topic, partition }, NodeId(from.try_get_i32().ok()?)))
}

/// As much of it as a length can say.
fn put_text(to: &mut BytesMut, text: &str) {
    let end = (0..=text.len().min(usize::from(u16::MAX))).rev().find(|end| text.is_char_boundary(*end));
    let text = &text[..end.unwrap_or(0)];
    to.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
    to.put_slice(text.as_bytes());
}

fn text(from: &mut Bytes) -> Option<String> {
    let len = usize::from(from.try_get_u16().ok()?);
    let bytes = (len <= from.len()).then(|| from.split_to(len))?;
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_and_answers_survive_their_bytes() {
        let request = Envelope::Request {
            listener: "PLAINTEXT".into(),
            client: "127.0.0.1:5".into(),
            principal: "User:a".into(),
            frame: Bytes::from_static(b"frame"),
        };
        for envelope in [
            request,
            Envelope::ProducerIds,
            Envelope::Topics(vec!["a".into(), "".into(), "\u{20ac}".into()]),
            Envelope::Position,
            Envelope::Transfer(vec![(PartitionId { topic: TopicId(Uuid::from_u128(7)), partition: 3 }, NodeId(2))]),
            Envelope::Own(Bytes::from_static(b"frame")),
        ] {
            assert_eq!(Envelope::decode(envelope.encode()), Ok(envelope));
        }
        for answer in [
            Answer::Done { version: 7, result: Bytes::from_static(b"result") },
            Answer::NotController,
            Answer::NotAvailable,
            Answer::Close("why".into()),
        ] {
            assert_eq!(Answer::decode(answer.encode()), Ok(answer));
        }
    }

    #[test]
    fn what_is_cut_short_or_newer_is_refused() {
        let whole = Envelope::Topics(vec!["abc".into()]).encode();
        for cut in 0..whole.len() {
            assert!(Envelope::decode(whole.slice(..cut)).is_err(), "cut at {cut}");
        }
        assert!(Envelope::decode(Bytes::from_static(&[0, 9])).is_err());
        assert_eq!(Envelope::decode(Bytes::from_static(&[1, PRODUCER_IDS])), Err(EnvelopeError { version: 1 }));
        assert!(Answer::decode(Bytes::from_static(&[0, DONE, 0])).is_err());
        assert!(Answer::decode(Bytes::from_static(&[0, 9])).is_err());
    }

    #[test]
    fn a_long_text_is_cut_at_a_letter() {
        let answer = Answer::Close("\u{20ac}".repeat(40_000));
        let Ok(Answer::Close(reason)) = Answer::decode(answer.encode()) else { panic!("it decodes") };
        assert_eq!(reason.chars().count(), usize::from(u16::MAX) / 3);
    }
}
