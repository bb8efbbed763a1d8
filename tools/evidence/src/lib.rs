//! What the campaigns on the real process share with `tests/it`: a server of one's own, the load that is put on it, the
//! books that are kept meanwhile, and the comparison afterwards.
//!
//! - [`server`]: a `riverlog serve` process that can be killed.
//! - [`load`]: everything that goes on while it is being killed, each with its own books.
//! - [`ledger`]: what was sent, acknowledged and seen, and whether a log agrees.
//! - [`reading`], [`patience`]: whole topics, and clients that wait for a server to come back.
//! - [`stretch`]: so many kills or power cuts under that load, and the comparison.
//! - [`faults`]: a disk that fails under that load, what the server says meanwhile, and the comparison.
//! - [`http`]: requests over HTTP.
//! - [`loop_disk`], [`fault_disk`]: a file system whose power can be cut, and one whose device fails.

pub mod fault_disk;
pub mod faults;
pub mod http;
pub mod ledger;
pub mod load;
pub mod loop_disk;
pub mod patience;
pub mod reading;
pub mod server;
pub mod stretch;
