//! The HTTP server to compare with: hyper on glommio, one constant body, no routes, tokens, rooms or deadlines.
//!
//! It shows what any server built on these libraries costs before it does any work. It ends when its standard input
//! ends, so that it never outlives the bench that started it.

use std::convert::Infallible;
use std::io::{self, Read as _, Write as _};
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_io::{AsyncRead, AsyncWrite};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};

const READ_BYTES_MAX: usize = 8192;

/// Answers every request with a body of this many bytes.
pub fn serve(bytes: usize) -> io::Result<()> {
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    // The process that starts this one decides on which cores it runs.
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make()?;
    executor.run(accept(Bytes::from(vec![b'x'; bytes])))
}

async fn accept(body: Bytes) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut output = io::stdout();
    writeln!(output, "listening on {}", listener.local_addr()?)?;
    output.flush()?;
    // The tasks are kept until the end, because the bench opens few connections.
    let mut connections = Vec::new();
    loop {
        let stream = listener.accept().await?;
        stream.set_nodelay(true)?;
        let body = body.clone();
        connections.push(glommio::spawn_local(async move {
            let answering = service_fn(|request| answer(request, body.clone()));
            // If a connection fails, the client notices, because it checks every answer.
            let _ = http1::Builder::new().header_read_timeout(None).serve_connection(Stream(stream), answering).await;
        }));
    }
}

/// An answer with the same headers as Stentor's answers.
async fn answer<T>(_: Request<T>, body: Bytes) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut answer = Response::new(Full::new(body));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store, no-cache, must-revalidate"));
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    Ok(answer)
}

/// A glommio socket as hyper sees it.
struct Stream(TcpStream);

impl Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = buffer.remaining().min(READ_BYTES_MAX);
        let mut bytes = [0; READ_BYTES_MAX];
        let read = ready!(Pin::new(&mut self.0).poll_read(context, &mut bytes[..room]))?;
        buffer.put_slice(&bytes[..read]);
        Poll::Ready(Ok(()))
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(context)
    }
}
