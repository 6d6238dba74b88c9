//! `CONNECT 127.0.0.1:<port>`: a way to ports that a program opened on the sandbox's loopback only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{StatusCode, Uri};
use serde_json::json;
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::{self, Request, Response};
use crate::server::GuardedStream;

/// A loopback port answers or refuses at once; a full backlog is the only thing to wait for.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes under way in each direction of a tunnel (16 KiB), held for as long as it is open.
const BUFFER: usize = 16 * 1024;

/// Dials the port and answers 200, after which bytes pass both ways until both sides have ended theirs.
///
/// 400 for a target that is not the loopback address with a port, 502 when nothing listens.
pub async fn handle(request: Request) -> Response {
    let port = match target(request.uri()) {
        Ok(port) => port,
        Err(message) => return http::error(StatusCode::BAD_REQUEST, message),
    };
    match timeout(DIAL_TIMEOUT, dial(port)).await {
        Ok(Some(stream)) => {
            tokio::spawn(carry(hyper::upgrade::on(request), stream));
            http::status(StatusCode::OK)
        }
        Ok(None) | Err(_) => http::json(
            StatusCode::BAD_GATEWAY,
            &json!({"code": 502, "message": "port is not open", "port": port}),
        ),
    }
}

fn target(uri: &Uri) -> Result<u16, &'static str> {
    let authority = uri.authority().ok_or("the target must be an address and a port")?;
    let host = authority.host();
    let host = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if !loopback {
        return Err("only the loopback address can be reached: use 127.0.0.1");
    }
    authority
        .port_u16()
        .filter(|port| *port != 0)
        .ok_or("the target must name a port from 1 to 65535")
}

async fn dial(port: u16) -> Option<TcpStream> {
    for address in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        if let Ok(stream) = TcpStream::connect((address, port)).await {
            return Some(stream);
        }
    }
    None
}

async fn carry(upgrade: OnUpgrade, mut inner: TcpStream) {
    // A connection that breaks on either side ends the tunnel; both sides see it as a broken connection.
    let Ok(upgraded) = upgrade.await else { return };
    let Some((mut outer, early)) = unwrap(upgraded) else {
        return;
    };
    if inner.set_nodelay(true).is_err() || inner.write_all(&early).await.is_err() {
        return;
    }
    let _ = copy_bidirectional_with_sizes(&mut outer, &mut inner, BUFFER, BUFFER).await;
}

/// The bare socket, and what the client sent right behind its request.
fn unwrap(upgraded: Upgraded) -> Option<(TcpStream, bytes::Bytes)> {
    let parts = upgraded.downcast::<GuardedStream>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_ports_are_targets() {
        for (uri, expected) in [
            ("127.0.0.1:80", Some(80)),
            ("127.9.9.9:65535", Some(65535)),
            ("localhost:1", Some(1)),
            ("[::1]:8080", Some(8080)),
            ("10.0.0.1:80", None),
            ("169.254.169.254:80", None),
            ("0.0.0.0:80", None),
            ("[::]:80", None),
            ("localhost.evil.example:80", None),
            ("127.0.0.1:0", None),
            ("127.0.0.1:70000", None),
            ("127.0.0.1", None),
            ("/path", None),
        ] {
            let got = uri.parse::<Uri>().ok().and_then(|uri| target(&uri).ok());
            assert_eq!(got, expected, "{uri}");
        }
    }
}
