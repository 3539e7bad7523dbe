//! TLS (rustls): certificates and settings of the listeners, who a client's certificate says it is, and how all that is
//! renewed while the node runs; the same for a client. The connections themselves are `net`'s and the command line's.

mod certificates;
mod client;
mod principal;
mod settings;

pub use client::ClientTls;
pub use settings::{TlsError, TlsListener, TlsListeners};
