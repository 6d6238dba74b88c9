//! `Content-Type` and `Content-Disposition` of a downloaded file.

use std::fmt::Write as _;
use std::path::Path;

/// The media type of a file, by its extension, else by its first bytes `head`: text or not.
pub fn media_type(path: &Path, head: &[u8]) -> &'static str {
    let extension = path
        .extension()
        .map(|extension| extension.to_string_lossy().to_ascii_lowercase())
        .unwrap_or_default();
    match extension.as_str() {
        "txt" | "log" | "py" | "sh" | "toml" | "yaml" | "yml" | "rs" | "c" | "h" => "text/plain; charset=utf-8",
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "csv" => "text/csv; charset=utf-8",
        "md" => "text/markdown; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" | "ipynb" => "application/json",
        "xml" => "text/xml; charset=utf-8",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "tar" => "application/x-tar",
        "parquet" => "application/vnd.apache.parquet",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "mp3" => "audio/mpeg",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "webm" => "video/webm",
        _ if is_text(head) => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

fn is_text(head: &[u8]) -> bool {
    let head = &head[..head.len().min(512)];
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        // A character cut off by the end of the head is no sign of binary data.
        Err(error) => error.error_len().is_none(),
    };
    valid
        && !head
            .iter()
            .any(|&byte| byte < 0x20 && !b"\t\n\r\x0c\x1b".contains(&byte))
}

/// `inline` with the file's name; beside an ASCII form the exact one (RFC 6266) when they differ.
pub fn disposition(name: &str) -> String {
    let plain: String = name
        .chars()
        .map(|letter| match letter {
            '"' | '\\' => '_',
            ' '..='~' => letter,
            _ => '_',
        })
        .collect();
    let mut value = format!("inline; filename=\"{plain}\"");
    if plain != name {
        value.push_str("; filename*=UTF-8''");
        for byte in name.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
                value.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _written = write!(value, "%{byte:02X}");
            }
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for (path, head, want) in [
            ("/a.JSON", &b"\0"[..], "application/json"),
            ("/a", b"hello\n", "text/plain; charset=utf-8"),
            ("/a", b"", "text/plain; charset=utf-8"),
            (
                "/a",
                "cut \u{e9}".as_bytes().split_last().unwrap().1,
                "text/plain; charset=utf-8",
            ),
            ("/a", b"\x7fELF\0", "application/octet-stream"),
            ("/a.bin", b"\xff\xfe", "application/octet-stream"),
        ] {
            assert_eq!(media_type(Path::new(path), head), want, "{path} {head:?}");
        }
    }

    #[test]
    fn names() {
        assert_eq!(disposition("a.txt"), "inline; filename=\"a.txt\"");
        assert_eq!(
            disposition("a\"é"),
            "inline; filename=\"a__\"; filename*=UTF-8''a%22%C3%A9"
        );
    }
}
