// What is not there yet: each call is refused with 501 and a reason.
import { check, e2b, equal, later, run } from './harness.mjs'

const { Volume, Secret } = e2b

later(['Sandbox.create'], 'create_with_a_volume', () => run.create({ volumeMounts: { '/mnt/data': 'some-volume' } }))

const volume = () => new Volume('vol', 'data', 'token')
later(['Volume.create'], 'volume_create', () => Volume.create('data'))
later(['Volume.connect'], 'volume_connect', () => Volume.connect('vol'))
later(['Volume.list'], 'volume_list', () => Volume.list())
later(['Volume.getInfo'], 'volume_get_info', () => Volume.getInfo('vol'))
later(['Volume.destroy'], 'volume_destroy', () => Volume.destroy('vol'))
later(['Volume.makeDir'], 'volume_make_dir', () => volume().makeDir('/a'))
later(['Volume.exists'], 'volume_exists', () => volume().exists('/a'))
later(['Volume.readFile'], 'volume_read_file', () => volume().readFile('/a'))
later(['Volume.writeFile'], 'volume_write_file', () => volume().writeFile('/a', 'x'))
later(['Volume.remove'], 'volume_remove', () => volume().remove('/a'))
later(['Volume.updateMetadata'], 'volume_update_metadata', () => volume().updateMetadata('/a', { mode: 0o600 }))

later(['Secret.create'], 'secret_create', () => Secret.create('name', 'value'))
later(['Secret.update'], 'secret_update', () => Secret.update('name', 'value'))
later(['Secret.getInfo'], 'secret_get_info', () => Secret.getInfo('name'))
later(['Secret.list', 'SecretPaginator.nextItems'], 'secret_list', () => Secret.list().nextItems())
later(['Secret.exists'], 'secret_exists', () => Secret.exists('name'))
later(['Secret.destroy'], 'secret_destroy', () => Secret.destroy('name'))

check(['Secret.fill', 'Secret.iamToken'], 'placeholders', async () => {
  equal(Secret.fill('name'), '${e2b.secrets.name}')
  equal(Secret.iamToken({ audience: 'sts', tokenType: 'JWT-SVID' }).audience, 'sts')
})
