//! L2: one place per outside program or service. Adapters know neither each other nor the store; `engine` joins them.

pub mod board;
pub mod forge;
pub mod git;
pub mod http;
pub mod probe;
pub mod scan;
pub mod store;
