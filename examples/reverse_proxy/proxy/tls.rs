//! Whom to trust, of the hosts that speak TLS.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, RootCertStore};

use super::config::{Error, Tls};

/// Where systems have the certificates that they trust.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// How TLS is spoken, as it is set.
///
/// # Errors
///
/// If the certificates to be trusted cannot be read, or there are none.
pub fn client(tls: &Tls) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new("", error))?;
    if tls.insecure {
        let trusting = Arc::new(Trusting(provider));
        let builder = builder.dangerous().with_custom_certificate_verifier(trusting);
        return Ok(builder.with_no_client_auth());
    }
    let system = || SYSTEM.iter().map(PathBuf::from).find(|path| path.exists());
    let Some(path) = tls.ca_file.clone().or_else(system) else {
        return Err(Error::new(
            "ca_file",
            format!("it is not said, and there is none of {SYSTEM:?}"),
        ));
    };
    let roots = roots(&path).map_err(|problem| {
        Error::new("ca_file", format!("it is {:?}: {problem}", path.display().to_string()))
    })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    for certificate in certificates {
        // A system has some that nobody can use.
        _ = roots.add(certificate.map_err(|error| error.to_string())?);
    }
    if roots.is_empty() {
        return Err("there is no certificate of an authority in it".to_owned());
    }
    Ok(roots)
}

/// Trusts anyone, but not that somebody else holds the key of a certificate.
#[derive(Debug)]
struct Trusting(Arc<CryptoProvider>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
