"""Files and folders."""

from __future__ import annotations

import gzip
import io
import time
import urllib.error
import urllib.request
import uuid

from e2e.e2b.runners.harness import Run, check, gather_stream, go


@check("files.write", "files.read")
async def write_and_read(run: Run) -> None:
    path = f"{await run.folder()}/deep/er/é x.txt"
    info = await go(run.sb.files.write(path, "text é\n"))
    assert (info.path, info.name) == (path, "é x.txt") and str(getattr(info.type, "value", info.type)) == "file"
    assert await go(run.sb.files.read(path)) == "text é\n"
    await go(run.sb.files.write(path, ""))
    assert await go(run.sb.files.read(path)) == ""
    owner = (await go(run.sb.commands.run(f"stat -c %U:%a '{path}' '{path.rsplit('/', 1)[0]}'"))).stdout.split()
    assert owner == ["user:644", "user:755"], owner


@check("files.write", "files.read")
async def bytes_and_streams(run: Run) -> None:
    folder = await run.folder()
    data = bytes(range(256)) * 4000
    await go(run.sb.files.write(f"{folder}/b", data))
    assert bytes(await go(run.sb.files.read(f"{folder}/b", format="bytes"))) == data
    chunks = await gather_stream(await go(run.sb.files.read(f"{folder}/b", format="stream")))
    assert b"".join(chunks) == data
    await go(run.sb.files.write(f"{folder}/io", io.BytesIO(data)))
    assert bytes(await go(run.sb.files.read(f"{folder}/io", format="bytes"))) == data
    said = (await go(run.sb.commands.run(f"cmp {folder}/b {folder}/io && wc -c < {folder}/b"))).stdout.strip()
    assert said == str(len(data))


@check("files.write", "files.read")
async def packed_on_the_way(run: Run) -> None:
    run.takes(type(run.sb.files).write, "gzip")
    path = f"{await run.folder()}/packed"
    text = "many words " * 50_000
    await go(run.sb.files.write(path, text, gzip=True))
    assert await go(run.sb.files.read(path, gzip=True)) == text
    assert await go(run.sb.files.read(path)) == text


@check("files.write", "files.write_files")
async def both_forms_of_upload(run: Run) -> None:
    run.takes(type(run.sb.files).write, "use_octet_stream")
    folder = await run.folder()
    for form in (True, False):
        info = await go(run.sb.files.write(f"{folder}/{form}", f"form {form}", use_octet_stream=form))
        assert info.path == f"{folder}/{form}"
        assert await go(run.sb.files.read(f"{folder}/{form}")) == f"form {form}"
        entries = [{"path": f"{folder}/{form}-{number}", "data": str(number)} for number in range(3)]
        await go(run.sb.files.write_files(entries, use_octet_stream=form))
    assert len(await go(run.sb.files.list(folder))) == 8


@check("files.write", "files.get_info")
async def notes_on_a_file(run: Run) -> None:
    run.takes(type(run.sb.files).write, "metadata")
    path = f"{await run.folder()}/noted"
    written = await go(run.sb.files.write(path, "x", metadata={"origin": "suite", "round": "1"}))
    assert written.metadata == {"origin": "suite", "round": "1"}
    assert (await go(run.sb.files.get_info(path))).metadata == {"origin": "suite", "round": "1"}
    await go(run.sb.files.write(path, "y"))
    assert not (await go(run.sb.files.get_info(path))).metadata, "a rewrite keeps the old notes"


@check("files.write_files")
async def many_at_once(run: Run) -> None:
    folder = await run.folder()
    entries = [{"path": f"{folder}/sub{number}/f", "data": f"{number}".encode()} for number in range(20)]
    infos = await go(run.sb.files.write_files(entries))
    assert [info.path for info in infos] == [entry["path"] for entry in entries]
    assert await go(run.sb.files.read(f"{folder}/sub19/f")) == "19"
    assert await go(run.sb.files.write_files([])) == []


@check("files.read")
async def reading_what_is_not_there(run: Run) -> None:
    folder = await run.folder()
    await run.raises("NotFoundException", lambda: run.sb.files.read(f"{folder}/none"), f"{folder}/none")
    await run.raises("InvalidArgumentException", lambda: run.sb.files.read(folder))
    await run.raises("AuthenticationException", lambda: run.sb.files.read("/root/x", user="nobody-here"), "nobody-here")


@check("files.list")
async def list_a_folder(run: Run) -> None:
    folder = await run.folder()
    await go(run.sb.commands.run(f"cd {folder} && mkdir -p b/c/d && touch a b/f b/c/g && ln -s a link"))
    flat = await go(run.sb.files.list(folder))
    assert [entry.name for entry in flat] == ["a", "b", "link"]
    kinds = {entry.name: str(entry.type.value) for entry in flat if entry.type}
    assert (kinds["a"], kinds["b"]) == ("file", "dir")
    assert flat[0].path == f"{folder}/a" and flat[0].owner == "user" and flat[0].group == "user"
    assert flat[0].permissions == "-rw-r--r--" and flat[0].size == 0
    assert next(entry for entry in flat if entry.name == "link").symlink_target in (f"{folder}/a", "a")
    deep = [entry.path.removeprefix(folder) for entry in await go(run.sb.files.list(folder, depth=3))]
    assert deep == ["/a", "/b", "/b/c", "/b/c/d", "/b/c/g", "/b/f", "/link"], deep
    await run.raises("NotFoundException", lambda: run.sb.files.list(f"{folder}/none"))
    await run.raises("InvalidArgumentException", lambda: run.sb.files.list(f"{folder}/a"))
    await run.raises("InvalidArgumentException", lambda: run.sb.files.list(folder, depth=0), "depth")


@check("files.exists", "files.remove")
async def exists_and_remove(run: Run) -> None:
    folder = await run.folder()
    await go(run.sb.files.write(f"{folder}/x/y", "1"))
    assert await go(run.sb.files.exists(f"{folder}/x/y")) is True
    await go(run.sb.files.remove(f"{folder}/x"))
    assert await go(run.sb.files.exists(f"{folder}/x/y")) is False
    await go(run.sb.files.remove(f"{folder}/never"))


@check("files.get_info")
async def describe_an_entry(run: Run) -> None:
    folder = await run.folder()
    await go(run.sb.files.write(f"{folder}/f", "12345"))
    await go(run.sb.commands.run(f"cd {folder} && chmod 640 f && ln -s f link"))
    info = await go(run.sb.files.get_info(f"{folder}/f"))
    assert (info.name, info.path, info.size, info.mode, info.permissions) == (
        "f",
        f"{folder}/f",
        5,
        0o640,
        "-rw-r-----",
    )
    assert abs(time.time() - info.modified_time.timestamp()) < 60
    assert str((await go(run.sb.files.get_info(folder))).type.value) == "dir"
    link = await go(run.sb.files.get_info(f"{folder}/link"))
    assert link.symlink_target == f"{folder}/f"
    await run.raises("NotFoundException", lambda: run.sb.files.get_info(f"{folder}/none"))


@check("files.rename")
async def rename(run: Run) -> None:
    folder = await run.folder()
    await go(run.sb.files.write(f"{folder}/old", "moved"))
    info = await go(run.sb.files.rename(f"{folder}/old", f"{folder}/new/place"))
    assert info.path == f"{folder}/new/place"
    assert await go(run.sb.files.read(f"{folder}/new/place")) == "moved"
    assert await go(run.sb.files.exists(f"{folder}/old")) is False
    await run.raises("NotFoundException", lambda: run.sb.files.rename(f"{folder}/old", f"{folder}/z"))


@check("files.make_dir")
async def make_dir(run: Run) -> None:
    folder = await run.folder()
    assert await go(run.sb.files.make_dir(f"{folder}/a/b/c")) is True
    assert await go(run.sb.files.make_dir(f"{folder}/a/b/c")) is False
    await go(run.sb.files.write(f"{folder}/file", ""))
    await run.raises("SandboxException", lambda: run.sb.files.make_dir(f"{folder}/file/x"))


@check("files.write", "files.read")
async def paths_and_users(run: Run) -> None:
    name = uuid.uuid4().hex
    await go(run.sb.files.write(name, "relative"))
    assert await go(run.sb.files.read(f"/home/user/{name}")) == "relative"
    assert await go(run.sb.files.read(f"~/{name}")) == "relative"
    await go(run.sb.files.write(f"/root/{name}", "secret", user="root"))
    assert await go(run.sb.files.read(name, user="root")) == "secret"
    owner = (await go(run.sb.commands.run(f"stat -c %U /root/{name}", user="root"))).stdout.strip()
    assert owner == "root"


def fetch(url: str, data: bytes | None = None, kind: str = "") -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=data, headers={"Content-Type": kind} if kind else {})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            body = answer.read()
            if answer.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            return answer.status, body
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@check("Sandbox.download_url", "Sandbox.upload_url")
async def signed_addresses(run: Run) -> None:
    path = f"{await run.folder()}/signed é.txt"
    boundary = uuid.uuid4().hex
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n'
        f"Content-Type: text/plain\r\n\r\nby url\r\n--{boundary}--\r\n"
    ).encode()
    status, answer = fetch(run.sb.upload_url(path), body, f"multipart/form-data; boundary={boundary}")
    assert status == 200, (status, answer)
    assert await go(run.sb.files.read(path)) == "by url"
    assert fetch(run.sb.download_url(path)) == (200, b"by url")
    assert fetch(run.sb.download_url(path, user="user", use_signature_expiration=60)) == (200, b"by url")
    soon = run.sb.download_url(path, use_signature_expiration=1)
    await run.pause(2.2)
    status, answer = fetch(soon)
    assert status == 401 and b"signature is already expired" in answer, (status, answer)


@check("Sandbox.download_url")
async def forged_addresses(run: Run) -> None:
    path = f"{await run.folder()}/forged"
    await go(run.sb.files.write(path, "private"))
    url: str = run.sb.download_url(path)
    assert "signature=v1_" in url
    for bad in (url.replace("signature=v1_", "signature=v1_x"), url.replace("forged", "forgec"), url.split("&sig")[0]):
        status, answer = fetch(bad)
        assert status >= 400 and b"private" not in answer, (bad, status, answer)
