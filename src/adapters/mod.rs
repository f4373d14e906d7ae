//! L2: one place per outside program or service. Adapters know neither each other nor the store; `engine` joins them.
pub mod http;
pub mod store;

pub mod forge;
pub mod git;
pub mod scan;
