use super::*;
use http_body_util::BodyExt;
use std::io::Read;

struct Served {
    dir: tempfile::TempDir,
}

impl Served {
    fn new(content: &[u8]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("f.txt"), content).unwrap();
        Self { dir }
    }

    fn get(&self, headers: &[(HeaderName, &str)]) -> Response<FileBody> {
        let headers = headers
            .iter()
            .map(|(name, value)| (name.clone(), value.parse().unwrap()))
            .collect();
        download(&self.dir.path().join("f.txt"), &headers).unwrap()
    }
}

fn header(response: &Response<FileBody>, name: HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    Some(value.to_str().unwrap().to_owned())
}

async fn content(response: Response<FileBody>) -> Vec<u8> {
    response.collect().await.unwrap().to_bytes().to_vec()
}

#[tokio::test]
async fn a_whole_file() {
    let response = Served::new(b"hello").get(&[]);
    assert_eq!(response.status(), 200);
    for (name, want) in [
        (CONTENT_LENGTH, "5"),
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (CONTENT_DISPOSITION, "inline; filename=\"f.txt\""),
        (ACCEPT_RANGES, "bytes"),
        (VARY, "Accept-Encoding"),
    ] {
        assert_eq!(header(&response, name.clone()).as_deref(), Some(want), "{name}");
    }
    assert_eq!(content(response).await, b"hello");
}

#[tokio::test]
async fn ranges_of_small_and_large_files() {
    for length in [1000_usize, 300_000] {
        let bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let served = Served::new(&bytes);
        for (range, first, last) in [
            ("bytes=0-0", 0, 0),
            ("bytes=10-19", 10, 19),
            ("bytes=-10", length - 10, length - 1),
            ("bytes=990-", 990, length - 1),
        ] {
            let response = served.get(&[(RANGE, range)]);
            assert_eq!(response.status(), 206, "{range}");
            assert_eq!(
                header(&response, CONTENT_RANGE),
                Some(format!("bytes {first}-{last}/{length}"))
            );
            assert!(content(response).await == bytes[first..=last], "{range}");
        }
        let response = served.get(&[(RANGE, "bytes=9999999-")]);
        assert_eq!(response.status(), 416);
        assert_eq!(header(&response, CONTENT_RANGE), Some(format!("bytes */{length}")));
    }
}

#[tokio::test]
async fn gzip_when_accepted_and_nothing_speaks_against_it() {
    let bytes = vec![b'x'; 500_000];
    let served = Served::new(&bytes);
    let response = served.get(&[(ACCEPT_ENCODING, "gzip, deflate")]);
    assert_eq!(header(&response, CONTENT_ENCODING).as_deref(), Some("gzip"));
    assert_eq!(header(&response, CONTENT_LENGTH), None);
    assert!(header(&response, ETAG).unwrap().starts_with("W/"));
    let coded = content(response).await;
    let mut decoded = Vec::new();
    flate2::read::GzDecoder::new(&coded[..])
        .read_to_end(&mut decoded)
        .unwrap();
    assert!(decoded == bytes);

    let response = served.get(&[(ACCEPT_ENCODING, "gzip"), (RANGE, "bytes=0-4")]);
    assert_eq!(header(&response, CONTENT_ENCODING), None);
    assert_eq!(content(response).await, b"xxxxx");
}

#[tokio::test]
async fn what_does_not_shrink_is_packed_on_demand_only() {
    let mut seed = 1_u64;
    let noise: Vec<u8> = (0..100_000)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            seed.to_be_bytes()[0]
        })
        .collect();
    let served = Served::new(&noise);
    for (accepted, want) in [
        ("gzip, deflate", None),
        ("gzip", Some("gzip")),
        ("*, identity;q=0", Some("gzip")),
    ] {
        let response = served.get(&[(ACCEPT_ENCODING, accepted)]);
        assert_eq!(header(&response, CONTENT_ENCODING).as_deref(), want, "{accepted}");
    }
}

#[tokio::test]
async fn unchanged_files_are_not_sent_again() {
    let served = Served::new(b"hello");
    let first = served.get(&[]);
    let (tag, modified) = (header(&first, ETAG).unwrap(), header(&first, LAST_MODIFIED).unwrap());
    for (condition, want) in [
        ((IF_NONE_MATCH, tag.as_str()), 304),
        ((IF_MODIFIED_SINCE, modified.as_str()), 304),
        ((IF_NONE_MATCH, "\"other\""), 200),
    ] {
        let response = served.get(std::slice::from_ref(&condition));
        assert_eq!(response.status(), want, "{condition:?}");
    }
    let resumed = served.get(&[(RANGE, "bytes=1-2"), (IF_RANGE, &tag)]);
    assert_eq!(resumed.status(), 206);
    let restarted = served.get(&[(RANGE, "bytes=1-2"), (IF_RANGE, "\"old\"")]);
    assert_eq!(restarted.status(), 200);
}

#[tokio::test]
async fn a_file_made_up_by_the_kernel_is_read_to_its_end() {
    let response = download(Path::new("/proc/self/status"), &HeaderMap::new()).unwrap();
    let text = String::from_utf8(content(response).await).unwrap();
    assert!(text.contains("VmPeak"));
}

#[test]
fn refusals() {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, "br, identity;q=0".parse().unwrap());
    let error = download(Path::new("/etc/passwd"), &headers).unwrap_err();
    assert_eq!(error.status(), 406);
    let error = download(Path::new("/etc"), &HeaderMap::new()).unwrap_err();
    assert_eq!(error.status(), 400);
}
