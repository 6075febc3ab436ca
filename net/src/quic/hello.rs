//! The beginning of a connection: who is it, and is it of our chain?

use std::time::Duration;

use ait_engine::codec::Canonical;
use quinn::{Connection, RecvStream, SendStream};

use super::frames;
use super::link::CONTROL;
use super::tls::{WHY, peer_of};
use crate::limits::HELLO_BYTES_MAX;
use crate::message::Hello;
use crate::peer::PeerId;

/// How long the other side has to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a refused peer has to read why.
const WHY_TIMEOUT: Duration = Duration::from_millis(500);

/// A connection whose hellos agree.
pub(super) struct Greeted {
    pub(super) peer: PeerId,
    pub(super) hello: Hello,
    pub(super) control_out: SendStream,
    pub(super) control_in: RecvStream,
}

/// The peer at the other end, by the key that it proved.
pub(super) fn peer(connection: &Connection) -> Option<PeerId> {
    let identity = connection.peer_identity()?;
    let keys = identity.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().ok()?;
    keys.first().and_then(peer_of)
}

/// Says hello, hears it, and compares.
pub(super) async fn greet(connection: &Connection, ours: &Hello) -> Result<Greeted, String> {
    let peer = peer(connection).ok_or("it proved no key")?;
    let exchanged = tokio::time::timeout(HELLO_TIMEOUT, exchange(connection, ours)).await;
    let (control_out, control_in, hello) =
        exchanged.map_err(|_| "it said no hello in time".to_owned())??;
    let data = connection.handshake_data();
    let data = data.and_then(|data| data.downcast::<quinn::crypto::rustls::HandshakeData>().ok());
    let asks_why = data.and_then(|data| data.protocol).is_none_or(|name| name == WHY);
    match ours.check(&hello) {
        Ok(()) if !asks_why => Ok(Greeted { peer, hello, control_out, control_in }),
        Ok(()) => Err("its protocol is another".to_owned()),
        Err(mismatch) => {
            // The other side finds the same from our hello; give it time to read it.
            let _ = tokio::time::timeout(WHY_TIMEOUT, connection.closed()).await;
            Err(mismatch.to_string())
        }
    }
}

async fn exchange(
    connection: &Connection,
    ours: &Hello,
) -> Result<(SendStream, RecvStream, Hello), String> {
    let lost = |error: String| format!("the connection was lost: {error}");
    let mut out = connection.open_uni().await.map_err(|error| lost(error.to_string()))?;
    let _ = out.set_priority(2);
    out.write_all(&[CONTROL]).await.map_err(|error| lost(error.to_string()))?;
    frames::write(&mut out, &ours.encode()).await.map_err(|error| lost(error.to_string()))?;
    let mut control = connection.accept_uni().await.map_err(|error| lost(error.to_string()))?;
    let mut kind = [0];
    control.read_exact(&mut kind).await.map_err(|error| lost(error.to_string()))?;
    if kind != [CONTROL] {
        return Err("its first stream is not the control stream".to_owned());
    }
    let bytes = frames::read(&mut control, HELLO_BYTES_MAX).await.map_err(|e| e.to_string())?;
    let hello = Hello::decode(&bytes).map_err(|error| format!("its hello: {error}"))?;
    Ok((out, control, hello))
}
