//! Numbers of Kafka and of raft. No conversion leads from one to another but the named bridges.

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
        pub struct $name(pub $inner);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Position of a record in its partition, from 0.
    Offset(i64)
);
number!(
    /// Position of an entry in a raft log, from 1. An entry is one record batch or one of raft's own.
    RaftIndex(u64)
);
number!(
    /// Raft's term, from 1. At most `i32::MAX - 1`, since it is also the leader epoch.
    RaftTerm(u64)
);
number!(
    /// Kafka's leader epoch: the raft term. -1 on the wire is "unknown".
    LeaderEpoch(i32)
);
number!(
    /// Node (broker) id, from 0.
    NodeId(i32)
);
number!(
    /// A replica's identity in raft, from 1, never used again.
    PeerId(u64)
);
number!(
    /// Producer id, from 0; -1 on the wire is "none".
    ProducerId(i64)
);
number!(
    /// Producer epoch, from 0.
    ProducerEpoch(i16)
);
number!(
    /// Sequence number of an idempotent producer, from 0, wraps after `i32::MAX` to 0.
    Sequence(i32)
);
number!(
    /// Milliseconds since 1970; -1 is "none" (`RecordBatch.NO_TIMESTAMP`).
    Timestamp(i64)
);

impl Offset {
    pub const ZERO: Self = Self(0);

    /// The offset `count` records on.
    pub fn plus(self, count: i64) -> Self {
        Self(self.0 + count)
    }
}

impl RaftIndex {
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl LeaderEpoch {
    /// The bridge from raft: the epoch of a term. A term beyond `i32::MAX - 1` was refused at the wire.
    pub fn of_term(term: RaftTerm) -> Self {
        Self(i32::try_from(term.0).expect("terms above i32::MAX are refused where they enter"))
    }

    /// The term of an epoch; of one that is unknown the first of all.
    pub fn term(self) -> RaftTerm {
        RaftTerm(u64::try_from(self.0).unwrap_or(0))
    }
}

impl Timestamp {
    pub const NONE: Self = Self(-1);

    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
}

impl Sequence {
    /// The sequence `count` records on, wrapping to 0 after `i32::MAX` (`DefaultRecordBatch.incrementSequence`).
    pub fn plus(self, count: i32) -> Self {
        let next = (i64::from(self.0) + i64::from(count)) % (i64::from(i32::MAX) + 1);
        Self(i32::try_from(next).expect("a remainder below 2^31"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_as_kafkas() {
        assert_eq!(Sequence(i32::MAX).plus(1), Sequence(0));
        assert_eq!(Sequence(i32::MAX - 1).plus(3), Sequence(1));
        assert_eq!(Sequence(5).plus(7), Sequence(12));
    }
}
