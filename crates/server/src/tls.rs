//! TLS for the private listener: a certificate that is read anew when its files change.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::auth::held;
use crate::house::CertificateFiles;

/// The newest certificate that could be read, for all threads of a listener.
pub struct Certificate {
    files: CertificateFiles,
    current: Mutex<Current>,
}

/// What is in use.
struct Current {
    acceptor: TlsAcceptor,
    /// The files that it was read from.
    stamp: Stamp,
    /// Newer files that could not be used, and when that was tried.
    unfit: Option<(Stamp, Instant)>,
}

/// Tells one state of both files from another, who may read them included; none where one of them is
/// not there.
type Stamp = Option<[(u64, i64, i64); 2]>;

/// New files that can't be used may be half written: they are tried again after this long.
const TRY_EVERY: Duration = Duration::from_secs(1);

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

impl Certificate {
    /// Reads the files. An error means that they can't be used.
    pub fn read(files: &CertificateFiles) -> io::Result<Self> {
        let stamp = stamp(files);
        let current = Current { acceptor: acceptor(files)?, stamp, unfit: None };
        Ok(Self { files: files.clone(), current: Mutex::new(current) })
    }

    /// Accepts connections with the certificate of now. New files that can't be used leave the old one
    /// in place.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let now = stamp(&self.files);
        let mut current = held(&self.current);
        let known = current.unfit.is_some_and(|(stamp, at)| stamp == now && at.elapsed() < TRY_EVERY);
        if now != current.stamp && !known {
            match acceptor(&self.files) {
                Ok(acceptor) => {
                    tracing::info!("the certificate was read anew");
                    *current = Current { acceptor, stamp: now, unfit: None };
                }
                Err(error) => {
                    tracing::warn!(%error, "the new certificate can't be used; the old one stays");
                    current.unfit = Some((now, Instant::now()));
                }
            }
        }
        current.acceptor.clone()
    }
}

fn stamp(files: &CertificateFiles) -> Stamp {
    let of =
        |path: &Path| fs::metadata(path).map(|found| (found.ino(), found.ctime(), found.ctime_nsec())).ok();
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
