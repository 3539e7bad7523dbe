//! The sockets between nodes. The one place that knows what runs below the frames: TLS will be another `Stream`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;

use crate::config::HostPort;

/// A connection between two nodes.
pub(super) type Stream = TcpStream;

/// How long an idle connection is trusted, and how far apart the probes are, in seconds.
const KEEPALIVE_SECONDS: u32 = 1;
/// Probes without an answer after which a connection is given up.
const KEEPALIVE_PROBES: u32 = 3;
/// How long sent bytes may stay without an answer, milliseconds. A host that is gone is told by its heartbeats before;
/// this is for connections that nobody watches. Longer than a disk may hold up a reader.
const UNANSWERED_MS_MAX: u32 = 10_000;

/// Takes the port. An empty host is every address. Host names are looked up.
pub(super) fn listen(address: &HostPort) -> io::Result<std::net::TcpListener> {
    let listener = match address.host.as_str() {
        // Both families where the system has both.
        "" => std::net::TcpListener::bind(("::", address.port))
            .or_else(|_| std::net::TcpListener::bind(("0.0.0.0", address.port)))?,
        host => {
            let addresses: Vec<SocketAddr> = (host, address.port).to_socket_addrs()?.collect();
            std::net::TcpListener::bind(&addresses[..])?
        }
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Connects within `patience`.
pub(super) async fn connect(address: &HostPort, patience: Duration) -> io::Result<Stream> {
    let connect = TcpStream::connect((address.host.as_str(), address.port));
    let stream = tokio::time::timeout(patience, connect).await.map_err(|_| io::ErrorKind::TimedOut)??;
    tune(&stream)?;
    Ok(stream)
}

/// For what is dialled and what is accepted.
pub(super) fn tune(stream: &Stream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &KEEPALIVE_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &KEEPALIVE_SECONDS)?;
    setsockopt(stream, sockopt::TcpKeepCount, &KEEPALIVE_PROBES)?;
    setsockopt(stream, sockopt::TcpUserTimeout, &UNANSWERED_MS_MAX)?;
    Ok(())
}
