use super::*;
use prost::Message;

fn entry() -> EntryInfo {
    EntryInfo::from(Entry {
        name: "a".into(),
        file_type: FileType::Directory,
        path: "/x/a".into(),
        size: 5_000_000_000,
        mode: 0o755,
        permissions: "Lrwxrwxrwx".into(),
        owner: "user".into(),
        group: "1000".into(),
        modified: (1_700_000_000, 500_000_000),
        symlink_target: Some("/y".into()),
        metadata: [("k".to_owned(), "v".to_owned())].into(),
    })
}

#[test]
fn an_entry_in_json() {
    let got = serde_json::to_value(entry()).unwrap();
    let want = serde_json::json!({
        "name": "a", "type": "FILE_TYPE_DIRECTORY", "path": "/x/a", "size": "5000000000",
        "mode": 493, "permissions": "Lrwxrwxrwx", "owner": "user", "group": "1000",
        "modifiedTime": "2023-11-14T22:13:20.500Z", "symlinkTarget": "/y",
        "metadata": {"k": "v"}, "isSymlink": true
    });
    assert_eq!(got, want);
}

#[test]
fn an_entry_in_protobuf() {
    // Encoded by another implementation from the published schema.
    let want = b"\n\x01a\x10\x02\x1a\x04/x/a \x80\xe4\x97\xd0\x12(\xed\x032\nLrwxrwxrwx:\x04userB\
                 \x041000J\x0c\x08\x80\xe2\xcf\xaa\x06\x10\x80\xca\xb5\xee\x01R\x02/yZ\x06\n\x01k\
                 \x12\x01v`\x01";
    assert_eq!(entry().encode_to_vec(), want);
}

#[test]
fn requests_in_json() {
    let read = |text| serde_json::from_str::<WatchRequest>(text).unwrap();
    let all = read(r#"{"path":"/a","recursive":true,"includeEntry":true,"allowNetworkMounts":true}"#);
    assert!(all.recursive && all.include_entry && all.allow_network_mounts);
    assert_eq!(read(r#"{"path":null,"recursive":null,"later":[1]}"#), read("{}"));
    for bad in [
        r#"{"path":1}"#,
        r#"{"path":"a""#,
        r#"{"depth":-1}"#,
        r#"{"depth":1e99}"#,
    ] {
        assert!(serde_json::from_str::<ListDirRequest>(bad).is_err(), "{bad}");
    }
}

#[test]
fn watch_items_in_json() {
    let event = FilesystemEvent::from(Event {
        name: "d/f".into(),
        kind: EventKind::Rename,
        entry: None,
    });
    let item = WatchDirResponse {
        filesystem: Some(event),
        ..WatchDirResponse::default()
    };
    assert_eq!(
        serde_json::to_string(&item).unwrap(),
        r#"{"filesystem":{"name":"d/f","type":"EVENT_TYPE_RENAME"}}"#
    );
    let keepalive = serde_json::to_string(&WatchDirResponse::keepalive()).unwrap();
    assert_eq!(keepalive, r#"{"keepalive":{}}"#);
}

#[test]
fn random_bytes_never_panic() {
    let mut seed = 0x1234_u64;
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..seed % 40)
            .map(|_| {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                seed.to_le_bytes()[0]
            })
            .collect();
        seed = seed.wrapping_add(0x9e37_79b9);
        drop(EntryResponse::decode(&bytes[..]));
        drop(WatchRequest::decode(&bytes[..]));
        drop(serde_json::from_slice::<WatcherEvents>(&bytes));
    }
}
