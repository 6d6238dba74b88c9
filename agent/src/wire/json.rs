//! What protobuf's JSON form asks beyond serde's own: null as default, numbers as strings, bytes as base64.

use std::fmt;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

/// Reads null as the default value.
pub fn null_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

struct Integer;

impl Visitor<'_> for Integer {
    type Value = Option<i64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an integer, or one in a string")
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Some(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Self::Value, E> {
        i64::try_from(value)
            .map(Some)
            .map_err(|_| E::custom(format!("{value} is too large")))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Self::Value, E> {
        // 2^53: beyond it a float no longer names one integer.
        if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            #[allow(clippy::cast_possible_truncation, reason = "checked to be a small whole number")]
            return Ok(Some(value as i64));
        }
        Err(E::custom(format!("{value} is not an integer")))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Self::Value, E> {
        value
            .parse()
            .map(Some)
            .map_err(|_| E::custom(format!("'{value}' is not an integer")))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

fn bounded<T: TryFrom<i64>, E: de::Error>(value: i64) -> Result<T, E> {
    T::try_from(value).map_err(|_| E::custom(format!("{value} is out of range")))
}

/// Reads an integer from a number or a string; null is 0.
pub fn integer<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64> + Default,
{
    match deserializer.deserialize_any(Integer)? {
        Some(value) => bounded(value),
        None => Ok(T::default()),
    }
}

/// Reads an integer from a number or a string; null is None.
pub fn optional_integer<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    match deserializer.deserialize_any(Integer)? {
        Some(value) => bounded(value).map(Some),
        None => Ok(None),
    }
}

/// Writes a 64-bit integer as a string.
pub fn int64_string<S: Serializer>(value: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

/// Optional bytes as base64: written in the standard alphabet with padding, read in any.
pub mod optional_base64 {
    use super::{Base64Display, Bytes, Deserialize, Deserializer, STANDARD, Serializer, de, decode};

    /// Writes the bytes; None must be skipped by the field.
    pub fn serialize<S: Serializer>(value: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(bytes) => serializer.collect_str(&Base64Display::new(bytes, &STANDARD)),
            None => serializer.serialize_none(),
        }
    }

    /// Reads base64 or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
        match Option::<std::borrow::Cow<'de, str>>::deserialize(deserializer)? {
            Some(text) => decode(&text)
                .map(Some)
                .ok_or_else(|| de::Error::custom("a bytes field is not base64")),
            None => Ok(None),
        }
    }
}

fn decode(text: &str) -> Option<Bytes> {
    let engines = [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD];
    engines
        .into_iter()
        .find_map(|engine| engine.decode(text).ok())
        .map(Bytes::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default)]
    #[derive(Default)]
    struct Sample {
        #[serde(deserialize_with = "integer")]
        number: u32,
        #[serde(deserialize_with = "optional_integer")]
        maybe: Option<i32>,
        #[serde(with = "optional_base64")]
        bytes: Option<Bytes>,
        #[serde(deserialize_with = "null_default")]
        list: Vec<String>,
    }

    #[test]
    fn reads_what_protobuf_json_allows() {
        let sample = |number, maybe, bytes: Option<&'static str>| Sample {
            number,
            maybe,
            bytes: bytes.map(Bytes::from),
            list: Vec::new(),
        };
        for (text, expected) in [
            ("{}", Some(sample(0, None, None))),
            (
                r#"{"number":7,"maybe":-1,"unknown":{"a":[1]}}"#,
                Some(sample(7, Some(-1), None)),
            ),
            (r#"{"number":"7","maybe":"-1"}"#, Some(sample(7, Some(-1), None))),
            (r#"{"number":7.0}"#, Some(sample(7, None, None))),
            (
                r#"{"number":null,"maybe":null,"bytes":null,"list":null}"#,
                Some(sample(0, None, None)),
            ),
            (r#"{"bytes":"aGk="}"#, Some(sample(0, None, Some("hi")))),
            (r#"{"bytes":"aGk"}"#, Some(sample(0, None, Some("hi")))),
            (r#"{"bytes":"\u0061Gk="}"#, Some(sample(0, None, Some("hi")))),
            (r#"{"bytes":""}"#, Some(sample(0, None, Some("")))),
            (r#"{"number":-1}"#, None),
            (r#"{"number":4294967296}"#, None),
            (r#"{"number":1.5}"#, None),
            (r#"{"number":"x"}"#, None),
            (r#"{"number":true}"#, None),
            (r#"{"bytes":"***"}"#, None),
            (r#"{"bytes":7}"#, None),
        ] {
            assert_eq!(serde_json::from_str::<Sample>(text).ok(), expected, "{text}");
        }
    }
}
