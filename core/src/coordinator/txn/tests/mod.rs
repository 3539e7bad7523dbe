mod property;
mod records;
mod script;
mod world;
