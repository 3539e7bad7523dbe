//! DescribeConfigs (32), AlterConfigs (33), IncrementalAlterConfigs (44) and ListConfigResources (74): settings of
//! topics, brokers, groups and client metrics subscriptions, and the levels of this node's log.

mod alter;
mod describe;
mod list;
mod loggers;
#[cfg(test)]
mod tests;

pub use alter::{handle_alter, handle_incremental, is_for_controller};
pub use describe::handle_describe;
pub use list::handle_list;
pub use loggers::LoggersError;
