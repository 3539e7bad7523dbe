//! The wire protocol: from a frame to a typed request, and from a reply to the bytes that answer it.
//!
//! The messages are those of `kafka-protocol`. Ours are the guard that goes before its decoder, the codecs of Produce and
//! Fetch, which copy no records, and those of versions that it lacks. Nothing here knows what a request asks for.

#[cfg(test)]
pub(crate) mod allocated;
pub mod client;
pub mod decode;
pub mod encode;
pub mod fetch;
pub mod guard;
pub mod header;
pub mod key;
pub mod log_dirs;
pub mod offset_commit;
pub mod offset_fetch;
pub mod place;
pub mod produce;
mod reader;
pub mod response;
#[cfg(test)]
mod samples;
pub mod shape;
pub mod share_acknowledge;
pub mod share_fetch;
pub mod share_group_offsets;
pub mod share_state;
pub mod streams_group;
pub mod write_txn_markers;
mod writer;

pub use decode::{Decode, DecodeError, RequestBody, decode};
pub use encode::{Encode, EncodeError};
pub use header::{HeaderError, RequestHeader, decode_request_header};
pub use kafka_protocol::protocol::StrBytes;
pub use key::Key;
pub use place::{CurrentLeader, NodeEndpoint, TopicRef};
pub use reader::{Fault, Malformed};
pub use response::{FileRange, Part, Response, encode_response};
