//! Opening the listeners. Done before anything else is started, so that a port in use ends a start at once.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};

use super::config::NetConfig;
use crate::config::{HostPort, Listener};

/// A listener whose port is ours.
pub struct Bound {
    pub(super) socket: TcpListener,
    /// As configured, with the ports that were bound where port 0 was asked for.
    pub listener: Arc<Listener>,
    /// What the system says we listen on.
    pub address: SocketAddr,
}

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listener {name}: cannot listen on {address}: {error}")]
pub struct BindError {
    pub name: String,
    pub address: HostPort,
    pub error: io::Error,
}

/// Binds all listeners or none. Needs a runtime to be entered. Host names are looked up.
pub fn bind(listeners: &[Listener], config: &NetConfig) -> Result<Vec<Bound>, BindError> {
    listeners
        .iter()
        .map(|listener| {
            let failed = |error| BindError { name: listener.name.clone(), address: listener.bind.clone(), error };
            let socket = listen(&listener.bind, config).map_err(failed)?;
            let address = socket.local_addr().map_err(failed)?;
            let mut listener = listener.clone();
            listener.bind.port = address.port();
            if listener.advertised.port == 0 {
                listener.advertised.port = address.port();
            }
            Ok(Bound { socket, listener: Arc::new(listener), address })
        })
        .collect()
}

/// An empty host is every address of both families, or of IPv4 where the system has no other.
fn listen(bind: &HostPort, config: &NetConfig) -> io::Result<TcpListener> {
    if bind.host.is_empty() {
        let any = |host: &str| format!("{host}:{}", bind.port).parse::<SocketAddr>().map_err(io::Error::other);
        return listen_on(any("[::]")?, config).or_else(|e| match e.kind() {
            io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied => Err(e),
            _ => listen_on(any("0.0.0.0")?, config),
        });
    }
    let mut last = io::Error::other("the host has no address");
    for address in (bind.host.as_str(), bind.port).to_socket_addrs()? {
        match listen_on(address, config) {
            Ok(socket) => return Ok(socket),
            Err(e) => last = e,
        }
    }
    Err(last)
}

fn listen_on(address: SocketAddr, config: &NetConfig) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // A node that was killed comes back to its port while old connections linger.
    socket.set_reuseaddr(true)?;
    // Accepted connections inherit the sizes, and only so the window is negotiated by them.
    if let Some(bytes) = config.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(bytes) = config.send_buffer_bytes {
        socket.set_send_buffer_size(bytes)?;
    }
    socket.bind(address)?;
    socket.listen(config.backlog)
}
