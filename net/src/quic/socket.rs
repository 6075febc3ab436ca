//! The UDP socket, and what a connection may take before it is read or acknowledged.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use quinn::{TransportConfig, VarInt};

/// Buffers of the socket: with the kernel's own, bursts are lost (measured in DESIGN).
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// Without a packet for this long a connection is dead.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// Bytes that a peer may send ahead of what is read, in all and on one stream. Two bodies that wait
/// for two others and a paused stream of transactions leave room for votes.
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const STREAMS_MAX: u32 = 32;
/// Bytes that were sent to a peer and that it has not told of having: they lie in memory.
const SEND_WINDOW_BYTES: u64 = 4 * 1024 * 1024;

pub(super) fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_idle_timeout(IDLE_TIMEOUT.try_into().ok())
        .keep_alive_interval(Some(KEEP_ALIVE))
        .receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .datagram_receive_buffer_size(None);
    config
}

pub(super) fn socket(bind: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    let domain = socket2::Domain::for_address(bind);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    if bind.ip() == IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED) {
        // One socket for both families.
        socket.set_only_v6(false)?;
    }
    // Less is granted where the system allows less; it works all the same.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&bind.into())?;
    Ok(socket.into())
}
