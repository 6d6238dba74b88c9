use super::*;
use futures_util::stream;

type Parts = Vec<(String, Option<String>, Vec<u8>)>;

async fn read(body: &[u8], boundary: &str, step: usize) -> Result<Parts, FileError> {
    let chunks: Vec<_> = body
        .chunks(step)
        .map(|chunk| Ok(Bytes::copy_from_slice(chunk)))
        .collect();
    let mut form = Multipart::new(stream::iter(chunks), boundary)?;
    let mut parts = Vec::new();
    while let Some(head) = form.next_part().await? {
        let mut content = Vec::new();
        while let Some(piece) = form.next().await {
            content.extend_from_slice(&piece?);
        }
        parts.push((head.name, head.filename, content));
    }
    Ok(parts)
}

fn form(boundary: &str, contents: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for (index, content) in contents.iter().enumerate() {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; \
             filename=\"/d/{index}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    body
}

fn contents(parts: &Parts) -> Vec<&[u8]> {
    parts.iter().map(|(_, _, content)| &content[..]).collect()
}

#[tokio::test]
async fn every_way_to_cut_a_body_gives_the_same_parts() {
    let files: [&[u8]; 5] = [
        b"plain",
        b"",
        b"\r\n--X\r\n-\r\n--\r\r\n--B",
        b"--XB\r\n",
        b"\r\n\r\n\0\xff\r",
    ];
    let body = form("XB", &files);
    for step in 1..body.len() {
        let parts = read(&body, "XB", step).await.unwrap();
        assert_eq!(contents(&parts), files, "cut every {step} bytes");
        assert_eq!(parts[3].1.as_deref(), Some("/d/3"));
    }
}

#[tokio::test]
async fn text_around_the_parts_is_ignored() {
    let mut body = b"preamble\r\n".to_vec();
    body.extend(form("b", &[b"x"]));
    body.extend_from_slice(b"epilogue --b");
    assert_eq!(contents(&read(&body, "b", 3).await.unwrap()), [b"x"]);
    assert_eq!(read(b"--b--", "b", 9).await.unwrap(), []);
    let padded = b"--b \t\r\n\r\nx\r\n--b--";
    assert_eq!(contents(&read(padded, "b", 1).await.unwrap()), [b"x"]);
}

#[tokio::test]
async fn unread_content_is_skipped() {
    let body = form("b", &[&[b'x'; 5000], b"second"]);
    let chunks = body.chunks(7).map(|chunk| Ok(Bytes::copy_from_slice(chunk)));
    let mut form = Multipart::new(stream::iter(chunks), "b").unwrap();
    form.next_part().await.unwrap();
    let second = form.next_part().await.unwrap().unwrap();
    assert_eq!(second.filename.as_deref(), Some("/d/1"));
    let piece = form.next().await.unwrap().unwrap();
    assert!(b"second".starts_with(&piece));
    assert_eq!(form.next_part().await.unwrap(), None);
    assert_eq!(form.next_part().await.unwrap(), None);
}

#[tokio::test]
async fn every_truncation_is_an_error() {
    let body = form("bound", &[b"content", b"more"]);
    let whole = body.len() - "--\r\n".len() + "--".len();
    for length in 0..whole {
        let result = read(&body[..length], "bound", 16).await;
        assert!(result.is_err(), "cut to {length} bytes");
    }
}

#[tokio::test]
async fn limits() {
    let mut endless = b"--b\r\nX: ".to_vec();
    endless.resize(10 * MAX_HEAD_BYTES, b'x');
    let error = read(&endless, "b", 4096).await.unwrap_err();
    assert_eq!(error.status(), 400);
    for boundary in [String::new(), "b".repeat(71)] {
        assert_eq!(read(b"", &boundary, 1).await.unwrap_err().status(), 400);
    }
}

#[tokio::test]
async fn random_bodies_never_panic_and_survive_a_round_trip() {
    let mut seed = 0xfeed_u64;
    let mut next = move |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).unwrap()
    };
    let alphabet = b"\r\n-b-\r\n:=;\"x";
    for _ in 0..2000 {
        let mut noise =
            |length: usize| -> Vec<u8> { (0..next(length)).map(|_| alphabet[next(alphabet.len())]).collect() };
        let garbage = noise(200);
        let file = noise(100);
        let step = 1 + next(40);
        drop(read(&garbage, "b", step).await);
        if memchr::memmem::find(&[b"\r\n", &file[..], b"\r\n"].concat(), b"\r\n--b").is_none() {
            let parts = read(&form("b", &[&file]), "b", step).await.unwrap();
            assert_eq!(contents(&parts), [&file[..]]);
        }
    }
}
