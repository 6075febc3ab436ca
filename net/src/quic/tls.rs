//! Keys and TLS settings: TLS 1.3 only, raw public keys, no names and no authorities.

use std::sync::Arc;

use ait_engine::crypto::SecretKey;
use ait_engine::types::BlockId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use crate::limits::PROTOCOL_VERSION;
use crate::peer::PeerId;

/// What an Ed25519 key looks like as SubjectPublicKeyInfo and as PKCS #8 (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The name that is offered besides the chain's own, to hear what differs.
pub(super) const WHY: &[u8] = b"ait-why";

/// ALPN name of a chain: protocol version and genesis hash.
#[must_use]
pub fn alpn(genesis: &BlockId) -> Vec<u8> {
    format!("ait/{PROTOCOL_VERSION}/{}", hex::encode(genesis.0)).into_bytes()
}

/// The network key of this node.
#[derive(Clone)]
pub struct PeerKey {
    certified: Arc<CertifiedKey>,
    provider: Arc<CryptoProvider>,
    id: PeerId,
}

impl std::fmt::Debug for PeerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PeerKey").field(&self.id).finish()
    }
}

impl PeerKey {
    /// The key of this secret.
    ///
    /// # Errors
    /// When the TLS library does not take it.
    pub fn new(key: &SecretKey) -> Result<Self, Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let secret = key.seed();
        let pkcs8 = zeroize::Zeroizing::new([&PKCS8_PREFIX[..], &secret[..]].concat());
        let der = PrivatePkcs8KeyDer::from(pkcs8.as_slice());
        let signing = rustls::crypto::aws_lc_rs::sign::any_eddsa_type(&der)?;
        let id = PeerId::from(key.public_key());
        let spki = CertificateDer::from([&SPKI_PREFIX[..], &id.0].concat());
        let certified = Arc::new(CertifiedKey::new(vec![spki], signing));
        Ok(Self { certified, provider, id })
    }

    /// The id that goes with it.
    #[must_use]
    pub const fn id(&self) -> PeerId {
        self.id
    }

    pub(super) fn server_config(&self, genesis: &BlockId) -> Result<rustls::ServerConfig, Error> {
        let verifier = Arc::new(AnyPeer(Arc::clone(&self.provider), None));
        let resolver =
            rustls::server::AlwaysResolvesServerRawPublicKeys::new(self.certified.clone());
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![alpn(genesis), WHY.to_vec()];
        config.max_early_data_size = 0;
        // Each connection proves both keys anew, and no secret of one outlives it.
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    pub(super) fn client_config(
        &self,
        genesis: &BlockId,
        expected: PeerId,
    ) -> Result<rustls::ClientConfig, Error> {
        let verifier = Arc::new(AnyPeer(Arc::clone(&self.provider), Some(expected)));
        let resolver =
            rustls::client::AlwaysResolvesClientRawPublicKeys::new(self.certified.clone());
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![alpn(genesis), WHY.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

/// The peer of a raw public key.
pub(super) fn peer_of(key: &CertificateDer<'_>) -> Option<PeerId> {
    let bytes = key.strip_prefix(&SPKI_PREFIX)?;
    bytes.try_into().ok().map(PeerId)
}

/// Takes any Ed25519 key, or one: the key is the identity, and nothing else vouches for it.
#[derive(Debug)]
struct AnyPeer(Arc<CryptoProvider>, Option<PeerId>);

impl AnyPeer {
    fn check(&self, key: &CertificateDer<'_>) -> Result<(), Error> {
        let peer = peer_of(key).ok_or(CertificateError::BadEncoding)?;
        match self.1 {
            Some(expected) if expected != peer => {
                Err(Error::General(format!("the node there has the key {peer}")))
            }
            _ => Ok(()),
        }
    }

    fn verify(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
    }
}

fn never() -> Result<HandshakeSignatureValid, Error> {
    Err(Error::General("only TLS 1.3 is spoken".to_owned()))
}

impl ServerCertVerifier for AnyPeer {
    fn verify_server_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check(key).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        never()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for AnyPeer {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        key: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check(key).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        never()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify(message, key, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;
