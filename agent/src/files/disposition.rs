//! The header lines of one part of a multipart form.

use percent_encoding::percent_decode_str;

use super::error::FileError;

/// What a part's `Content-Disposition` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartHead {
    /// The form field's name, empty when absent.
    pub name: String,
    /// The file name as sent, with its directories: clients of this API send the whole path.
    pub filename: Option<String>,
}

/// Reads a part's header lines; the first line is the rest of the delimiter's and must be blank.
///
/// # Errors
/// [`FileError::BadRequest`] when they are not UTF-8 or something follows the boundary.
pub fn part_head(head: &[u8]) -> Result<PartHead, FileError> {
    let text = std::str::from_utf8(head).map_err(|_| bad("the headers of a part are not UTF-8"))?;
    let mut lines = text.split("\r\n");
    if lines.next().is_some_and(|padding| !padding.trim().is_empty()) {
        return Err(bad("text follows a boundary"));
    }
    let mut part = PartHead::default();
    for line in lines {
        if let Some((name, value)) = line.split_once(':')
            && name.trim().eq_ignore_ascii_case("content-disposition")
        {
            read_parameters(value, &mut part);
        }
    }
    Ok(part)
}

fn read_parameters(value: &str, part: &mut PartHead) {
    let mut exact = None;
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', '\t', ';']).to_ascii_lowercase();
        let (value, after) = parameter(after.trim_start());
        rest = after;
        match name.as_str() {
            "name" => part.name = value,
            "filename" => part.filename = Some(value),
            "filename*" => exact = extended(&value),
            _ => {}
        }
    }
    if exact.is_some() {
        part.filename = exact;
    }
}

/// One value, quoted or bare, and what follows it. A backslash quotes `"` and itself only: some
/// clients send it as an ordinary character.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        return (text[..end].trim_end().to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut letters = quoted.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        match (letter, letters.peek()) {
            ('"', _) => return (value, &quoted[at + 1..]),
            ('\\', Some(&(_, next @ ('"' | '\\')))) => {
                value.push(next);
                letters.next();
            }
            _ => value.push(letter),
        }
    }
    (value, "")
}

/// The RFC 5987 form `UTF-8''percent-encoded`.
fn extended(value: &str) -> Option<String> {
    let (charset, rest) = value.split_once('\'')?;
    let (_language, encoded) = rest.split_once('\'')?;
    if !charset.eq_ignore_ascii_case("utf-8") {
        return None;
    }
    let decoded = percent_decode_str(encoded).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

fn bad(what: &str) -> FileError {
    FileError::BadRequest(format!("malformed multipart form: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispositions() {
        for (line, name, filename) in [
            (
                "form-data; name=\"file\"; filename=\"/a/b c.txt\"",
                "file",
                Some("/a/b c.txt"),
            ),
            ("form-data; filename=x; name=file", "file", Some("x")),
            ("form-data;name=\"file\";filename=\"a;b=c\"", "file", Some("a;b=c")),
            (r#"form-data; name="a\"b"; filename="c\\d\e""#, "a\"b", Some(r"c\d\e")),
            ("form-data; name=\"file\"; filename=\"ü.txt\"", "file", Some("ü.txt")),
            (
                "form-data; name=\"f\"; filename=\"x\"; filename*=UTF-8''%C3%BC%22",
                "f",
                Some("ü\""),
            ),
            ("form-data; name=\"f\"; filename=\"\"", "f", Some("")),
            ("form-data; name=\"unclosed", "unclosed", None),
            ("form-data", "", None),
            ("", "", None),
        ] {
            let head = format!("\r\nContent-Type: a/b\r\nCONTENT-Disposition: {line}\r\n\r\n");
            let part = part_head(head.as_bytes()).unwrap();
            let want = PartHead {
                name: name.to_owned(),
                filename: filename.map(str::to_owned),
            };
            assert_eq!(part, want, "{line}");
        }
    }

    #[test]
    fn refusals() {
        assert!(part_head(b"x\r\n\r\n").is_err());
        assert!(part_head(b"\r\nA: \xff\r\n\r\n").is_err());
        assert_eq!(part_head(b" \t\r\n\r\n").unwrap(), PartHead::default());
    }
}
