// Files, folders, watches, signed addresses.
import { Absent, assert, check, e2b, equal, pause, raises, run, until } from './harness.mjs'

const files = () => run.sb.files

async function gather(stream) {
  const chunks = []
  for await (const chunk of stream) chunks.push(Buffer.from(chunk))
  return Buffer.concat(chunks)
}

check(['files.write', 'files.read'], 'write_and_read', async () => {
  const path = `${await run.folder()}/deep/er/é x.txt`
  const info = await files().write(path, 'text é\n')
  equal([info.path, info.name, info.type], [path, 'é x.txt', 'file'])
  equal(await files().read(path), 'text é\n')
  await files().write(path, '')
  equal(await files().read(path), '')
  equal((await run.sb.commands.run(`stat -c %U:%a '${path}'`)).stdout, 'user:644\n')
})

check(['files.write', 'files.read'], 'bytes_blobs_and_streams', async () => {
  const path = `${await run.folder()}/b`
  const data = Buffer.alloc(1_000_000, 'all bytes \x00\xff', 'latin1')
  const forms = [data.buffer.slice(data.byteOffset, data.byteOffset + data.length), new Blob([data])]
  if (e2b.E2B) forms.push(new Blob([data]).stream())
  for (const form of forms) {
    await files().write(path, form)
    assert(Buffer.from(await files().read(path, { format: 'bytes' })).equals(data), 'bytes differ')
  }
  assert(Buffer.from(await (await files().read(path, { format: 'blob' })).arrayBuffer()).equals(data), 'blob differs')
  assert((await gather(await files().read(path, { format: 'stream' }))).equals(data), 'stream differs')
})

check(['files.write', 'files.read', 'files.getInfo'], 'packed_and_noted', async () => {
  if (!e2b.E2B) throw new Absent('this release knows neither gzip nor metadata')
  const path = `${await run.folder()}/packed`
  const text = 'many words '.repeat(50_000)
  await files().write(path, text, { gzip: true })
  assert((await files().read(path, { gzip: true })) === text && (await files().read(path)) === text, 'differs')
  const written = await files().write(path, 'x', { metadata: { origin: 'suite' } })
  equal([written.metadata, (await files().getInfo(path)).metadata], [{ origin: 'suite' }, { origin: 'suite' }])
})

check(['files.writeFiles', 'files.write'], 'many_at_once', async () => {
  const folder = await run.folder()
  const entries = [...Array(20).keys()].map((n) => ({ path: `${folder}/sub${n}/f`, data: `${n}` }))
  const infos = await (files().writeFiles ? files().writeFiles(entries) : files().write(entries))
  equal(infos.map((one) => one.path), entries.map((one) => one.path))
  equal((await files().write(entries.slice(0, 2))).length, 2)
  equal(await files().read(`${folder}/sub19/f`), '19')
})

check(['files.list'], 'list_a_folder', async () => {
  const folder = await run.folder()
  await run.sb.commands.run(`cd ${folder} && mkdir -p b/c && touch a b/f && ln -s a link`)
  const flat = await files().list(folder)
  equal(flat.map((one) => one.name), ['a', 'b', 'link'])
  equal([flat[0].type, flat[1].type, flat[0].owner, flat[0].permissions], ['file', 'dir', 'user', '-rw-r--r--'])
  const deep = (await files().list(folder, { depth: 3 })).map((one) => one.path.slice(folder.length))
  equal(deep, ['/a', '/b', '/b/c', '/b/f', '/link'])
  await raises('NotFoundError', () => files().list(`${folder}/none`))
  await raises('InvalidArgumentError', () => files().list(`${folder}/a`))
})

check(['files.exists', 'files.remove', 'files.makeDir'], 'exists_remove_and_make', async () => {
  const folder = await run.folder()
  equal([await files().makeDir(`${folder}/x/y`), await files().makeDir(`${folder}/x/y`)], [true, false])
  equal(await files().exists(`${folder}/x/y`), true)
  await files().remove(`${folder}/x`)
  equal(await files().exists(`${folder}/x/y`), false)
})

check(['files.getInfo', 'files.rename'], 'describe_and_rename', async () => {
  const folder = await run.folder()
  await files().write(`${folder}/old`, '12345')
  const info = await files().getInfo(`${folder}/old`)
  equal([info.name, info.size, info.mode, info.owner], ['old', 5, 0o644, 'user'])
  assert(Math.abs(Date.now() - info.modifiedTime) < 60_000)
  equal((await files().rename(`${folder}/old`, `${folder}/new/place`)).path, `${folder}/new/place`)
  equal(await files().read(`${folder}/new/place`), '12345')
  await raises('NotFoundError', () => files().getInfo(`${folder}/old`))
})

check(['files.read'], 'reading_what_is_not_there', async () => {
  const folder = await run.folder()
  await raises('NotFoundError', () => files().read(`${folder}/none`), `${folder}/none`)
  await raises('InvalidArgumentError', () => files().read(folder))
})

check(['files.write', 'files.read'], 'paths_and_users', async () => {
  await files().write('relative.txt', 'r')
  equal([await files().read('/home/user/relative.txt'), await files().read('~/relative.txt')], ['r', 'r'])
  await files().write('/root/s', 'secret', { user: 'root' })
  equal(await files().read('s', { user: 'root' }), 'secret')
})

check(['files.watchDir', 'WatchHandle.stop'], 'watch_a_folder', async () => {
  const folder = await run.folder()
  const events = []
  const watch = await files().watchDir(folder, (event) => events.push(`${event.type} ${event.name}`))
  await files().write(`${folder}/f`, '1')
  await files().rename(`${folder}/f`, `${folder}/g`)
  await files().remove(`${folder}/g`)
  for (const wanted of ['create f', 'write f', 'rename f', 'create g', 'remove g']) {
    await until(() => events.includes(wanted), 6_000).catch(() => assert(false, `no ${wanted} in`, events))
  }
  await watch.stop()
  const count = events.length
  await files().write(`${folder}/after`, '')
  await pause(300)
  equal(events.length, count)
})

check(['files.watchDir'], 'watch_all_below', async () => {
  const folder = await run.folder()
  const events = []
  const watch = await files().watchDir(folder, (event) => events.push(`${event.type} ${event.name}`), { recursive: true })
  await files().write(`${folder}/new/deeper/f`, '1')
  await until(() => events.includes('create new'))
  await pause(300)
  await files().write(`${folder}/new/deeper/f`, '2')
  await until(() => events.includes('write new/deeper/f'), 6_000).catch(() => assert(false, 'no write in', events))
  await watch.stop()
  await raises('NotFoundError', () => files().watchDir(`${folder}/none`, () => {}))
})

check(['Sandbox.downloadUrl', 'Sandbox.uploadUrl'], 'signed_addresses', async () => {
  const path = `${await run.folder()}/signed é.txt`
  const form = new FormData()
  form.append('file', new Blob(['by url']), 'f')
  const sent = await fetch(await run.sb.uploadUrl(path), { method: 'POST', body: form })
  equal([sent.status, await files().read(path)], [200, 'by url'])
  const got = await fetch(await run.sb.downloadUrl(path, { useSignatureExpiration: 60 }))
  equal([got.status, await got.text()], [200, 'by url'])
  const soon = await run.sb.downloadUrl(path, { useSignatureExpiration: 1 })
  const forged = await fetch((await run.sb.downloadUrl(path)).replace('signature=v1_', 'signature=v1_x'))
  assert(forged.status >= 400, forged.status)
  await pause(2_200)
  const late = await fetch(soon)
  equal([late.status, (await late.text()).includes('signature is already expired')], [401, true])
})
