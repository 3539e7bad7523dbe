//! A streams group: all that its records say, and indexes over it.

/// The state as clients are told it (`StreamsGroup.StreamsGroupState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamsState {
    Empty,
    /// Topics are missing, or do not fit the topology.
    NotReady,
    /// A target assignment is to be computed.
    Assigning,
    /// Members are on their way to it.
    Reconciling,
    Stable,
}

impl StreamsState {
    pub const ALL: [Self; 5] = [Self::Empty, Self::NotReady, Self::Assigning, Self::Reconciling, Self::Stable];

    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::NotReady => "NotReady",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::Stable => "Stable",
        }
    }
}
