//! Which content coding a request asks for or carries: gzip or none.

/// A content coding the agent speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// Bytes as they are.
    Identity,
    /// gzip (RFC 1952).
    Gzip,
}

/// The request named no coding the agent can serve or read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CodingError {
    /// `Accept-Encoding` refuses identity and names nothing known (HTTP 406).
    #[error("no acceptable encoding found, supported: [gzip identity]")]
    NotAcceptable,
    /// An unknown `Content-Encoding` (HTTP 400).
    #[error("unsupported Content-Encoding: {0}, supported: [gzip identity]")]
    Unsupported(String),
}

/// Chooses the response's coding from `Accept-Encoding`: the known coding with the highest weight,
/// the first named among equals. Identity is always acceptable unless its weight, or that of `*`
/// without identity named, is 0.
///
/// # Errors
/// [`CodingError::NotAcceptable`].
pub fn accept(header: Option<&str>) -> Result<Coding, CodingError> {
    let offers = offers(header);
    let identity_refused = refuses_identity(&offers);
    let mut best: Option<(Coding, f32)> = None;
    for (name, weight) in &offers {
        let coding = match name.as_str() {
            "gzip" | "x-gzip" => Coding::Gzip,
            "identity" => Coding::Identity,
            "*" if identity_refused => Coding::Gzip,
            "*" => Coding::Identity,
            _ => continue,
        };
        if *weight > best.map_or(0.0, |(_, top)| top) {
            best = Some((coding, *weight));
        }
    }
    match best {
        Some((coding, _)) => Ok(coding),
        None if identity_refused => Err(CodingError::NotAcceptable),
        None => Ok(Coding::Identity),
    }
}

/// Whether the client asked for gzip on purpose: it is the only coding named, or identity is refused.
/// HTTP libraries that list all they can read on every request express no wish.
pub fn insists_on_gzip(header: Option<&str>) -> bool {
    let offers = offers(header);
    let others = offers
        .iter()
        .any(|(name, _)| !matches!(name.as_str(), "gzip" | "x-gzip"));
    !offers.is_empty() && (!others || refuses_identity(&offers))
}

fn offers(header: Option<&str>) -> Vec<(String, f32)> {
    header
        .unwrap_or_default()
        .split(',')
        .map(offer)
        .filter(|(name, _)| !name.is_empty())
        .collect()
}

fn refuses_identity(offers: &[(String, f32)]) -> bool {
    let weight_of = |name: &str| {
        let exact = offers.iter().find(|(offered, _)| offered == name);
        exact.map(|&(_, weight)| weight)
    };
    match (weight_of("identity"), weight_of("*")) {
        (Some(weight), _) | (None, Some(weight)) => weight == 0.0,
        (None, None) => false,
    }
}

/// One `name;q=weight` item; a weight that cannot be read counts as 1.
fn offer(item: &str) -> (String, f32) {
    let mut parts = item.split(';').map(str::trim);
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let weight = parts
        .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
        .and_then(|text| text.parse().ok())
        .unwrap_or(1.0);
    (name, weight)
}

/// Reads the request body's `Content-Encoding`.
///
/// # Errors
/// [`CodingError::Unsupported`].
pub fn content(header: Option<&str>) -> Result<Coding, CodingError> {
    let name = header.unwrap_or_default().trim().to_ascii_lowercase();
    match name.as_str() {
        "" | "identity" => Ok(Coding::Identity),
        "gzip" | "x-gzip" => Ok(Coding::Gzip),
        _ => Err(CodingError::Unsupported(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_codings() {
        for (header, want) in [
            ("", Ok(Coding::Identity)),
            ("gzip", Ok(Coding::Gzip)),
            ("GZip;Q=0.5", Ok(Coding::Gzip)),
            ("gzip, deflate, br", Ok(Coding::Gzip)),
            ("identity", Ok(Coding::Identity)),
            ("identity, gzip", Ok(Coding::Identity)),
            ("gzip;q=0.5, identity", Ok(Coding::Identity)),
            ("gzip;q=0", Ok(Coding::Identity)),
            ("deflate, br", Ok(Coding::Identity)),
            ("*", Ok(Coding::Identity)),
            ("*, identity;q=0", Ok(Coding::Gzip)),
            ("gzip, *;q=0", Ok(Coding::Gzip)),
            ("br, identity;q=0", Err(CodingError::NotAcceptable)),
            ("*;q=0", Err(CodingError::NotAcceptable)),
            ("gzip;q=nonsense", Ok(Coding::Gzip)),
        ] {
            assert_eq!(accept(Some(header)), want, "{header:?}");
        }
        assert_eq!(accept(None), Ok(Coding::Identity));
    }

    #[test]
    fn wishes() {
        for (header, want) in [
            ("gzip", true),
            ("gzip;q=0.8", true),
            ("gzip, identity;q=0", true),
            ("gzip, *;q=0", true),
            ("*, identity;q=0", true),
            ("gzip, deflate", false),
            ("br, gzip", false),
            ("gzip, identity;q=0.5", false),
        ] {
            assert_eq!(insists_on_gzip(Some(header)), want, "{header:?}");
        }
    }

    #[test]
    fn body_codings() {
        assert_eq!(content(None), Ok(Coding::Identity));
        assert_eq!(content(Some("identity")), Ok(Coding::Identity));
        assert_eq!(content(Some(" GZIP ")), Ok(Coding::Gzip));
        assert_eq!(content(Some("br")), Err(CodingError::Unsupported("br".into())));
    }
}
