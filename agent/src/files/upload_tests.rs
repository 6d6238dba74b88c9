use super::*;
use futures_util::stream;
use std::io::Read;

struct Uploads {
    dir: tempfile::TempDir,
}

impl Uploads {
    fn new() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        Self { dir }
    }

    async fn post(
        &self,
        headers: &[(&str, &str)],
        path: Option<&str>,
        body: &[u8],
    ) -> Result<Vec<Uploaded>, FileError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: hyper::header::HeaderName = name.parse().unwrap();
            map.append(name, hyper::header::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let chunks: Vec<_> = body.chunks(11).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
        upload(stream::iter(chunks), &map, path, &Scope::with_home(self.dir.path())).await
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }
}

const RAW: (&str, &str) = ("content-type", "application/octet-stream");
const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=\"b\"");

fn form(files: &[(&str, &str)]) -> Vec<u8> {
    let mut body = String::from("--b\r\nContent-Disposition: form-data; name=\"other\"\r\n\r\nignored\r\n");
    for (name, content) in files {
        body +=
            &format!("--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n{content}\r\n");
    }
    (body + "--b--\r\n").into_bytes()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    let mut encoder = flate2::read::GzEncoder::new(data, flate2::Compression::fast());
    encoder.read_to_end(&mut packed).unwrap();
    packed
}

#[tokio::test]
async fn a_raw_body() {
    let uploads = Uploads::new();
    let stored = uploads
        .post(&[RAW], Some("a/b.txt"), b"some content here")
        .await
        .unwrap();
    assert_eq!(uploads.read("a/b.txt"), "some content here");
    let answer = serde_json::to_value(stored).unwrap();
    let path = uploads.dir.path().join("a/b.txt");
    assert_eq!(
        answer,
        serde_json::json!([{"path": path, "name": "b.txt", "type": "file"}])
    );
    uploads.post(&[RAW], Some("a/b.txt"), b"").await.unwrap();
    assert_eq!(uploads.read("a/b.txt"), "");
    let headers = [RAW, ("content-encoding", "gzip")];
    uploads.post(&headers, Some("a/b.txt"), &gzip(b"packed")).await.unwrap();
    assert_eq!(uploads.read("a/b.txt"), "packed");
}

#[tokio::test]
async fn a_form_of_many_files() {
    let uploads = Uploads::new();
    let body = form(&[("one", "1"), ("dir/two", "22"), ("~/three", "")]);
    for (headers, body) in [
        (vec![FORM], body.clone()),
        (vec![FORM, ("content-encoding", "gzip")], gzip(&body)),
    ] {
        let stored = uploads.post(&headers, None, &body).await.unwrap();
        assert_eq!(stored.len(), 3);
        assert_eq!(uploads.read("dir/two"), "22");
        assert_eq!(uploads.read("three"), "");
        std::fs::remove_dir_all(uploads.dir.path().join("dir")).unwrap();
    }
    uploads
        .post(&[FORM], Some("named"), &form(&[("x", "content")]))
        .await
        .unwrap();
    assert_eq!(uploads.read("named"), "content");
}

#[tokio::test]
async fn metadata_is_replaced_by_each_upload() {
    let uploads = Uploads::new();
    let path = uploads.dir.path().join("f");
    let headers = [
        RAW,
        ("X-Metadata-Author", "a"),
        ("x-metadata-author", "second"),
        ("x-metadata-", "no key"),
    ];
    let stored = uploads.post(&headers, Some("f"), b"x").await.unwrap();
    let want = BTreeMap::from([("author".to_owned(), "a".to_owned())]);
    assert_eq!(stored[0].metadata, want);
    assert_eq!(metadata::read(&path).unwrap(), want);
    uploads.post(&[RAW], Some("f"), b"x").await.unwrap();
    assert_eq!(metadata::read(&path).unwrap(), BTreeMap::new());
}

/// Headers, path, body, and what the error must say.
type Refused<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, &'a [u8], &'a str);

#[tokio::test]
async fn refusals() {
    let uploads = Uploads::new();
    let long = "v".repeat(5000);
    let twice = form(&[("same", "1"), ("./same", "2")]);
    let whole = form(&[("cut", "content")]);
    let cut = &whole[..whole.len() - 10];
    let cases: [Refused<'_>; 12] = [
        (&[RAW], None, b"", "path query parameter is required"),
        (&[RAW], Some("a\0b"), b"", "NUL"),
        (&[RAW], Some("."), b"", "is a directory"),
        (
            &[RAW, ("content-encoding", "br")],
            Some("f"),
            b"",
            "unsupported Content-Encoding",
        ),
        (
            &[RAW, ("content-encoding", "gzip")],
            Some("f"),
            b"not gzip",
            "decompressing",
        ),
        (&[RAW, ("x-metadata-k", &long)], Some("f"), b"", "metadata takes"),
        (&[RAW, ("x-metadata-k", "é")], Some("f"), b"", "US-ASCII"),
        (
            &[("content-type", "text/plain")],
            Some("f"),
            b"",
            "unsupported content type",
        ),
        (&[("content-type", "multipart/form-data")], None, b"", "no boundary"),
        (&[FORM], None, &twice, "multiple files to the same path"),
        (&[FORM], None, cut, "ends before its closing boundary"),
        (&[FORM], None, &form(&[("", "1")]), "no filename"),
    ];
    for (headers, path, body, want) in cases {
        let error = uploads.post(headers, path, body).await.unwrap_err();
        assert_eq!(error.status(), 400, "{error}");
        assert!(error.to_string().contains(want), "{error}");
    }
    assert_eq!(uploads.read("same"), "1");
}
