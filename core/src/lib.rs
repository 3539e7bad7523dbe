//! The rules of the broker.
