//! TLS (rustls): certificates and settings of the listeners, who a client's certificate says it is, and how all that is
//! renewed while the node runs. The connections themselves are `net`'s.

mod certificates;
mod principal;
mod settings;

pub use settings::{TlsError, TlsListener, TlsListeners};
