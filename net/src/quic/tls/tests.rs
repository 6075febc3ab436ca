#![allow(clippy::unwrap_used)]
use std::io::{Read, Write};

use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, ServerConnection};

use super::*;

fn key(seed: u8) -> PeerKey {
    PeerKey::new(&SecretKey::from_seed([seed; 32])).unwrap()
}

fn genesis(byte: u8) -> BlockId {
    BlockId([byte; 32])
}

/// Lets both sides say what they have to say, without a network.
fn shake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let mut client = ClientConnection::new(client, ServerName::try_from("ait").unwrap())?;
    let mut server = ServerConnection::new(server)?;
    let mut wire = Vec::new();
    for _ in 0..8 {
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        wire.clear();
        server.process_new_packets()?;
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        wire.clear();
        client.process_new_packets()?;
    }
    // What comes after the handshake, tickets among it, is read with the data.
    server.writer().write_all(b"welcome").unwrap();
    server.write_tls(&mut wire).unwrap();
    client.read_tls(&mut wire.as_slice()).unwrap();
    client.process_new_packets()?;
    let mut said = [0; 7];
    client.reader().read_exact(&mut said).unwrap();
    Ok((client, server))
}

#[test]
fn both_keys_are_proven_in_tls_1_3() {
    let server = Arc::new(key(1).server_config(&genesis(7)).unwrap());
    let client = Arc::new(key(2).client_config(&genesis(7), key(1).id()).unwrap());
    let (client, server) = shake(client, server).unwrap();
    assert_eq!(server.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(server.alpn_protocol(), Some(alpn(&genesis(7)).as_slice()));
    let proven = |keys: Option<&[CertificateDer<'_>]>| peer_of(&keys.unwrap()[0]).unwrap();
    assert_eq!(proven(server.peer_certificates()), key(2).id());
    assert_eq!(proven(client.peer_certificates()), key(1).id());
}

#[test]
fn no_session_is_resumed_and_no_data_comes_early_whatever_a_client_asks() {
    let server = Arc::new(key(1).server_config(&genesis(7)).unwrap());
    let mut asking = key(2).client_config(&genesis(7), key(1).id()).unwrap();
    asking.resumption = Resumption::in_memory_sessions(8);
    asking.enable_early_data = true;
    let asking = Arc::new(asking);
    for _ in 0..2 {
        let (mut client, server) = shake(asking.clone(), server.clone()).unwrap();
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(client.tls13_tickets_received(), 0);
        assert!(client.early_data().is_none());
    }
}

#[test]
fn who_proves_no_key_is_refused() {
    let server = Arc::new(key(1).server_config(&genesis(7)).unwrap());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut silent = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyPeer(provider, None)))
        .with_no_client_auth();
    silent.alpn_protocols = vec![alpn(&genesis(7))];
    assert!(shake(Arc::new(silent), server).is_err());
}

#[test]
fn another_key_or_another_chain_is_refused() {
    let server = |chain| {
        let mut config = key(1).server_config(&genesis(chain)).unwrap();
        // The name that both know is there to say why, in a hello of its own.
        config.alpn_protocols.truncate(1);
        Arc::new(config)
    };
    let client =
        |chain, expected| Arc::new(key(2).client_config(&genesis(chain), expected).unwrap());
    assert!(shake(client(7, key(1).id()), server(7)).is_ok());
    assert!(shake(client(7, key(3).id()), server(7)).is_err());
    let mut other = key(2).client_config(&genesis(8), key(1).id()).unwrap();
    other.alpn_protocols.truncate(1);
    assert!(shake(Arc::new(other), server(7)).is_err());
}
