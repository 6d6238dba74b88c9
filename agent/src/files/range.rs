//! The `Range` request header (RFC 9110, section 14), for one range of bytes.

/// What a `Range` header asks of a file of known length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Selection {
    /// The whole file: no header, another unit, a malformed one, or several ranges. A server may
    /// always answer these with the whole (RFC 9110, section 14.2).
    Whole,
    /// Bytes from `first` to `last`, both included (206).
    Part {
        /// First byte, counted from 0.
        first: u64,
        /// Last byte.
        last: u64,
    },
    /// Nothing of the file lies in the range (416).
    Unsatisfiable,
}

/// Reads a `Range` header against a file of `length` bytes. Forms: `bytes=2-5`, `bytes=2-` and the
/// suffix `bytes=-3`; an end past the file is cut to it.
pub fn select(header: Option<&str>, length: u64) -> Selection {
    let Some(spec) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Selection::Whole;
    };
    let Some((first, last)) = spec.trim().split_once('-') else {
        return Selection::Whole;
    };
    let (first, last) = (first.trim(), last.trim());
    if !is_number_or_empty(first) || !is_number_or_empty(last) {
        return Selection::Whole;
    }
    match (first, last) {
        ("", "") => Selection::Whole,
        ("", count) => match number(count).min(length) {
            0 => Selection::Unsatisfiable,
            count => Selection::Part {
                first: length - count,
                last: length - 1,
            },
        },
        (first, last) => {
            let first = number(first);
            let last = if last.is_empty() { u64::MAX } else { number(last) };
            if last < first {
                Selection::Whole
            } else if first >= length {
                Selection::Unsatisfiable
            } else {
                Selection::Part {
                    first,
                    last: last.min(length - 1),
                }
            }
        }
    }
}

fn is_number_or_empty(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A number too large for 64 bits lies past every file, as its largest value does.
fn number(digits: &str) -> u64 {
    digits.parse().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Selection::{Part, Unsatisfiable, Whole};
    use super::*;

    #[test]
    fn headers_on_ten_bytes() {
        for (header, want) in [
            ("bytes=0-0", Part { first: 0, last: 0 }),
            ("bytes=2-5", Part { first: 2, last: 5 }),
            ("bytes=2-", Part { first: 2, last: 9 }),
            ("bytes=2-99", Part { first: 2, last: 9 }),
            ("bytes=-3", Part { first: 7, last: 9 }),
            ("bytes=-99", Part { first: 0, last: 9 }),
            (" bytes= 1 - 2 ", Part { first: 1, last: 2 }),
            ("bytes=1-99999999999999999999999", Part { first: 1, last: 9 }),
            ("bytes=10-", Unsatisfiable),
            ("bytes=99999999999999999999999-", Unsatisfiable),
            ("bytes=-0", Unsatisfiable),
            ("bytes=5-2", Whole),
            ("bytes=-", Whole),
            ("bytes=", Whole),
            ("bytes=a-b", Whole),
            ("bytes=+1-2", Whole),
            ("bytes=0-1,3-4", Whole),
            ("lines=1-2", Whole),
            ("", Whole),
        ] {
            assert_eq!(select(Some(header), 10), want, "{header:?}");
        }
        assert_eq!(select(None, 10), Whole);
    }

    #[test]
    fn an_empty_file_has_no_ranges() {
        assert_eq!(select(Some("bytes=0-"), 0), Unsatisfiable);
        assert_eq!(select(Some("bytes=-1"), 0), Unsatisfiable);
    }

    #[test]
    fn random_headers_never_select_outside_the_file() {
        let mut seed = 0xbeef_u64;
        let alphabet = b"0123456789-,= bytes\xff";
        for round in 0..50_000_u64 {
            let mut header = String::from("bytes=");
            for _ in 0..round % 9 {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                let pick = usize::try_from(seed % alphabet.len() as u64).unwrap_or(0);
                header.push(char::from(alphabet[pick]));
            }
            let length = seed % 40;
            if let Part { first, last } = select(Some(&header), length) {
                assert!(first <= last && last < length, "{header:?} of {length}");
            }
        }
    }
}
