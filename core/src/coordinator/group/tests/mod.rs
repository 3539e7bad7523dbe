mod errors;
mod property;
mod script;
mod transactions;
mod world;
