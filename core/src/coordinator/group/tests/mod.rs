mod errors;
mod property;
mod script;
mod world;
