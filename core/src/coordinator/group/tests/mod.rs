mod errors;
mod property;
mod script;
mod transactions;
pub(super) mod world;
