//! The one thing that the host sees of the cluster's network: a loopback port that leads to the API
//! server.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Leads every connection of `listener`, which is in the host's network, to `target`, which is in ours.
/// A socket stays in the network in which it was made, so no more is needed.
pub(crate) fn start(listener: TcpListener, target: SocketAddr) {
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || {
                // A client of a server that is not there sees a closed connection, as it should.
                connect(&client, target).unwrap_or_default();
            });
        }
    });
}

fn connect(client: &TcpStream, target: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    let upload = thread::spawn(move || {
        io::copy(&mut from_client, &mut to_server).ok();
        to_server.shutdown(Shutdown::Write).unwrap_or_default();
    });
    let (mut from_server, mut to_client) = (server, client.try_clone()?);
    io::copy(&mut from_server, &mut to_client).ok();
    client.shutdown(Shutdown::Both).unwrap_or_default();
    from_server.shutdown(Shutdown::Both).unwrap_or_default();
    upload.join().unwrap_or_default();
    Ok(())
}
