//! Kafka's error codes for the errors of the rooms below. They are chosen here and nowhere else, by matches without
//! `_`, so that a new error cannot be forgotten.
