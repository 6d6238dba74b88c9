//! protobuf's JSON mapping of the field types this service uses.

/// An enum as its value's name; read from its number as well. Unknown numbers stay numbers.
macro_rules! enum_names {
    ($module:ident, $($name:literal = $number:literal),+) => {
        #[doc = "Names of an enum's values."]
        pub mod $module {
            use serde::{Deserialize, Deserializer, Serializer, de::Error};

            const NAMES: &[(&str, i32)] = &[$(($name, $number)),+];

            pub(in crate::fs) fn serialize<S: Serializer>(value: &i32, out: S) -> Result<S::Ok, S::Error> {
                match NAMES.iter().find(|(_, number)| number == value) {
                    Some((name, _)) => out.serialize_str(name),
                    None => out.serialize_i32(*value),
                }
            }

            pub(in crate::fs) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<i32, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Form {
                    Number(i32),
                    Name(String),
                }
                match Form::deserialize(input)? {
                    Form::Number(number) => Ok(number),
                    Form::Name(text) => NAMES
                        .iter()
                        .find_map(|&(name, number)| (name == text).then_some(number))
                        .ok_or_else(|| D::Error::custom(format!("unknown enum value '{text}'"))),
                }
            }
        }
    };
}

enum_names!(
    file_type,
    "FILE_TYPE_UNSPECIFIED" = 0,
    "FILE_TYPE_FILE" = 1,
    "FILE_TYPE_DIRECTORY" = 2,
    "FILE_TYPE_SYMLINK" = 3
);
enum_names!(
    event_type,
    "EVENT_TYPE_UNSPECIFIED" = 0,
    "EVENT_TYPE_CREATE" = 1,
    "EVENT_TYPE_WRITE" = 2,
    "EVENT_TYPE_REMOVE" = 3,
    "EVENT_TYPE_RENAME" = 4,
    "EVENT_TYPE_CHMOD" = 5
);

/// RFC 3339 text of a time, in UTC with 0, 3, 6 or 9 digits of a second.
pub fn rfc3339(seconds: i64, nanos: i32) -> String {
    let days = seconds.div_euclid(86_400);
    let second = seconds.rem_euclid(86_400);
    let (year, month, day) = civil(days);
    let fraction = match nanos {
        0 => String::new(),
        nanos if nanos % 1_000_000 == 0 => format!(".{:03}", nanos / 1_000_000),
        nanos if nanos % 1_000 == 0 => format!(".{:06}", nanos / 1_000),
        nanos => format!(".{nanos:09}"),
    };
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}{fraction}Z",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar. Years are
/// counted from March, so that the leap day comes last, in cycles of 400 years.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let cycle = shifted.div_euclid(146_097);
    let day_of_cycle = shifted.rem_euclid(146_097);
    let year_of_cycle = (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_cycle + cycle * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        for (seconds, nanos, want) in [
            (0, 0, "1970-01-01T00:00:00Z"),
            (951_827_696, 0, "2000-02-29T12:34:56Z"),
            (1_735_689_599, 999_000_000, "2024-12-31T23:59:59.999Z"),
            (4_107_542_400, 1_000, "2100-03-01T00:00:00.000001Z"),
            (1_700_000_000, 1, "2023-11-14T22:13:20.000000001Z"),
            (-1, 0, "1969-12-31T23:59:59Z"),
        ] {
            assert_eq!(rfc3339(seconds, nanos), want);
        }
    }
}
