// What is not there yet: each call is refused with 501 and a reason. And templates, as far as they are there.
import { assert, check, e2b, equal, later, run, Sandbox } from './harness.mjs'

const { Template, Volume, Secret } = e2b

later(['Sandbox.create'], 'create_with_a_volume', () => run.create({ volumeMounts: { '/mnt/data': 'some-volume' } }))

const builder = () => Template().fromImage('debian:12').runCmd('true')
const build = { templateId: 'base', buildId: '00000000-0000-0000-0000-000000000000', alias: 'base', name: 'base' }
later(['Template.build'], 'build', () => Template.build(builder(), { alias: 'suite-never' }))
later(['Template.buildInBackground'], 'build_in_background', () => Template.buildInBackground(builder(), { alias: 'suite-never' }))
later(['Template.getBuildStatus'], 'get_build_status', () => Template.getBuildStatus(build))
later(['Template.assignTags'], 'assign_tags', () => Template.assignTags('base:default', 'stable'))
later(['Template.removeTags'], 'remove_tags', () => Template.removeTags('base', 'stable'))
later(['Template.getTags'], 'get_tags', () => Template.getTags('base'))

check(['Template.exists', 'Template.aliasExists'], 'template_exists', async () => {
  const found = [await Template.exists('base'), await Template.exists('no-such-template'), await Template.aliasExists('base')]
  equal(found, [true, false, true])
})

check(['TemplateBuilder', 'Template.toJSON', 'Template.toDockerfile'], 'what_a_builder_writes', async () => {
  const made = Template().fromPythonImage('3.12').setEnvs({ A: '1' }).runCmd('true').setWorkdir('/app')
  assert((await Template.toJSON(made)).includes('"python:3.12"'))
  assert((await Template.toDockerfile(made)).includes('FROM python:3.12'))
})

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
