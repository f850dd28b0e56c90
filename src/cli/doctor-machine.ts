/** What of this machine could fail the service: Node, key files, certificates, the disk under the data. */
import { createPrivateKey, X509Certificate } from 'node:crypto'
import { open, readdir, readFile, realpath, rm, stat, statfs } from 'node:fs/promises'
import { isIP } from 'node:net'
import { join } from 'node:path'
import type { ServiceSettings } from '../config/settings.ts'
import { readSecretFile } from '../keys/key-file.ts'
import { isDevelopmentKid } from '../keys/private-jwk.ts'
import { certificateFindings } from './doctor-config.ts'
import { type Finding, good, weak, wrong } from './doctor-finding.ts'
import type { Places } from './places.ts'
import { endOfLifeWarning } from './serve.ts'

export function nodeFinding(nodeVersion: string, now: number): Finding {
  const warning = endOfLifeWarning(nodeVersion, now)
  return warning === undefined
    ? good('node', `Node ${nodeVersion} gets security fixes`)
    : weak('node_end_of_life', warning.split(':')[0]!, 'move to a current long-term release (https://nodejs.org)')
}

/** Private keys in the keys folder: readable by their owner alone, and where they belong. */
export async function keyFindings(
  { keysDir, dataDir }: Places,
  mode: ServiceSettings['mode'] | undefined,
): Promise<readonly Finding[]> {
  const names = await readdir(keysDir, { recursive: true, withFileTypes: true }).catch(() => undefined)
  const dataThere = await exists(join(dataDir, 'errand.db'))
  if (names === undefined)
    return [
      dataThere
        ? wrong(
            'keys_missing',
            `${keysDir} is not there, and ${dataDir} is sealed under its root.key`,
            'restore it from your backup',
          )
        : good('keys_not_made', 'no keys yet: the first start makes them'),
    ]
  const findings: Finding[] = []
  const bits = await stat(keysDir).then(({ mode: all }) => all & 0o077)
  if (bits !== 0) findings.push(weak('keys_folder_open', `${keysDir} can be entered by others`, `chmod 700 ${keysDir}`))
  const secret = names.filter(({ name }) => name === 'root.key' || (/\.jwk$/.test(name) && !/\.pub\.jwk$/.test(name)))
  let sound = 0
  const elsewhere: string[] = []
  for (const entry of secret) {
    const path = join(entry.parentPath, entry.name)
    const text = await readSecretFile(path).catch((error: Error) => {
      const [what, ...mend] = error.message.split(': ')
      findings.push(wrong('key_file_unsafe', what!, mend.join(': ') || 'put the right file there'))
    })
    if (text === undefined) continue
    sound++
    const folder = path.slice(keysDir.length + 1).split('/')[0]
    if (mode === 'production' && (folder === 'agents' || folder === 'tools')) elsewhere.push(path)
    const kid = /"kid"\s*:\s*"([^"]{1,200})"/.exec(text)?.[1]
    if (mode === 'production' && isDevelopmentKid(kid))
      findings.push(
        wrong(
          'dev_material',
          `${path} was made by development mode: production refuses it`,
          'make and register a new key, and remove this one',
        ),
      )
  }
  if (sound > 0)
    findings.push(good('key_files', `${sound} private key file${sound === 1 ? '' : 's'}, each for its owner alone`))
  if (elsewhere.length > 0)
    findings.push(
      weak(
        'keys_of_others',
        `private keys of agents and tools lie with the service: ${elsewhere.join(' ')}`,
        'move each to whom it belongs; the service needs the .pub.jwk files alone',
      ),
    )
  if (dataThere && !(await exists(join(keysDir, 'root.key'))))
    findings.push(
      wrong(
        'root_key_missing',
        `${join(keysDir, 'root.key')} is not there, and the data are sealed under it`,
        'restore it from your backup',
      ),
    )
  return findings
}

/** The certificates of the listeners: dates, name, and whether the key is theirs. */
export async function certificateFiles(settings: ServiceSettings, now: number): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  const { tls, mtls } = settings.listen
  const host = new URL(settings.issuer).hostname.replace(/^\[|\]$/g, '')
  for (const [what, files] of [
    ['the certificate of listen.tls', tls],
    ['the certificate of listen.mtls', mtls],
  ] as const) {
    if (!files) continue
    const mend = `put the new chain into ${files.certFile} and its key into ${files.keyFile}, and start again`
    try {
      const certificate = new X509Certificate(await readFile(files.certFile))
      const dates = [...certificateFindings(certificate, what, now, mend)]
      findings.push(
        ...(dates.length > 0 ? dates : [good('certificate', `${what} is valid until ${certificate.validTo}`)]),
      )
      if ((isIP(host) === 0 ? certificate.checkHost(host) : certificate.checkIP(host)) === undefined)
        findings.push(wrong('certificate_name', `${what} is not for ${host}, the name in the issuer`, mend))
      if (!certificate.checkPrivateKey(createPrivateKey(await readFile(files.keyFile))))
        findings.push(wrong('certificate_key', `${what} and ${files.keyFile} do not belong together`, mend))
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      findings.push(wrong('certificate_unreadable', `${what} or its key cannot be read (${code ?? 'not PEM'})`, mend))
    }
  }
  return findings
}

const MEMORY = ['tmpfs', 'ramfs']
const REMOTE = ['nfs', 'nfs4', 'cifs', 'smb3', 'fuse.sshfs', '9p']
const LOW_BYTES = 1_073_741_824
/** No disk and no flash answers sooner: somebody swallows the sync. */
const FASTEST_SYNC_MS = 0.02
const SLOW_SYNC_MS = 50

/** Whether what is acknowledged will be there after a power cut. */
export async function dataFindings(
  { dataDir }: Pick<Places, 'dataDir'>,
  mode: ServiceSettings['mode'] | undefined,
): Promise<readonly Finding[]> {
  // To try it out, memory and a container's layer will do.
  const ends = mode === 'development' ? weak : wrong
  const folder = await realpath(dataDir).catch(() => undefined)
  if (folder === undefined) return [good('data_not_made', 'no data yet: the first start makes the folder')]
  const findings: Finding[] = []
  const mount = await mountOf(folder)
  if (mount && MEMORY.includes(mount.type))
    findings.push(
      ends(
        'data_in_memory',
        `${dataDir} is in memory (${mount.type}): a restart of the machine loses keys, bans and the audit log`,
        'ERRAND_DATA on a disk',
      ),
    )
  else if (mount?.type === 'overlay')
    findings.push(
      ends(
        'data_in_container',
        `${dataDir} is in the layer of a container: it ends with the container`,
        'mount a volume there',
      ),
    )
  else if (mount && REMOTE.includes(mount.type))
    findings.push(
      weak(
        'data_remote',
        `${dataDir} is on ${mount.type}: locks and syncs there may not be what they say`,
        'ERRAND_DATA on a local disk',
      ),
    )
  if (mount?.options.some((option) => ['nobarrier', 'barrier=0'].includes(option)))
    findings.push(
      wrong(
        'disk_without_barriers',
        `${dataDir} is mounted without write barriers: a power cut loses what was acknowledged`,
        'mount it with barriers',
      ),
    )
  if ((await stat(folder).then(({ mode }) => mode & 0o077)) !== 0)
    findings.push(weak('data_folder_open', `${dataDir} can be entered by others`, `chmod 700 ${dataDir}`))
  const { bavail, bsize } = await statfs(folder)
  const free = bavail * bsize
  if (free < LOW_BYTES / 10)
    findings.push(
      wrong(
        'disk_full',
        `${Math.round(free / 1_048_576)} MB are free: without a durable record no token leaves`,
        'free some space',
      ),
    )
  else if (free < LOW_BYTES)
    findings.push(weak('disk_low', `${Math.round(free / 1_048_576)} MB are free`, 'free some space'))
  const sync = await syncTime(folder)
  if (sync === undefined)
    findings.push(
      wrong('data_not_writable', `nothing can be written in ${dataDir}`, 'chown it to the user that runs Errand'),
    )
  else if (sync < FASTEST_SYNC_MS)
    findings.push(
      weak(
        'disk_unsynced',
        `a sync takes ${(sync * 1000).toFixed(0)} µs: no disk is that fast, so it is not done`,
        'no eatmydata, and no disk cache that lies',
      ),
    )
  else if (sync > SLOW_SYNC_MS)
    findings.push(
      weak('disk_slow', `a sync takes ${sync.toFixed(0)} ms: each token waits for one`, 'a disk with a faster sync'),
    )
  else
    findings.push(
      good(
        'disk',
        `the disk under ${dataDir} syncs in ${sync < 1 ? `${(sync * 1000).toFixed(0)} µs` : `${sync.toFixed(1)} ms`}`,
      ),
    )
  return findings
}

/** Type and options of the file system that holds `folder`; undefined where the system does not say. */
export async function mountOf(
  folder: string,
  table: () => Promise<string> = () => readFile('/proc/self/mountinfo', 'utf8'),
): Promise<{ readonly type: string; readonly options: readonly string[] } | undefined> {
  const text = await table().catch(() => '')
  let best: { readonly at: string; readonly type: string; readonly options: readonly string[] } | undefined
  for (const line of text.split('\n')) {
    // proc(5): "36 35 98:0 /root /mount opts fields - type source super-opts"
    const [before = '', after = ''] = line.split(' - ')
    const at = before
      .split(' ')[4]
      ?.replace(/\\([0-7]{3})/g, (_, code: string) => String.fromCharCode(Number.parseInt(code, 8)))
    const [type, , superOptions = ''] = after.split(' ')
    if (at === undefined || type === undefined || !`${folder}/`.startsWith(at === '/' ? '/' : `${at}/`)) continue
    // The last of equal ones is mounted over the others.
    if (!best || at.length >= best.at.length)
      best = { at, type, options: [...(before.split(' ')[5] ?? '').split(','), ...superOptions.split(',')] }
  }
  return best
}

/** Median of a few syncs, in milliseconds; undefined where nothing can be written. */
async function syncTime(folder: string): Promise<number | undefined> {
  const path = join(folder, `.doctor-${process.pid}`)
  const times: number[] = []
  try {
    const file = await open(path, 'wx', 0o600)
    try {
      for (let turn = 0; turn < 7; turn++) {
        await file.write(Buffer.alloc(512, turn))
        const start = performance.now()
        await file.sync()
        times.push(performance.now() - start)
      }
    } finally {
      await file.close()
    }
  } catch {
    return undefined
  } finally {
    await rm(path, { force: true })
  }
  return times.sort((a, b) => a - b)[3]
}

const exists = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
