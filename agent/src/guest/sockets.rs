//! `GET /atoll/v1/sockets`: whether a socket here needs the address that the sandbox has now.
//!
//! A guest restored from a saved memory may get another address. Connections have ended by then, but a UDP socket that
//! is bound or connected from the old address, and a server that listens on it and not on every address, would stay
//! with an address that is nobody's.

use std::{fs, io};

use hyper::StatusCode;
use serde::Serialize;

use crate::http::{self, Response};

/// States of TCP sockets that are no connections: bound to an address, and listening on it.
const UNCONNECTED: [&str; 2] = ["07", "0A"];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sockets {
    need_address: bool,
}

/// Answers with `{needAddress}`; true also when the kernel does not tell.
pub fn handle() -> Response {
    let need_address = need_address(|table| fs::read_to_string(format!("/proc/self/net/{table}")));
    http::json(StatusCode::OK, &Sockets { need_address })
}

fn need_address(read: impl Fn(&str) -> io::Result<String>) -> bool {
    [
        ("udp", true),
        ("udp6", false),
        ("raw", false),
        ("tcp", true),
        ("tcp6", false),
    ]
    .iter()
    .any(|&(table, required)| match read(table) {
        Ok(text) => text.lines().skip(1).any(|line| is_tied(line, table.starts_with("tcp"))),
        Err(_) => required,
    })
}

/// Whether a line of such a table is of a socket that has one address of its own, other than a loopback one.
fn is_tied(line: &str, tcp: bool) -> bool {
    let mut fields = line.split_whitespace().skip(1);
    let (Some(local), Some(_), Some(state)) = (fields.next(), fields.next(), fields.next()) else {
        return !line.trim().is_empty();
    };
    if tcp && !UNCONNECTED.contains(&state) {
        return false;
    }
    let Some((address, _port)) = local.split_once(':') else {
        return true;
    };
    !is_anywhere(address)
}

/// Whether it is the address of every interface, or of the loopback one: as hexadecimal words, each with its bytes in
/// the machine's order.
fn is_anywhere(address: &str) -> bool {
    let bytes: Vec<u8> = (0..address.len() / 8)
        .filter_map(|word| u32::from_str_radix(&address[word * 8..word * 8 + 8], 16).ok())
        .flat_map(u32::to_ne_bytes)
        .collect();
    if let Ok(four) = <[u8; 4]>::try_from(bytes.as_slice()) {
        let address = std::net::Ipv4Addr::from(four);
        return address.is_loopback() || address.is_unspecified();
    }
    let Ok(sixteen) = <[u8; 16]>::try_from(bytes.as_slice()) else {
        return false;
    };
    let address = std::net::Ipv6Addr::from(sixteen);
    address
        .to_ipv4_mapped()
        .map_or(address.is_loopback() || address.is_unspecified(), |four| {
            four.is_loopback() || four.is_unspecified()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn told(table: &str, line: &str) -> bool {
        need_address(|asked| {
            if asked == table {
                Ok(format!(
                    "{HEAD}   0: {line} 00000000:00000000 00:00000000 00000000     0        0 7\n"
                ))
            } else {
                Ok(HEAD.to_owned())
            }
        })
    }

    #[test]
    fn tells_sockets_with_an_address_of_their_own() {
        for (table, line, expected) in [
            ("udp", "00000000:0035 00000000:0000 07", false),
            ("udp", "0100007F:0035 0100007F:1F90 01", false),
            ("udp", "020012C6:C350 08080808:0035 01", true),
            ("udp", "020012C6:C350 00000000:0000 07", true),
            (
                "udp6",
                "00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 07",
                false,
            ),
            (
                "udp6",
                "00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07",
                false,
            ),
            (
                "udp6",
                "0000000000000000FFFF0000020012C6:C350 0000000000000000FFFF000008080808:0035 01",
                true,
            ),
            (
                "udp6",
                "0000000000000000FFFF00000100007F:C350 0000000000000000FFFF00000100007F:0035 01",
                false,
            ),
            ("tcp", "020012C6:C350 08080808:01BB 01", false),
            ("tcp", "020012C6:1F90 00000000:0000 0A", true),
            ("tcp", "020012C6:1F90 00000000:0000 07", true),
            ("tcp", "00000000:1F90 00000000:0000 0A", false),
            (
                "tcp6",
                "0000000000000000FFFF0000020012C6:1F90 00000000000000000000000000000000:0000 0A",
                true,
            ),
            ("raw", "020012C6:0001 08080808:0000 01", true),
            ("udp", "nonsense", true),
        ] {
            assert_eq!(told(table, line), expected, "{table} {line}");
        }
    }

    #[test]
    fn a_table_that_cannot_be_read_counts_where_linux_always_has_it() {
        let missing = |lacking: &'static str| {
            need_address(move |table| {
                if table == lacking {
                    Err(io::ErrorKind::NotFound.into())
                } else {
                    Ok(HEAD.to_owned())
                }
            })
        };
        assert!(missing("udp") && missing("tcp"));
        assert!(!missing("udp6") && !missing("raw"));
    }
}
