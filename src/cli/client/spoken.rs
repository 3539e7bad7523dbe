//! The requests that the command line speaks.

use kafka_protocol::protocol::{Request, VersionRange};

use crate::protocol::share_group_offsets::DescribeShareGroupOffsetsRequest;
use crate::protocol::streams_group::StreamsGroupDescribeRequest;
use crate::protocol::{Encode, RequestBody};

/// A request with the versions that we speak of it: every one of `kafka-protocol`, and ours beside it.
pub trait Spoken: RequestBody + Encode {
    const VERSIONS: VersionRange;
}

impl<T: Request> Spoken for T {
    /// Produce and Fetch stop before the versions that name topics by id only.
    const VERSIONS: VersionRange = match <T as Request>::KEY {
        0 | 1 if T::VERSIONS.max > 12 => VersionRange { min: T::VERSIONS.min, max: 12 },
        _ => T::VERSIONS,
    };
}

impl Spoken for StreamsGroupDescribeRequest {
    const VERSIONS: VersionRange = VersionRange { min: 0, max: 0 };
}

impl Spoken for DescribeShareGroupOffsetsRequest {
    const VERSIONS: VersionRange = VersionRange { min: 0, max: 1 };
}
