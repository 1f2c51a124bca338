//! A thread-per-connection HTTP server that can stop listening and start again on the same port.

use crate::http::{Request, Response, read_request, write_response};
use crate::system;
use std::collections::HashMap;
use std::io::{self, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

type Handler = dyn Fn(&Request) -> Response + Send + Sync;

struct Inner {
    name: &'static str,
    handler: Box<Handler>,
    state: Mutex<State>,
    idle: Condvar,
}

#[derive(Default)]
struct State {
    listener: Option<Arc<TcpListener>>,
    connections: HashMap<u64, Arc<TcpStream>>,
    next: u64,
}

/// The server of one role.
#[derive(Clone)]
pub(crate) struct Server {
    addr: SocketAddr,
    inner: Arc<Inner>,
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Binds and starts to answer.
    pub(crate) fn start(
        name: &'static str,
        addr: SocketAddr,
        handler: impl Fn(&Request) -> Response + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(addr)?;
        let addr = listener.local_addr()?;
        let inner = Inner { name, handler: Box::new(handler), state: Mutex::default(), idle: Condvar::new() };
        let server = Self { addr, inner: Arc::new(inner) };
        server.accept_on(listener)?;
        Ok(server)
    }

    /// Where it listens.
    pub(crate) const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Refuses new connections and ends the open ones.
    pub(crate) fn close(&self) {
        let mut state = self.inner.lock();
        if let Some(listener) = state.listener.take() {
            // It only fails for a socket that does not listen any more, which is what is wanted.
            let _ = system::stop_listening(&listener);
        }
        for connection in state.connections.values() {
            let _ = connection.shutdown(Shutdown::Read);
        }
    }

    /// Listens again after [`Server::close`].
    pub(crate) fn open(&self) -> io::Result<()> {
        if self.inner.lock().listener.is_some() {
            return Ok(());
        }
        self.accept_on(TcpListener::bind(self.addr)?)
    }

    /// Closes, and waits for requests that are being answered.
    pub(crate) fn finish(&self, patience: Duration) {
        self.close();
        let state = self.inner.lock();
        drop(self.inner.idle.wait_timeout_while(state, patience, |s| !s.connections.is_empty()));
    }

    fn accept_on(&self, listener: TcpListener) -> io::Result<()> {
        let listener = Arc::new(listener);
        self.inner.lock().listener = Some(Arc::clone(&listener));
        let inner = Arc::clone(&self.inner);
        thread::Builder::new().name(format!("{}-accept", self.inner.name)).spawn(move || {
            accept_loop(&inner, &listener);
        })?;
        Ok(())
    }
}

fn accept_loop(inner: &Arc<Inner>, listener: &Arc<TcpListener>) {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                if let Err(error) = serve(inner, stream) {
                    complain(inner.name, "cannot start a thread", &error);
                }
            }
            Err(error) => {
                let ours = inner.lock().listener.as_ref().is_some_and(|l| Arc::ptr_eq(l, listener));
                if !ours {
                    return;
                }
                // EMFILE and the like pass when connections end; asking again at once would only burn CPU.
                complain(inner.name, "accept", &error);
                thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

fn serve(inner: &Arc<Inner>, stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = Arc::new(stream);
    let id = {
        let mut state = inner.lock();
        state.next += 1;
        let id = state.next;
        state.connections.insert(id, Arc::clone(&stream));
        id
    };
    let worker = Arc::clone(inner);
    let spawned = thread::Builder::new().name(format!("{}-{id}", inner.name)).spawn(move || {
        let _open = Open { inner: &worker, id };
        // A client that goes away is not this server's failure.
        let _ = answer_all(&worker, &stream);
    });
    spawned.map(drop).inspect_err(|_| {
        inner.lock().connections.remove(&id);
    })
}

/// Takes a connection off the list when its thread ends, however it ends: the list would keep the socket open.
struct Open<'a> {
    inner: &'a Inner,
    id: u64,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.inner.lock().connections.remove(&self.id);
        self.inner.idle.notify_all();
    }
}

fn answer_all(inner: &Inner, stream: &TcpStream) -> io::Result<()> {
    let mut input = BufReader::new(stream);
    while let Some(request) = read_request(&mut input)? {
        let mut response = (inner.handler)(&request);
        response.close |= request.close;
        write_response(&mut &*stream, &response)?;
        if response.close {
            break;
        }
    }
    Ok(())
}

/// Says what went wrong in the role's log: its standard error. A full disk must not end the role, so what cannot be
/// written is left unsaid.
pub(crate) fn complain(role: &str, what: &str, error: &dyn std::fmt::Display) {
    let _ = io::stderr().write_all(format!("{role}: {what}: {error}\n").as_bytes());
}
