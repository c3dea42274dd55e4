//! The sockets of the service: bound before anything else begins, shared by all its threads.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, lchown};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use server::{Certificate, CertificateFiles, Face, Listener};

use crate::config::{Doors, Listen};
use crate::{harden, owner};

/// A bound listener, before a thread takes a copy of it.
#[derive(Debug)]
enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// A listener, what it shows, and how it is spoken to.
#[derive(Debug)]
pub(crate) struct Door {
    socket: Socket,
    face: Face,
    tls: Option<CertificateFiles>,
}

/// The sockets; a socket file goes with them.
#[derive(Debug)]
pub(crate) struct Sockets {
    doors: Vec<Door>,
    socket_file: Option<PathBuf>,
}

/// An address that could not be had.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) address: String,
    pub(crate) error: io::Error,
}

impl Sockets {
    /// Binds what the settings name. A socket file belongs to whom the program is to become.
    pub(crate) fn bind(doors: &Doors, to_become: Option<(u32, u32)>) -> Result<Self, Taken> {
        let taken = |address: String| move |error| Taken { address, error };
        let socket = match &doors.private {
            Listen::Tcp(address) => Socket::Tcp(tcp(*address).map_err(taken(address.to_string()))?),
            Listen::Unix(path) => {
                Socket::Unix(unix(path, to_become).map_err(taken(doors.private.to_string()))?)
            }
        };
        let socket_file = match &doors.private {
            Listen::Unix(path) => Some(path.clone()),
            Listen::Tcp(_) => None,
        };
        let mut bound = vec![Door { socket, face: Face::Private, tls: doors.tls.clone() }];
        if let Some(address) = doors.public {
            let socket = Socket::Tcp(tcp(address).map_err(taken(address.to_string()))?);
            bound.push(Door { socket, face: Face::Public, tls: None });
        }
        Ok(Self { doors: bound, socket_file })
    }

    /// Copies of the sockets, for one thread.
    pub(crate) fn copies(&self) -> io::Result<Vec<Door>> {
        self.doors.iter().map(Door::copy).collect()
    }

    /// The certificate of the private listener.
    pub(crate) fn certificate_files(&self) -> Option<&CertificateFiles> {
        self.doors.iter().find_map(|door| door.tls.as_ref())
    }

    /// The address of the private listener, as a client writes it: the port is known only now where
    /// the settings leave it to the system.
    pub(crate) fn private_address(&self) -> Option<SocketAddr> {
        self.address(Face::Private)
    }

    /// The address of the public listener.
    pub(crate) fn public_address(&self) -> Option<SocketAddr> {
        self.address(Face::Public)
    }

    fn address(&self, face: Face) -> Option<SocketAddr> {
        self.doors.iter().find(|door| door.face == face).and_then(|door| match &door.socket {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            Socket::Unix(_) => None,
        })
    }
}

impl Door {
    fn copy(&self) -> io::Result<Self> {
        let socket = match &self.socket {
            Socket::Tcp(socket) => Socket::Tcp(socket.try_clone()?),
            Socket::Unix(socket) => Socket::Unix(socket.try_clone()?),
        };
        Ok(Self { socket, face: self.face, tls: self.tls.clone() })
    }

    /// The listener, within the runtime that is to use it. One that is to speak TLS does so with
    /// `certificate`, or not at all.
    pub(crate) fn listener(self, certificate: Option<Arc<Certificate>>) -> io::Result<(Listener, Face)> {
        let listener = match (self.socket, self.tls, certificate) {
            (Socket::Unix(socket), _, _) => Listener::Unix(tokio::net::UnixListener::from_std(socket)?),
            (Socket::Tcp(socket), None, _) => Listener::Tcp(tokio::net::TcpListener::from_std(socket)?),
            (Socket::Tcp(socket), Some(_), Some(certificate)) => {
                Listener::Tls(tokio::net::TcpListener::from_std(socket)?, certificate)
            }
            (Socket::Tcp(_), Some(_), None) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        Ok((listener, self.face))
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if let Some(path) = &self.socket_file {
            // Whoever comes next would find it dead and take it away as well.
            let _ = fs::remove_file(path);
        }
    }
}

fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpListener::bind(address)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Whether nobody listens at a socket file. One that is not ours to try is somebody's.
fn is_dead(path: &Path) -> bool {
    UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// A socket file for the owner and the group. One that nobody listens at is taken away first.
fn unix(path: &Path, to_become: Option<(u32, u32)>) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() && is_dead(path) => fs::remove_file(path)?,
        Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let socket = bound(path, to_become)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn bound(path: &Path, to_become: Option<(u32, u32)>) -> io::Result<UnixListener> {
    let bind = || harden::for_the_group_too(|| UnixListener::bind(path));
    let Some((user, group)) = to_become else { return bind() };
    match owner::acting_as(user, group, bind)? {
        // A folder of root's, as /run is: what root makes there is given away.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let socket = bind()?;
            lchown(path, Some(user), Some(group))?;
            Ok(socket)
        }
        bound => bound,
    }
}
