//! L2: one place per outside program or service. Adapters know neither each other nor the store; `engine` connects
//! them. `process`, `sentinel`, `locks`, `files`, `modes` and `disk` wrap the kernel and the file system, `net` the
//! network: the others build on them.

pub mod accounts;
pub mod board;
pub mod caches;
pub mod child;
pub mod confine;
pub mod disk;
pub mod environment;
pub mod executor;
pub mod files;
pub mod forge;
pub mod git;
pub mod github;
pub mod handed;
pub mod http;
pub mod locks;
pub mod modes;
pub mod net;
pub mod notify;
pub mod pager;
pub mod probe;
pub mod process;
pub mod runtime;
pub mod scan;
pub mod sentinel;
pub mod site;
pub mod store;
pub mod toolbox;
