//! The query of `/files`: `path`, `username`, `signature`, `signature_expiration`.

use percent_encoding::percent_decode_str;

use super::error::FileError;

/// The decoded query; unknown parameters are ignored, of repeated ones the first counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FilesQuery {
    /// File to read or write.
    pub path: Option<String>,
    /// User whose home relative paths start from and who owns what is written.
    pub username: Option<String>,
    /// `v1_...`
    pub signature: Option<String>,
    /// Seconds since 1970.
    pub signature_expiration: Option<i64>,
}

impl FilesQuery {
    /// Decodes a query string (without its `?`), `+` and `%20` both meaning a space.
    ///
    /// # Errors
    /// [`FileError::BadRequest`] for a value that is not UTF-8 or an expiration that is no number.
    pub fn parse(query: &str) -> Result<Self, FileError> {
        let mut parsed = Self::default();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "path" => keep(&mut parsed.path, name, value)?,
                "username" => keep(&mut parsed.username, name, value)?,
                "signature" => keep(&mut parsed.signature, name, value)?,
                "signature_expiration" if !value.is_empty() => {
                    let number = value.parse().map_err(|_| {
                        FileError::BadRequest(format!(
                            "signature_expiration '{}' is not a number of seconds",
                            value.escape_default()
                        ))
                    })?;
                    parsed.signature_expiration.get_or_insert(number);
                }
                _ => {}
            }
        }
        Ok(parsed)
    }
}

fn keep(field: &mut Option<String>, name: &str, value: &str) -> Result<(), FileError> {
    let spaced = value.replace('+', " ");
    let decoded = percent_decode_str(&spaced)
        .decode_utf8()
        .map_err(|_| FileError::BadRequest(format!("query parameter {name} is not UTF-8")))?;
    field.get_or_insert_with(|| decoded.into_owned());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> Option<String> {
        Some(value.to_owned())
    }

    #[test]
    fn parameters() {
        let parsed = FilesQuery::parse(
            "path=%2Fhome%2Fa+b%20c%2B.txt&username=root&path=second&x=y&\
             signature=v1_a%2Bb/c&signature_expiration=17",
        )
        .unwrap();
        assert_eq!(parsed.path, text("/home/a b c+.txt"));
        assert_eq!(parsed.username, text("root"));
        assert_eq!(parsed.signature, text("v1_a+b/c"));
        assert_eq!(parsed.signature_expiration, Some(17));
        assert_eq!(FilesQuery::parse("").unwrap(), FilesQuery::default());
        assert_eq!(FilesQuery::parse("path").unwrap().path, text(""));
    }

    #[test]
    fn refusals() {
        for query in ["path=%ff", "signature_expiration=soon", "username=%c3"] {
            let error = FilesQuery::parse(query).unwrap_err();
            assert_eq!(error.status().as_u16(), 400, "{query}");
        }
    }

    #[test]
    fn random_queries_never_panic() {
        let mut seed = 0xabc_u64;
        let alphabet: Vec<char> = "path=&%+2Ff0é\0signature_expiration".chars().collect();
        for _ in 0..20_000 {
            let mut query = String::new();
            for _ in 0..seed % 30 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let pick = usize::try_from(seed % alphabet.len() as u64).unwrap_or(0);
                query.push(alphabet[pick]);
            }
            seed = seed.wrapping_add(0x9e37_79b9);
            drop(FilesQuery::parse(&query));
        }
    }
}
