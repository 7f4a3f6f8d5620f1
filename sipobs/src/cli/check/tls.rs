//! TLS to a daemon of this configuration: what answers there has the key of the certificate that it names.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};

use super::daemon::Timed;

/// Speaks TLS by `stream` with whoever has the key of `certificate`, and shows the certificate of `identity` to who asks
/// for one, with its key.
pub(super) fn over(
    stream: Timed,
    certificate: &Path,
    identity: Option<[&Path; 2]>,
) -> anyhow::Result<StreamOwned<ClientConnection, Timed>> {
    let pinned = CertificateDer::from_pem_file(certificate)
        .with_context(|| format!("metrics.certificate: {}", certificate.display()))?;
    let name = ServerName::from(stream.socket.peer_addr()?.ip());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(Pinned { pinned, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(verifier);
    let config = match identity {
        Some([certificate, key]) => {
            let chain = CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect);
            let chain = chain.with_context(|| format!("--certificate {}", certificate.display()))?;
            let wrong = || format!("--key {}", key.display());
            let private = PrivateKeyDer::from_pem_file(key).with_context(wrong)?;
            config.with_client_auth_cert(chain, private).with_context(wrong)?
        }
        None => config.with_no_client_auth(),
    };
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, stream))
}

/// Believes one certificate, whatever name it is for: the address that a daemon listens on is seldom in it.
#[derive(Debug)]
struct Pinned {
    pinned: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if *shown == self.pinned {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General("it shows another certificate than metrics.certificate".into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
