//! TLS for the private listener: a certificate that is read anew when its files change.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::auth::held;
use crate::house::CertificateFiles;

/// The newest certificate that could be read, and when its files had changed; none before the first.
#[derive(Clone, Default)]
pub(crate) struct InUse(Arc<Mutex<Option<(ChangedAt, TlsAcceptor)>>>);

/// When the certificate and the key were written; none where one of them is not there.
type ChangedAt = Option<[SystemTime; 2]>;

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InUse")
    }
}

/// Accepts TLS connections with the certificate in use, which all listeners have in common.
pub(crate) struct Acceptor {
    files: CertificateFiles,
    first: TlsAcceptor,
}

impl Acceptor {
    /// Reads the files.
    pub(crate) fn read(files: &CertificateFiles) -> io::Result<Self> {
        let mut in_use = held(&files.in_use.0);
        let first = match &*in_use {
            Some((_, acceptor)) => acceptor.clone(),
            None => {
                let (changed_at, first) = (changed_at(files), acceptor(files)?);
                *in_use = Some((changed_at, first.clone()));
                first
            }
        };
        Ok(Self { files: files.clone(), first })
    }

    /// The acceptor of now. New files that can't be used leave the old certificate in place.
    pub(crate) fn current(&self) -> TlsAcceptor {
        let now = changed_at(&self.files);
        let mut in_use = held(&self.files.in_use.0);
        let (read_at, current) = in_use.get_or_insert_with(|| (now, self.first.clone()));
        if now != *read_at {
            *read_at = now;
            match acceptor(&self.files) {
                Ok(new) => {
                    tracing::info!("the certificate was read anew");
                    *current = new;
                }
                Err(error) => tracing::warn!(%error, "the new certificate can't be used; the old one stays"),
            }
        }
        current.clone()
    }
}

/// Checks that the files can be used.
pub fn check_certificate(files: &CertificateFiles) -> io::Result<()> {
    acceptor(files).map(drop)
}

fn changed_at(files: &CertificateFiles) -> ChangedAt {
    let of = |path: &Path| fs::metadata(path).and_then(|found| found.modified()).ok();
    Some([of(&files.certificate)?, of(&files.key)?])
}

fn acceptor(files: &CertificateFiles) -> io::Result<TlsAcceptor> {
    let odd = |path: &Path, error: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
    };
    for path in [&files.certificate, &files.key] {
        // Whoever reads from a pipe or a device waits for ever.
        if !fs::metadata(path).map_err(|error| odd(path, &error))?.is_file() {
            return Err(odd(path, &"it is no regular file"));
        }
    }
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| odd(&files.certificate, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| odd(&files.key, &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| odd(&files.certificate, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
